// `examples/dashboard` as its users see it: in Chromium, whose page checks itself, and by RxJS. A file name as argument gets a
// picture of the page.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

import { check, equal, printTo, summary } from './checks.mjs';
import { Chromium } from './chromium.mjs';
import { library } from './library.mjs';

const { WebSocket } = library('ws');
const { filter, firstValueFrom, map, pairwise, take, toArray } = library('rxjs');
const { webSocket } = library('rxjs/webSocket');

const dashboard = spawn(process.env.INTEROP_DASHBOARD, { stdio: ['ignore', 'pipe', 'inherit'] });
const ended = once(dashboard, 'exit');
const { value: page } = await createInterface({ input: dashboard.stdout })[Symbol.asyncIterator]().next();
const url = page.replace('http', 'ws');
let why;
const browser = new Chromium(`${page}?name=ann&check`, (reason) => { why = reason; }, ['--remote-debugging-port=0', '--window-size=900,900']);

const subject = (path) => webSocket({ url: `${url}${path}`, WebSocketCtor: WebSocket });

printTo(console.log);
await check('the page has live data, draws it, and chats', async () => {
  let said;
  do {
    if (why) throw new Error(why);
    await new Promise((resolve) => setTimeout(resolve, 100));
    said = await browser.evaluate('document.title');
  } while (!/^(passed|failed)/.test(said));
  equal(said, 'passed');
});
if (process.argv[2]) {
  const { data } = await browser.ask('Page.captureScreenshot', { format: 'png' });
  writeFileSync(process.argv[2], Buffer.from(data, 'base64'));
}
await check('RxJS operators on the live data, and again after unsubscribing', async () => {
  const boiler = subject('live').pipe(map(({ newest }) => newest.boiler), filter((celsius) => celsius > 0));
  for (let round = 0; round < 2; round += 1) {
    const changes = await firstValueFrom(boiler.pipe(pairwise(), map(([a, b]) => Math.abs(a - b) < 10), take(3), toArray()));
    equal(changes, [true, true, true]);
  }
});
await check('what is said in a room is heard there in order', async () => {
  const opened = [];
  const enter = (name) => webSocket({
    url: `${url}rooms/cake?name=${name}`,
    WebSocketCtor: WebSocket,
    openObserver: { next: () => opened.push(name) },
  });
  const [tea, milk] = ['tea', 'milk'].map(enter);
  const heard = [tea, milk].map((guest) => firstValueFrom(guest.pipe(map(({ by, text }) => `${by} ${text}`), take(3), toArray())));
  while (opened.length < 2) await new Promise((resolve) => setTimeout(resolve, 10));
  ['1', '2', '3'].forEach((text) => tea.next({ text }));
  for (const texts of await Promise.all(heard)) equal(texts, ['tea 1', 'tea 2', 'tea 3']);
});
await check('everything ends together: RxJS completes with 1001, and the program ends', async () => {
  const code = new Promise((resolve) => {
    const live = webSocket({ url: `${url}live`, WebSocketCtor: WebSocket, closeObserver: { next: ({ code }) => resolve(code) } });
    live.pipe(take(1)).subscribe();
    live.subscribe({ next: () => dashboard.kill('SIGINT'), error: () => {} });
  });
  equal(await code, 1001);
  await browser.end();
  equal((await ended)[0], 0);
});
const { good, line } = summary('the dashboard');
console.log(line);
await browser.end();
dashboard.kill('SIGKILL');
process.exit(good ? 0 : 1);
