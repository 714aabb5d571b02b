// `examples/cluster` as its users see it, in Chromium: what is said by way of one server is heard by way of the other, and what is
// killed comes back.
//
//   node cluster.mjs PROGRAM [PICTURE]    the example, and a file for a picture of the page

import { writeFileSync } from 'node:fs';

import { check, equal, pause, summary } from '../javascript/checks.mjs';
import { Chromium } from '../javascript/chromium.mjs';
import { Peer } from '../javascript/peer.mjs';

const PATIENCE = 40_000;

const [program, picture] = process.argv.slice(2);
const cluster = await Peer.run(program);
let why;
const flags = ['--remote-debugging-port=0', '--window-size=720,680'];
const browser = new Chromium(cluster.url, (reason) => { why = reason; }, flags);

const rows = () => browser.evaluate('sides.map(({ server, heard, missing, anew }) => ({ server, ...heard, missing, anew }))');
const announced = () => browser.evaluate('announced');

/** The sockets, once this is so of all of them. */
async function until(isSo) {
  for (;;) {
    if (why) throw new Error(why);
    const sockets = (await rows()) ?? [];
    if (sockets.length === 4 && sockets.every(isSo)) return sockets;
    await pause(100);
  }
}

const isUp = ({ server }) => server === 'A' || server === 'B';
const present = () => browser.evaluate('document.querySelector("#present").textContent');

/** Waits until both servers know of four sockets on two servers. */
async function allKnowAll() {
  while ((await present()) !== '4 on 2') await pause(100);
}

const sum = (sockets, key) => sockets.reduce((sum, socket) => sum + socket[key], 0);

/** Waits until each socket has heard more of what was said by way of either server. */
async function allHearAll() {
  const before = await until(isUp);
  let n = 0;
  await until((socket) => isUp(socket) && socket.A > before[n % 4].A && socket.B > before[n++ % 4].B);
}

async function kill(name) {
  await browser.evaluate(`document.querySelector('[data-name=${name}]').click()`);
  while (await browser.evaluate(`document.querySelector('[data-name=${name}]').disabled`)) await pause(100);
}

await check('each socket hears what is said by way of either server', async () => {
  await allHearAll();
  const servers = (await until(isUp)).map(({ server }) => server).sort();
  equal(servers, ['A', 'A', 'B', 'B']);
  await allKnowAll();
}, PATIENCE);
await check('the broker is killed, and what is missing is announced', async () => {
  for (let n = 0; n < 3; n += 1) await kill('broker');
  await allHearAll();
  equal(sum(await rows(), 'anew'), 0);
  // A server announces a gap once, and each of its two sockets has it.
  while (sum(await rows(), 'missing') !== 2 * (await announced())) await pause(100);
  await allKnowAll();
}, PATIENCE);
if (picture) {
  await pause(2_000);
  const { data } = await browser.ask('Page.captureScreenshot', { format: 'png' });
  writeFileSync(picture, Buffer.from(data, 'base64'));
}
await check('a server is killed, and its sockets go to the other until it is back', async () => {
  await kill('A');
  const sockets = await until((socket) => isUp(socket));
  equal(sum(sockets, 'anew'), 2);
  // All are on B, and in fifteen seconds at most what A had told is gone.
  while ((await present()) !== '4 on 1') await pause(100);
}, PATIENCE);
await check('the program ends when it is asked to', async () => {
  cluster.process.kill('SIGINT');
  equal((await cluster.ended)[0], 0);
});

await browser.end();
const { good, line } = summary(`the page of ${program}`);
console.log(line);
process.exit(good ? 0 : 1);
