// RxJS's `webSocket()`, over Node's `ws`, as a client of our server.

import { KIB, UNICODE, bytes, check, equal, numbers, summary } from './checks.mjs';
import { library } from './library.mjs';
import { Peer } from './peer.mjs';
import { Ends } from './socket.mjs';

const { WebSocket } = library('ws');
const { bufferCount, filter, firstValueFrom, map, repeat, scan, take, toArray } = library('rxjs');
const { webSocket } = library('rxjs/webSocket');

const peer = await Peer.start('server', 100);
const ends = await Ends.watch(WebSocket, peer.url);

/** A subject that sends and receives as JSON, as `webSocket()` does if it is told nothing else. */
const subject = (path, options = {}) => webSocket({ url: `${peer.url}${path}`, WebSocketCtor: WebSocket, ...options });

const untouched = { serializer: (item) => item, deserializer: ({ data }) => data, binaryType: 'arraybuffer' };

const all = (observable) => firstValueFrom(observable.pipe(toArray()));

/** A subject whose connection is open, and the subscription that keeps it so. */
const opened = (path) => new Promise((resolve) => {
  const socket = subject(path, { openObserver: { next: () => resolve({ socket, kept }) } });
  const kept = socket.subscribe();
});

/** What comes back for the items, which are pushed before there is a connection. */
function echoes(items, options) {
  const socket = subject('/echo', options);
  const received = all(socket.pipe(take(items.length)));
  items.forEach((item) => socket.next(item));
  return received;
}

await check('objects as JSON', async () => {
  const items = [{ sensor: 7, celsius: 91.5 }, ['a', null], 'text', 1];
  equal(await echoes(items), items);
});

await check('text, empty text, UTF-8, 1 MiB', async () => {
  const items = ['hello', '', UNICODE, 'x'.repeat(KIB * KIB)];
  equal(await echoes(items, untouched), items);
});

await check('binary, empty binary, 1 MiB', async () => {
  for (const item of [bytes(256), bytes(0), bytes(KIB * KIB)]) equal((await echoes([item], untouched))[0], item);
});

await check('1,000 messages in order', async () => equal(await echoes(numbers(1000)), numbers(1000)));

await check('fan-out to two subjects, the sender among them', async () => {
  const [first, second] = [await opened('/room'), await opened('/room')];
  const received = [first, second].map(({ socket }) => all(socket.pipe(take(100))));
  numbers(100).forEach((item) => first.socket.next(item));
  equal(await Promise.all(received), [numbers(100), numbers(100)]);
  [first, second].forEach(({ kept }) => kept.unsubscribe());
});

await check('operators on live data', async () => {
  const sums = subject('/feed').pipe(filter((n) => n % 2 === 0), scan((sum, n) => sum + n), bufferCount(2), take(3));
  equal(await all(sums), [[0, 2], [6, 12], [20, 30]]);
});

await check('subscribing again opens a new connection', async () => {
  const feed = subject('/feed');
  equal(await all(feed.pipe(take(3))), [0, 1, 2]);
  equal((await ends.of('/feed')).code, 1005);
  equal(await all(feed.pipe(take(3))), [0, 1, 2]);
});

await check('the end of the server completes', async () => {
  const closed = [];
  const closeObserver = { next: ({ code, wasClean }) => closed.push([code, wasClean]) };
  equal(await all(subject('/feed?count=3', { closeObserver })), [0, 1, 2]);
  equal(closed, [[1000, true]]);
});

await check('repeat() subscribes after each end', async () => {
  equal(await all(subject('/feed?count=2').pipe(repeat(3))), [0, 1, 0, 1, 0, 1]);
});

await check('multiplex: two streams over one connection', async () => {
  const socket = subject('/echo');
  const kept = socket.subscribe();
  const isOf = (name) => (item) => item.name === name;
  const stream = (name) => socket.multiplex(() => ({ name, n: 0 }), () => ({ left: name }), isOf(name));
  const received = ['a', 'b'].map((name) => all(stream(name).pipe(map(({ n }) => n), take(2))));
  const left = all(socket.pipe(filter((item) => item.left), take(2)));
  socket.next({ name: 'b', n: 1 });
  socket.next({ name: 'a', n: 2 });
  equal(await Promise.all(received), [[0, 2], [0, 1]]);
  equal((await left).map((item) => item.left).sort(), ['a', 'b']);
  kept.unsubscribe();
});

await check('code and reason of the subject', async () => {
  const { socket } = await opened('/failing');
  socket.error({ code: 4003, reason: 'fini ☂' });
  const { code, reason } = await ends.of('/failing');
  equal({ code, reason }, { code: 4003, reason: 'fini ☂' });
});

await check('code and reason of the server', async () => {
  const closed = [];
  const closeObserver = { next: ({ code, reason }) => closed.push({ code, reason }) };
  const socket = subject('/close', { ...untouched, closeObserver });
  socket.next('4002 à bientôt ☂');
  equal(await all(socket), []);
  equal(closed, [{ code: 4002, reason: 'à bientôt ☂' }]);
});

await check('a subprotocol', async () => {
  const hello = await firstValueFrom(subject('/hello', { protocol: ['other', 'rxplus.v1'] }));
  equal(hello.subprotocol, 'rxplus.v1');
});

await check('a refusal is an error', async () => {
  const outcome = await all(subject('/refused')).then(() => 'completed', ({ message }) => message);
  equal(outcome, 'Unexpected server response: 401');
});

await peer.end();
const { good, line } = summary('RxJS as a client');
console.log(line);
process.exit(good ? 0 : 1);
