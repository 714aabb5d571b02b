// Serves `browser.html` on 127.0.0.1 to a headless Chromium, and prints what the page reports.

import { createReadStream } from 'node:fs';
import { createServer } from 'node:http';

import { Chromium } from './chromium.mjs';
import { Peer } from './peer.mjs';

/** Ends a browser that does not report. */
const PATIENCE = 90_000;

const TYPES = {
  '/browser.html': 'text/html',
  '/checks.mjs': 'text/javascript',
  '/socket.mjs': 'text/javascript',
  '/standard.mjs': 'text/javascript',
};

const peer = await Peer.start('server', 100);
let browser;
let finished = false;

const page = createServer(async (request, response) => {
  const { pathname } = new URL(request.url, 'http://page');
  if (request.method === 'POST') {
    const body = `${Buffer.concat(await request.toArray())}`;
    response.end();
    if (pathname === '/done') finish(body === 'good');
    else console.log(body);
  } else if (pathname in TYPES) {
    response.setHeader('Content-Type', TYPES[pathname]);
    createReadStream(new URL(`.${pathname}`, import.meta.url)).pipe(response);
  } else {
    response.writeHead(404).end();
  }
});
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => fail(`ended by ${signal}`));
page.listen(0, '127.0.0.1', () => {
  browse(`http://127.0.0.1:${page.address().port}/browser.html?${encodeURIComponent(peer.url)}`);
});

function browse(url) {
  browser = new Chromium(url, (why) => fail(`${why} before the page had reported`));
  setTimeout(() => fail(`the page has not reported within ${PATIENCE / 1000} s`), PATIENCE);
}

function fail(why) {
  if (!finished) console.log(`  FAILED: ${why}`);
  finish(false);
}

async function finish(good) {
  if (finished) return;
  finished = true;
  await browser?.end();
  await peer.end();
  process.exit(good ? 0 : 1);
}
