// The WebSocket of the browsers, and of Node's `ws`, with promises.

export class Socket {
  /** Opens it; the promise is rejected if the server refuses. */
  static async open(Implementation, url, protocols = []) {
    const socket = new Socket(new Implementation(url, protocols));
    await new Promise((resolve, reject) => {
      socket.raw.addEventListener('open', resolve);
      // Node's `ws` emits nothing but an error to those who listen, and ends the program otherwise.
      socket.raw.addEventListener('error', (event) => reject(new Error(`refused: ${event.message ?? ''}`)));
    });
    return socket;
  }

  constructor(raw) {
    this.raw = raw;
    this.messages = [];
    this.waiting = [];
    raw.binaryType = 'arraybuffer';
    raw.addEventListener('message', ({ data }) => this.#arrived(data));
    this.closed = new Promise((resolve) => raw.addEventListener('close', resolve));
  }

  send(message) {
    this.raw.send(message);
  }

  /** The next message. */
  next() {
    if (this.messages.length > 0) return Promise.resolve(this.messages.shift());
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  async take(count) {
    const taken = [];
    while (taken.length < count) taken.push(await this.next());
    return taken;
  }

  /** Closes it, and returns the code and the reason that came back. */
  async close(...codeAndReason) {
    this.raw.close(...codeAndReason);
    return this.end();
  }

  /** The code and the reason of its end. */
  async end() {
    const { code, reason, wasClean } = await this.closed;
    return { code, reason, wasClean };
  }

  #arrived(data) {
    const waiting = this.waiting.shift();
    if (waiting) waiting(data);
    else this.messages.push(data);
  }
}

/** The ends of the server's connections, as it sees them. */
export class Ends {
  static async watch(Implementation, server) {
    const ends = new Ends();
    ends.socket = await Socket.open(Implementation, `${server}/events`);
    return ends;
  }

  /** The end of the connection on `path`. */
  async of(path) {
    for (;;) {
      const end = JSON.parse(await this.socket.next());
      if (end.path === path) return end;
    }
  }
}
