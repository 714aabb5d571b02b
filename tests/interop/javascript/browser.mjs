// Serves `browser.html` on 127.0.0.1 to a headless Chromium, and prints what the page reports.

import { spawn } from 'node:child_process';
import { createReadStream, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { Peer } from './peer.mjs';

/** Ends a browser that does not report. */
const PATIENCE = 90_000;

const TYPES = {
  '/browser.html': 'text/html',
  '/checks.mjs': 'text/javascript',
  '/socket.mjs': 'text/javascript',
  '/standard.mjs': 'text/javascript',
};

/** It talks to 127.0.0.1 and to nobody else. */
const WITHOUT_NETWORK = [
  '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1', '--no-proxy-server', '--disable-background-networking',
  '--disable-component-update', '--disable-default-apps', '--disable-extensions', '--disable-sync', '--no-first-run',
  '--no-default-browser-check',
];

const peer = await Peer.start('server', 100);
const profile = mkdtempSync(join(tmpdir(), 'rxplus-browser-'));
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
  const flags = [
    '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', `--user-data-dir=${profile}`,
    ...WITHOUT_NETWORK,
  ];
  browser = spawn(process.env.INTEROP_BROWSER, [...flags, url], { stdio: 'ignore', detached: true });
  browser.on('error', (error) => fail(`the browser does not start: ${error.message}`));
  browser.on('exit', (code) => fail(`the browser ended with ${code} before the page had reported`));
  setTimeout(() => fail(`the page has not reported within ${PATIENCE / 1000} s`), PATIENCE);
}

function fail(why) {
  if (!finished) console.log(`  FAILED: ${why}`);
  finish(false);
}

async function finish(good) {
  if (finished) return;
  finished = true;
  if (browser?.pid && browser.exitCode === null && browser.signalCode === null) {
    const ended = new Promise((resolve) => browser.once('exit', resolve));
    process.kill(-browser.pid, 'SIGKILL'); // its helpers are in its process group
    await ended;
  }
  rmSync(profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  await peer.end();
  process.exit(good ? 0 : 1);
}
