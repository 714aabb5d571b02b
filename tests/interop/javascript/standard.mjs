// What every client with the browsers' WebSocket must be able to do with our server.

import { KIB, UNICODE, bytes, check, equal, numbers, pause } from './checks.mjs';
import { Ends, Socket } from './socket.mjs';

/** Runs the checks against the server at the address `server`, which pings every 100 ms. */
export async function standardChecks(WebSocket, server) {
  const open = (path, protocols) => Socket.open(WebSocket, `${server}${path}`, protocols);
  const ends = await Ends.watch(WebSocket, server);
  await messages(open);
  await streams(open);
  await handshakes(open);
  await closing(open, ends);
  await heartbeat(open, ends);
}

async function messages(open) {
  const socket = await open('/echo');
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
  await check('UTF-8 of 1 MiB', () => echoes('👋'.repeat(KIB * KIB / 4)));
  await socket.close();
}

async function streams(open) {
  await check('1,000 messages in order', async () => {
    const socket = await open('/echo');
    const sent = numbers(1000);
    sent.forEach((message) => socket.send(message));
    equal(await socket.take(1000), sent);
    await socket.close();
  });
  await check('fan-out to 5 clients, the sender among them', async () => {
    const sockets = await Promise.all(numbers(5).map(() => open('/room')));
    const sent = numbers(100);
    sent.forEach((message) => sockets[0].send(message));
    for (const socket of sockets) equal(await socket.take(100), sent);
    await Promise.all(sockets.map((socket) => socket.close()));
  });
  await check('numbers that the server sends', async () => {
    const socket = await open('/feed?count=20');
    equal(await socket.take(20), numbers(20));
    equal(await socket.end(), { code: 1000, reason: '', wasClean: true });
  });
}

async function handshakes(open) {
  /** What the client takes for agreed, and what the server does. */
  const agreed = async (offered) => {
    const socket = await open('/hello', offered);
    const { subprotocol } = JSON.parse(await socket.next());
    await socket.close();
    return [socket.raw.protocol, subprotocol];
  };
  await check('no subprotocol', async () => equal(await agreed([]), ['', null]));
  await check('the only subprotocol in common', async () => {
    equal(await agreed(['other', 'rxplus.v1']), ['rxplus.v1', 'rxplus.v1']);
  });
  await check("of two subprotocols the server's favourite", async () => {
    equal(await agreed(['rxplus.v1', 'rxplus.v2']), ['rxplus.v2', 'rxplus.v2']);
  });
  await check('compression, or none, is agreed on', async () => {
    const socket = await open('/hello');
    const { compressed } = JSON.parse(await socket.next());
    equal(/^permessage-deflate(;|$)/.test(socket.raw.extensions), compressed);
    await socket.close();
  });
  await check('refusal', async () => {
    const outcome = await open('/refused').then(() => 'opened', () => 'refused');
    equal(outcome, 'refused');
  });
}

async function closing(open, ends) {
  await check('code and reason of the client', async () => {
    const said = { code: 4001, reason: 'assez, merci: ça suffit ☂' };
    const socket = await open('/closing/with');
    equal(await socket.close(said.code, said.reason), { ...said, wasClean: true });
    const { code, reason } = await ends.of('/closing/with');
    equal({ code, reason }, said);
  });
  await check('close frame without a code', async () => {
    const socket = await open('/closing/without');
    equal((await socket.close()).code, 1005);
    equal((await ends.of('/closing/without')).code, 1005);
  });
  await check('code and reason of the server', async () => {
    const socket = await open('/close');
    socket.send('4002 à bientôt ☂');
    equal(await socket.end(), { code: 4002, reason: 'à bientôt ☂', wasClean: true });
    equal((await ends.of('/close')).code, 4002);
  });
}

/** Without pongs, nothing that the server has sent is confirmed. */
async function heartbeat(open, ends) {
  await check("the server's pings are answered", async () => {
    let unconfirmed;
    for (let wait = 400; unconfirmed !== 0 && wait < 10_000; wait *= 2) {
      const socket = await open('/heartbeat');
      socket.send('counted');
      equal(await socket.next(), 'counted');
      await pause(wait);
      await socket.close();
      ({ unconfirmed } = await ends.of('/heartbeat'));
    }
    equal(unconfirmed, 0);
  });
}
