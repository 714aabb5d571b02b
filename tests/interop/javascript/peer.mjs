// rxplus's program (`peer/main.rs`), as the checks in JavaScript start it.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

/** The running program. Its address is `url`. */
export class Peer {
  static start(...args) {
    return Peer.run(process.env.INTEROP_PEER, ...args);
  }

  /** Starts another program than rxplus's, which prints its address as well. */
  static async run(program, ...args) {
    const peer = new Peer();
    peer.process = spawn(program, args.map(String), { stdio: ['pipe', 'pipe', 'inherit'] });
    peer.ended = once(peer.process, 'exit');
    peer.lines = createInterface({ input: peer.process.stdout })[Symbol.asyncIterator]();
    peer.url = await peer.line();
    return peer;
  }

  /** The next line that it prints. */
  async line() {
    const { value, done } = await this.lines.next();
    if (done) throw new Error('the program under test has ended');
    return value;
  }

  /** The next event of this kind that a client prints. */
  async event(kind) {
    for (;;) {
      const event = JSON.parse(await this.line());
      if (event.event === kind) return event;
    }
  }

  tell(line) {
    this.process.stdin.write(`${line}\n`);
  }

  /** Ends its standard input, upon which it closes its connections and ends. */
  async end() {
    this.process.stdin.end();
    const [code] = await this.ended;
    if (code !== 0) throw new Error(`the program under test ended with ${code}`);
  }
}
