// Node's `ws` as a client of our server.

import { once } from 'node:events';

import { check, equal, summary } from './checks.mjs';
import { Peer } from './peer.mjs';
import { library } from './library.mjs';
import { Socket } from './socket.mjs';
import { standardChecks } from './standard.mjs';

const { WebSocket } = library('ws');

const peer = await Peer.start('server', 100);
const open = (path) => Socket.open(WebSocket, `${peer.url}${path}`);

await standardChecks(WebSocket, peer.url);

await check('pong with the content of the ping', async () => {
  const socket = await open('/echo');
  const pong = once(socket.raw, 'pong');
  socket.raw.ping('are you there?');
  equal(`${(await pong)[0]}`, 'are you there?');
  await socket.close();
});

await check('fragments, cut inside a character, with a ping between', async () => {
  const socket = await open('/echo');
  const [start, rest] = [Buffer.from('ü').subarray(0, 1), Buffer.from('ü').subarray(1)];
  const pong = once(socket.raw, 'pong');
  socket.raw.send(start, { fin: false, binary: false });
  socket.raw.ping();
  socket.raw.send(rest, { fin: true });
  await pong;
  equal(await socket.next(), 'ü');
  await socket.close();
});

await check('a refusal has its status and its reason', async () => {
  const [, response] = await once(new WebSocket(`${peer.url}/refused`), 'unexpected-response');
  equal(response.statusCode, 401);
  equal(`${Buffer.concat(await response.toArray())}`.trim(), 'say the word');
});

await check('a text that is not UTF-8 is answered with 1007', async () => {
  const socket = await open('/echo');
  socket.raw.send(Buffer.from([0xff]), { binary: false });
  equal((await socket.end()).code, 1007);
});

await check('the end of the server is 1001', async () => {
  const sockets = await Promise.all([open('/echo'), open('/feed'), open('/room')]);
  await peer.end();
  for (const socket of sockets) equal((await socket.end()).code, 1001);
});

const { good, line } = summary('ws as a client');
console.log(line);
process.exit(good ? 0 : 1);
