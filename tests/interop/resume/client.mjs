// `clients/js` as a client of a server with the resumable mode, through a network that breaks.
//
//   node client.mjs PROGRAM [ARGUMENT]..    a program that prints its address and sends back what it hears

import { ResumableSocket } from '../../../clients/js/resume.mjs';
import { check, equal, pause, summary } from '../javascript/checks.mjs';
import { library } from '../javascript/library.mjs';
import { Peer } from '../javascript/peer.mjs';
import { Echo } from './echo.mjs';
import { Proxy } from './proxy.mjs';

const { WebSocket } = library('ws');
const [program, ...args] = process.argv.slice(2);
const peer = await Peer.run(program, ...args);

/** What a socket of the test has heard, its proxy, and the socket. */
async function echo(options = {}, seed = 1) {
  const proxy = await Proxy.start(peer.url, { seed });
  const socket = new ResumableSocket(`${proxy.url}/echo`, { WebSocket, retryDelay: 10, maxRetryDelay: 50, ...options });
  return { proxy, socket, echo: new Echo(socket) };
}

/** Ends the session, of which all must have come back. */
async function allCameBack({ proxy, socket, echo }) {
  await echo.complete();
  equal([echo.mistakes.slice(0, 3), echo.gaps, echo.sessions, echo.heard], [[], [], 1, echo.sent]);
  equal(await socket.close(), { unsent: 0, unconfirmed: 0 });
  proxy.stop();
}

await check('messages of all kinds, on one connection', async () => {
  const all = await echo();
  all.echo.send(2_000, 50);
  await allCameBack(all);
  equal(all.echo.resumes, 0);
});

await check('a message of 1 MiB each way', async () => {
  const all = await echo();
  const text = 'x'.repeat(1 << 20);
  const heard = new Promise((resolve) => all.socket.on('message', resolve));
  all.socket.send(text);
  equal((await heard) === text, true);
  await all.socket.close();
  all.proxy.stop();
});

for (const seed of [1, 2, 3]) {
  await check(`a network that cuts at any byte, ${seed}`, () => cutAtAnyByte(seed), 60_000);
}

async function cutAtAnyByte(seed) {
  const all = await echo({ ackEvery: 16, window: 200 }, seed);
  const { proxy, echo: counts } = all;
  proxy.risk = 0.7;
  while (proxy.cuts < 25 || counts.resumes < 15) {
    // No faster than a server lets come back whose links break again and again.
    if (counts.sent - counts.heard < 10_000) counts.send(40, 50);
    if (proxy.random() < 0.02) proxy.cut();
    await pause(5);
  }
  proxy.calm();
  await allCameBack(all);
  console.log(`     ${counts.sent} messages, ${proxy.cuts} cuts, ${counts.resumes} resumes, ${counts.tracked} tracked`);
}

await check('a connection that swallows everything is given up', async () => {
  const all = await echo({ heartbeat: 200 });
  all.echo.send(10);
  await all.echo.complete();
  all.proxy.swallow();
  all.echo.send(10, 5);
  await allCameBack(all);
  equal(all.echo.resumes, 1);
});

await check('what is sent while there is no network arrives when it is back', async () => {
  const all = await echo();
  all.echo.send(10);
  await all.echo.complete();
  all.proxy.isDown = true;
  all.proxy.cut();
  all.echo.send(100, 10);
  await pause(50);
  all.proxy.isDown = false;
  await allCameBack(all);
  equal(all.echo.resumes, 1);
});

await check('close waits for a network that is down', async () => {
  const all = await echo();
  all.echo.send(1);
  await all.echo.complete();
  all.proxy.isDown = true;
  all.proxy.cut();
  all.echo.send(5);
  const closed = all.socket.close();
  all.proxy.isDown = false;
  equal(await closed, { unsent: 0, unconfirmed: 0 });
  all.proxy.stop();
});

await check('close gives up in time', async () => {
  const all = await echo({ closeTimeout: 100 });
  all.echo.send(1, 1);
  await all.echo.complete();
  all.proxy.swallow();
  all.echo.send(2);
  all.proxy.isDown = true;
  equal(await all.socket.close(), { unsent: 0, unconfirmed: 2 });
  all.proxy.stop();
});

await check('a server that starts anew: what is in doubt is counted, the rest goes on', async () => {
  const all = await echo();
  const { echo: counts, proxy, socket } = all;
  counts.send(10, 10);
  await counts.complete();
  proxy.swallow();
  const doubtful = ['a', 'b', 'c'].map((text) => socket.sendTracked(text).catch((error) => error.reason));
  const broken = new Promise((resolve) => socket.on('close', resolve));
  proxy.isDown = true;
  proxy.cut();
  await broken;
  socket.send('kept');
  await peer.end();
  const again = await Peer.run(program, ...args, new URL(peer.url).port);
  const heard = new Promise((resolve) => socket.on('message', resolve));
  proxy.isDown = false;
  equal(await Promise.all(doubtful), ['unconfirmed', 'unconfirmed', 'unconfirmed']);
  equal(await heard, 'kept');
  equal(counts.gaps, [{ missed: null, unconfirmed: 3, why: 'unknown' }]);
  equal(counts.sessions, 2);
  await socket.close();
  proxy.stop();
  await again.end();
});

const { good, line } = summary(`clients/js as a client of ${[program, ...args].join(' ')}`);
console.log(line);
process.exit(good ? 0 : 1);
