// Node's `ws` as a server for our client.

import { once } from 'node:events';
import { createServer } from 'node:http';

import { KIB, UNICODE, bytes, check, equal, numbers, summary } from './checks.mjs';
import { library } from './library.mjs';
import { Peer } from './peer.mjs';
import { Socket } from './socket.mjs';

const { WebSocketServer } = library('ws');

const http = createServer().listen(0, '127.0.0.1');
await once(http, 'listening');
const address = `ws://127.0.0.1:${http.address().port}`;

/** Compresses, if the client offers it: all messages, and with reference to earlier ones. */
const server = new WebSocketServer({
  noServer: true,
  perMessageDeflate: { threshold: 0 },
  handleProtocols: (offered) => (offered.has('second') ? 'second' : false),
});
http.on('upgrade', (request, stream, head) => {
  if (request.url === '/refused') {
    stream.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 12\r\nConnection: close\r\n\r\nnot for you.');
  } else {
    server.handleUpgrade(request, stream, head, (raw) => server.emit('connection', raw));
  }
});

/** The next connection that comes. */
const accepted = async () => new Socket((await once(server, 'connection'))[0]);

/** Our client, and its first connection. */
async function connected(ping = 0, ...subprotocols) {
  const coming = accepted();
  const client = await Peer.start('client', `${address}/`, ping, ...subprotocols);
  return { client, socket: await coming, opened: await client.event('connected') };
}

const { client, socket } = await connected();
const echoes = async (message) => {
  socket.send(message);
  equal(await socket.next(), message);
};

await check('text', () => echoes('hello'));
await check('binary', () => echoes(bytes(256)));
await check('empty text', () => echoes(''));
await check('empty binary', () => echoes(bytes(0)));
await check('text of 1 MiB', () => echoes('x'.repeat(KIB * KIB)));
await check('binary of 1 MiB', () => echoes(bytes(KIB * KIB)));
await check('UTF-8 of all lengths', () => echoes(UNICODE));
const compressed = 'INTEROP_COMPRESSED' in process.env;
await check(`compression is ${compressed ? '' : 'not '}agreed on`, async () => {
  equal(socket.raw.extensions, compressed ? 'permessage-deflate' : '');
});

await check('1,000 messages in order', async () => {
  numbers(1000).forEach((message) => socket.send(message));
  equal(await socket.take(1000), numbers(1000));
});

await check('pong with the content of the ping', async () => {
  const pong = once(socket.raw, 'pong');
  socket.raw.ping('are you there?');
  equal(`${(await pong)[0]}`, 'are you there?');
});

await check('fragments, cut inside a character, with a ping between', async () => {
  const [start, rest] = [Buffer.from('ü').subarray(0, 1), Buffer.from('ü').subarray(1)];
  socket.raw.send(start, { fin: false, binary: false });
  socket.raw.ping();
  socket.raw.send(rest, { fin: true });
  equal(await socket.next(), 'ü');
});

await check('the end of the client is 1000', async () => {
  await client.end();
  equal((await socket.end()).code, 1000);
  equal((await client.event('disconnected')).code, 1000);
});

await check('an error of the client is 1011', async () => {
  const { client, socket } = await connected();
  client.tell('error');
  equal((await socket.end()).code, 1011);
  await client.end();
});

await check("the client's pings", async () => {
  const { client, socket } = await connected(100);
  socket.send('counted');
  equal(await socket.next(), 'counted');
  await once(socket.raw, 'ping'); // its pong is on its way, ahead of the close frame
  await socket.close(1000);
  equal((await client.event('disconnected')).unconfirmed, 0);
  await client.end();
});

await check('a subprotocol', async () => {
  const { client, socket, opened } = await connected(0, 'first', 'second');
  equal([socket.raw.protocol, opened.subprotocol], ['second', 'second']);
  await client.end();
});

await check('no subprotocol', async () => {
  const { client, socket, opened } = await connected(0, 'first');
  equal([socket.raw.protocol, opened.subprotocol], ['', null]);
  await client.end();
});

/** Ends the first connection, and returns what the client says of it when a second one works. */
async function comesBackAfter(end) {
  const { client, socket } = await connected();
  const coming = accepted();
  end(socket);
  const { code, reason } = await client.event('disconnected');
  const again = await coming;
  again.send('once more');
  equal(await again.next(), 'once more');
  await client.end();
  return { code, reason };
}

await check('reconnects after 1012', async () => {
  const said = await comesBackAfter((socket) => socket.raw.close(1012, 'redémarrage ☂'));
  equal(said, { code: 1012, reason: 'redémarrage ☂' });
});

await check('reconnects after 1000', async () => {
  equal(await comesBackAfter((socket) => socket.raw.close(1000)), { code: 1000, reason: '' });
});

await check('reconnects after a close frame without a code', async () => {
  equal(await comesBackAfter((socket) => socket.raw.close()), { code: 1005, reason: '' });
});

await check('reconnects after a connection that broke', async () => {
  equal(await comesBackAfter((socket) => socket.raw.terminate()), { code: 1006, reason: '' });
});

await check('a refusal', async () => {
  const client = await Peer.start('client', `${address}/refused`, 0);
  const { status, body } = await client.event('rejected');
  equal({ status, body }, { status: 403, body: 'not for you.' });
  await client.event('closed');
  await client.end();
});

const { good, line } = summary('ws as a server');
console.log(line);
process.exit(good ? 0 : 1);
