// A network between a client and a server, which cuts connections at any byte, or swallows what is sent without a word.

import { connect, createServer } from 'node:net';

/** At most so many bytes go both ways together on a connection that is cut, if nothing else is asked for. */
const LONGEST = 60_000;

export class Proxy {
  /** How often a connection was cut. */
  cuts = 0;
  /** Of all new connections, the part that is cut somewhere. */
  risk = 0;
  /** After so many cuts new connections are not cut any more. */
  most = Infinity;
  /** Whether nobody gets through. */
  isDown = false;
  links = new Set();

  /** Between clients and the server at `url`. */
  static async start(url, { seed = 1, longest = LONGEST } = {}) {
    const proxy = new Proxy();
    const { hostname, port } = new URL(url);
    Object.assign(proxy, { seed, longest, target: { host: hostname, port: Number(port) } });
    proxy.server = createServer((near) => proxy.link(near));
    await new Promise((resolve) => proxy.server.listen(0, '127.0.0.1', resolve));
    proxy.url = `ws://127.0.0.1:${proxy.server.address().port}`;
    return proxy;
  }

  /** From 0 to 1, the same in each run: a counter in large steps, whose bits are mixed. It comes to all numbers of 32 bits. */
  random() {
    this.seed = (this.seed + 0x9e3779b9) | 0;
    let bits = Math.imul(this.seed ^ (this.seed >>> 16), 0x85ebca6b);
    bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
    return ((bits ^ (bits >>> 16)) >>> 0) / 2 ** 32;
  }

  link(near) {
    if (this.isDown) return near.destroy();
    const far = connect(this.target);
    const isCut = this.cuts < this.most && this.random() < this.risk;
    const left = isCut ? this.random() * this.longest : Infinity;
    const link = { near, far, left: Math.floor(left), swallows: false };
    this.links.add(link);
    for (const [from, to] of [[near, far], [far, near]]) {
      from.on('data', (bytes) => this.pass(link, to, bytes));
      from.on('error', () => this.end(link));
      from.on('close', () => this.end(link));
    }
  }

  pass(link, to, bytes) {
    if (link.swallows) return;
    const some = bytes.subarray(0, link.left);
    link.left -= some.length;
    to.write(some);
    if (link.left > 0) return;
    this.cuts += 1;
    // Once the bytes before the cut are on their way.
    setImmediate(() => this.end(link));
  }

  /** A connection that swallows stands still: its other end does not hear of its end. */
  end(link) {
    if (link.swallows) return;
    this.links.delete(link);
    link.near.destroy();
    link.far.destroy();
  }

  cut() {
    for (const link of this.links) {
      this.cuts += 1;
      link.swallows = false;
      this.end(link);
    }
  }

  /** From now on the connections that there are swallow all bytes. */
  swallow() {
    for (const link of this.links) link.swallows = true;
  }

  /** No more faults, but those that have happened. */
  calm() {
    this.risk = 0;
    for (const link of this.links) link.left = Infinity;
  }

  stop() {
    this.cut();
    this.server.close();
  }
}
