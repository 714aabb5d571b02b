// A headless Chromium that talks to 127.0.0.1 and to nobody else.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { library } from './library.mjs';

const { WebSocket } = library('ws');

const WITHOUT_NETWORK = [
  '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1', '--no-proxy-server', '--disable-background-networking',
  '--disable-component-update', '--disable-default-apps', '--disable-extensions', '--disable-sync', '--no-first-run',
  '--no-default-browser-check',
];

export class Chromium {
  /** Shows the page. `failed` is told why the browser does not start, or has ended. */
  constructor(url, failed, flags = []) {
    this.profile = mkdtempSync(join(tmpdir(), 'rxplus-browser-'));
    const usual = ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', `--user-data-dir=${this.profile}`];
    const all = [...usual, ...WITHOUT_NETWORK, ...flags, url];
    this.process = spawn(process.env.INTEROP_BROWSER, all, { stdio: 'ignore', detached: true });
    this.process.on('error', (error) => failed(`the browser does not start: ${error.message}`));
    this.process.on('exit', (code) => failed(`the browser ended with ${code}`));
  }

  /** One question to the page of a browser that was started with `--remote-debugging-port=0`. */
  async ask(method, params = {}) {
    const socket = new WebSocket(await this.debugger());
    await once(socket, 'open');
    socket.send(JSON.stringify({ id: 1, method, params }));
    const [answer] = await once(socket, 'message');
    socket.close();
    return JSON.parse(answer).result;
  }

  /** The value of an expression in the page. */
  async evaluate(expression) {
    const { result } = await this.ask('Runtime.evaluate', { expression, returnByValue: true });
    return result.value;
  }

  /** The address of the page for a debugger. */
  async debugger() {
    const file = join(this.profile, 'DevToolsActivePort');
    for (;;) {
      if (existsSync(file)) {
        const [port] = readFileSync(file, 'utf8').split('\n');
        const pages = await fetch(`http://127.0.0.1:${port}/json`).then((answer) => answer.json(), () => []);
        const page = pages.find(({ type }) => type === 'page');
        if (page) return page.webSocketDebuggerUrl;
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async end() {
    const { pid, exitCode, signalCode } = this.process;
    if (pid && exitCode === null && signalCode === null) {
      const ended = new Promise((resolve) => this.process.once('exit', resolve));
      process.kill(-pid, 'SIGKILL'); // its helpers are in its process group
      await ended;
    }
    rmSync(this.profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  }
}
