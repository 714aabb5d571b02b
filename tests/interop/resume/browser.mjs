// `clients/js` in a headless Chromium, through a network that breaks, as a client of a server with the resumable mode.
//
//   node browser.mjs SERVER [ARGUMENT]..    a program that prints its address, and sends back what it hears

import { createReadStream } from 'node:fs';
import { createServer } from 'node:http';

import { check, equal, summary } from '../javascript/checks.mjs';
import { Chromium } from '../javascript/chromium.mjs';
import { Peer } from '../javascript/peer.mjs';
import { Proxy } from './proxy.mjs';

const COUNT = 5_000;
const PATIENCE = 60_000;

const CLIENT = ['resume.mjs', 'outgoing.mjs', 'wire.mjs'].map((name) => [`/${name}`, `../../../clients/js/${name}`]);
const FILES = Object.fromEntries([...CLIENT, ['/echo.mjs', './echo.mjs']]);

/** Sends the messages, and reports what came of it. */
const PAGE = `<!doctype html><script type="module">
  import { ResumableSocket } from '/resume.mjs';
  import { Echo } from '/echo.mjs';
  const socket = new ResumableSocket(decodeURIComponent(location.search.slice(1)), { retryDelay: 10, maxRetryDelay: 50 });
  const echo = new Echo(socket);
  while (echo.sent < ${COUNT}) {
    echo.send(40, 50);
    await echo.until(() => echo.sent - echo.heard < 200);
  }
  await echo.complete();
  const closing = await socket.close();
  await fetch('/done', { method: 'POST', body: JSON.stringify({ ...echo, socket: null, closing }) });
</script>`;

/** Serves the page. Resolves with its address and with what it reports. */
async function serve() {
  let report;
  const done = new Promise((resolve) => (report = resolve));
  const page = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, 'http://page');
    const type = pathname in FILES ? 'text/javascript' : 'text/html';
    response.setHeader('Content-Type', type);
    if (request.method === 'POST') {
      report(JSON.parse(Buffer.concat(await request.toArray())));
      response.end();
    } else if (pathname in FILES) {
      createReadStream(new URL(FILES[pathname], import.meta.url)).pipe(response);
    } else {
      response.end(PAGE);
    }
  });
  await new Promise((resolve) => page.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${page.address().port}/`, done };
}

const peer = await Peer.run(...process.argv.slice(2));
const proxy = await Proxy.start(peer.url);
const page = await serve();
let browser;
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => end(1));

async function end(code) {
  await browser?.end();
  process.exit(code);
}

await check('a network that cuts at any byte', async () => {
  let failed;
  const failure = new Promise((_, reject) => (failed = (why) => reject(new Error(why))));
  proxy.risk = 0.9;
  browser = new Chromium(`${page.url}?${encodeURIComponent(`${proxy.url}/echo`)}`, failed);
  const cutting = setInterval(() => (proxy.cuts < 20 ? proxy.cut() : proxy.calm()), 200);
  const { heard, sessions, resumes, gaps, mistakes, tracked, delivered, closing } = await Promise.race([page.done, failure]);
  clearInterval(cutting);
  const due = { heard: COUNT, sessions: 1, gaps: [], mistakes: [], delivered: tracked, closing: { unsent: 0, unconfirmed: 0 } };
  equal({ heard, sessions, gaps, mistakes, delivered, closing }, due);
  if (resumes < 3) throw new Error(`only ${resumes} resumes: nothing was tried`);
  console.log(`     ${proxy.cuts} cuts, ${resumes} resumes`);
  proxy.stop();
  await peer.end();
}, PATIENCE);

const { good, line } = summary('clients/js in Chromium');
console.log(line);
await end(good ? 0 : 1);
