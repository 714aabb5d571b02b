// What is said on one connection, with `!` in the place of DLE.

import { equal } from '../javascript/checks.mjs';

const DLE = '\x10';

export class Words {
  #heard = [];
  #waiting = [];

  /** Listens to a connection of `ws`. */
  listen(ws) {
    this.ws = ws;
    ws.on('error', () => {});
    ws.on('message', (bytes, isBinary) => {
      const message = isBinary ? new Uint8Array(bytes) : `${bytes}`.replace(DLE, '!');
      const waiting = this.#waiting.shift();
      if (waiting) waiting(message);
      else this.#heard.push(message);
    });
  }

  say(...texts) {
    for (const text of texts) this.ws.send(typeof text === 'string' ? text.replace('!', DLE) : text);
  }

  next() {
    return this.#heard.length > 0 ? this.#heard.shift() : new Promise((resolve) => this.#waiting.push(resolve));
  }

  async hears(...messages) {
    for (const message of messages) equal(await this.next(), message);
  }

  /** What has come and nobody has asked for. */
  rest() {
    return this.#heard;
  }
}
