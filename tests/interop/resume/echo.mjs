// A client's side of an echo, with messages that are numbered: what comes back must be what was sent, once and in order. Used in
// Node and in a browser.

const DLE = '\x10';
const [encoder, decoder] = [new TextEncoder(), new TextDecoder()];

/** Texts, texts that look like control messages, and binary messages, of many lengths. */
export function item(number) {
  const text = `${number}${number % 50 === 0 ? 'ü'.repeat(number % 4_000) : ''}`;
  if (number % 5 === 0) return DLE + text;
  return number % 3 === 0 ? encoder.encode(text) : text;
}

/** Says how a message is not the one with this number, if it is not. */
export function difference(data, number) {
  const due = item(number);
  const isText = typeof data === 'string';
  const [is, was] = [isText ? data : decoder.decode(data), typeof due === 'string' ? due : decoder.decode(due)];
  if (isText === (typeof due === 'string') && is === was) return null;
  return `${isText ? 'text' : 'binary'} ${JSON.stringify(is.slice(0, 50))} instead of number ${number}`;
}

/** Counts what comes back to `socket`. */
export class Echo {
  sent = 0;
  heard = 0;
  tracked = 0;
  delivered = 0;
  sessions = 0;
  resumes = 0;
  gaps = [];
  mistakes = [];
  #waiting = [];

  constructor(socket) {
    this.socket = socket;
    socket.on('message', (data) => {
      const mistake = difference(data, this.heard);
      if (mistake) this.mistakes.push(mistake);
      this.heard += 1;
      this.look();
    });
    socket.on('gap', (gap) => this.gaps.push(gap));
    socket.on('open', ({ resumed }) => (resumed ? (this.resumes += 1) : (this.sessions += 1), this.look()));
  }

  send(count, share = 0) {
    for (let n = 0; n < count; n++) {
      const data = item(this.sent++);
      if (share > 0 && this.sent % share === 0) this.track(data);
      else if (!this.socket.send(data)) throw new Error('the queue is full');
    }
  }

  track(data) {
    this.tracked += 1;
    this.socket.sendTracked(data).then(() => {
      this.delivered += 1;
      this.look();
    });
  }

  /** Resolves when this is so. */
  until(isSo) {
    return new Promise((resolve) => {
      this.#waiting.push({ isSo, resolve });
      this.look();
    });
  }

  /** Resolves when all has come back. */
  complete() {
    return this.until(() => this.heard >= this.sent && this.delivered === this.tracked);
  }

  look() {
    const done = this.#waiting.filter(({ isSo }) => isSo());
    this.#waiting = this.#waiting.filter((waiting) => !done.includes(waiting));
    for (const { resolve } of done) resolve();
  }
}
