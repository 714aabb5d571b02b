// The resumable mode on a server that is not rxplus's: a strict reader of what clients say, which sends each payload back.
//
//   node server.mjs [PORT]    prints its address, and ends when its standard input does

import { randomBytes } from 'node:crypto';

import { library } from '../javascript/library.mjs';

const { WebSocketServer } = library('ws');

export const SUBPROTOCOL = 'rxplus.resume.1';
const DLE = '\x10';
const TAKEN_OVER = 4900;
const [ACK_EVERY, ACK_LENGTH, ACK_DELAY] = [128, 32 << 10, 1_000];

/** What a client must not say. */
class Mistake extends Error {}

const insist = (isSo, why) => {
  if (!isSo) throw new Mistake(why);
};

const NUMBER = '(0|[1-9][0-9]{0,15})';
const TOKEN = '([A-Za-z0-9_-]{21}[AQgw])';
const VERBS = ['(new)', `(resume) ${TOKEN} ${NUMBER} ${NUMBER}`, `(at) ${NUMBER}`, `(ack) ${NUMBER}`, '(ask)'];
const CONTROLS = VERBS.map((verb) => new RegExp(`^${DLE}${verb}$`));

/** A control message's verb and arguments, numbers as numbers. */
function parse(text) {
  const match = CONTROLS.map((control) => control.exec(text)).find(Boolean);
  insist(match && text.length <= 128, `no control message: ${JSON.stringify(text)}`);
  const [, verb, ...args] = match;
  const words = args.map((arg) => (new RegExp(`^${NUMBER}$`).test(arg) ? Number(arg) : arg));
  insist(words.every((word) => typeof word === 'string' || Number.isSafeInteger(word)), 'too large a number');
  return [verb, ...words];
}

/** One client, however often it comes back. */
class Session {
  constructor(token, ws) {
    Object.assign(this, { token, ws, link: 1, awaitsAt: false });
    Object.assign(this, { out: [], base: 0, sent: 0, highest: 0, acked: 0 }); // `out[0]` has the position `base`
    Object.assign(this, { received: 0, told: 0, unacked: 0, missed: 0, timer: null });
  }

  push(data) {
    this.out.push(data);
    this.flush();
  }

  /** Gives up the oldest that is not on the connection, as a full outbox does. */
  drop(count) {
    this.out.splice(this.sent, count, ...Array(count).fill(null));
    this.flush();
  }

  flush() {
    while (this.ws?.readyState === 1 && this.sent < this.out.length) {
      const data = this.out[this.sent];
      // What is dropped is told before what comes behind it.
      if (data !== null && this.isBehindDropped()) this.say(`at ${this.base + this.sent}`);
      this.sent += 1;
      if (data !== null) this.ws.send(typeof data === 'string' && data[0] === DLE ? DLE + data : data);
      this.highest = Math.max(this.highest, this.base + this.sent);
    }
  }

  isBehindDropped() {
    return this.sent > 0 && this.out[this.sent - 1] === null;
  }

  say(control) {
    if (this.ws?.readyState === 1) this.ws.send(DLE + control);
  }

  acknowledge(position) {
    insist(position >= this.acked && position <= this.base + this.sent, `ack ${position} of ${this.base + this.sent}`);
    this.acked = position;
    const gone = Math.max(0, position - this.base);
    this.out.splice(0, gone);
    this.base += gone;
    this.sent -= gone;
  }

  ack() {
    clearTimeout(this.timer);
    [this.timer, this.told, this.unacked] = [null, this.received, 0];
    this.say(`ack ${this.received}`);
  }

  count(length) {
    this.received += 1;
    this.unacked += length;
    if (this.received - this.told >= ACK_EVERY || this.unacked >= ACK_LENGTH) this.ack();
    else this.timer ??= setTimeout(() => this.ack(), ACK_DELAY);
  }

  skip(position) {
    insist(position >= this.received, `at ${position} of ${this.received}`);
    this.missed += position - this.received;
    this.received = position;
  }

  loseLink() {
    clearTimeout(this.timer);
    [this.ws, this.timer, this.sent] = [null, null, 0];
  }
}

export class ResumableServer {
  sessions = new Map();
  /** The sessions that are over: why, how far they had come, and where their own messages ended. */
  tombstones = new Map();
  /** What clients did wrong. */
  mistakes = [];
  resumes = 0;

  /** `heard` is called with the session and each payload. */
  static async start({ port = 0, protocols = [], heard = (session, data) => session.push(data) } = {}) {
    const server = new ResumableServer();
    const names = [...protocols.map((name) => `${name}+${SUBPROTOCOL}`), SUBPROTOCOL];
    const handleProtocols = (offered) => names.find((name) => offered.has(name)) ?? false;
    server.heard = heard;
    server.ws = new WebSocketServer({ host: '127.0.0.1', port, handleProtocols, perMessageDeflate: false });
    server.ws.on('connection', (ws) => server.greet(ws));
    await new Promise((resolve) => server.ws.once('listening', resolve));
    server.url = `ws://127.0.0.1:${server.ws.address().port}`;
    return server;
  }

  greet(ws) {
    const link = { ws, offered: randomBytes(16).toString('base64url'), session: null };
    ws.on('error', () => {});
    ws.on('close', (code) => this.broken(link, code));
    ws.on('message', (bytes, isBinary) => {
      if (link.session && link.session.ws !== ws) return; // taken over
      try {
        this.read(link, isBinary ? bytes : `${bytes}`);
      } catch (error) {
        if (!(error instanceof Mistake)) throw error;
        this.mistakes.push(error.message);
        ws.close(1002, error.message.slice(0, 100));
      }
    });
    ws.send(`${DLE}hello ${link.offered} 120`);
  }

  read(link, data) {
    const isMarked = typeof data === 'string' && data[0] === DLE;
    if (isMarked && data[1] !== DLE) {
      const [verb, ...args] = parse(data);
      return link.session ? this.goOn(link.session, verb, args) : this.begin(link, verb, args);
    }
    insist(link.session && !link.session.awaitsAt, 'a payload before its time');
    link.session.count(data.length);
    this.heard(link.session, isMarked ? data.slice(1) : data);
  }

  begin(link, verb, args) {
    if (verb === 'new') {
      link.session = new Session(link.offered, link.ws);
      this.sessions.set(link.offered, link.session);
      return link.session.ack();
    }
    insist(verb === 'resume', `${verb} before the session`);
    const [token, number, received] = args;
    const session = this.sessions.get(token);
    if (!session) return link.ws.send(`${DLE}lost ${this.tombstones.get(token) ?? 'unknown'}`);
    if (number <= session.link) return link.ws.close(TAKEN_OVER);
    insist(received <= session.highest, `has received ${received} of ${session.highest}`);
    session.ws?.close(TAKEN_OVER);
    session.loseLink();
    Object.assign(session, { ws: link.ws, link: number, acked: received, sent: Math.max(0, received - session.base) });
    session.acknowledge(received);
    while (session.out[0] === null) [session.out, session.base] = [session.out.slice(1), session.base + 1];
    link.session = session;
    this.resumes += 1;
    [session.awaitsAt, session.told, session.unacked] = [true, session.received, 0];
    session.say(`resumed ${session.received} ${session.base}`);
    session.flush();
  }

  goOn(session, verb, args) {
    insist(!session.awaitsAt || verb === 'at', `${verb} where at is due`);
    session.awaitsAt = false;
    if (verb === 'at') session.skip(...args);
    else if (verb === 'ack') session.acknowledge(...args);
    else if (verb === 'ask') session.ack();
    else insist(false, `${verb} in a session`);
  }

  broken(link, code) {
    const { session, ws } = link;
    if (session?.ws !== ws) return;
    session.loseLink();
    if (code !== 1006 && code !== TAKEN_OVER) this.end(session, 'ended');
  }

  /** Ends a session, and remembers it. */
  end(session, why) {
    this.sessions.delete(session.token);
    this.tombstones.set(session.token, `${why} ${session.received} ${session.base + session.out.length}`);
    session.ws?.close(1000);
  }

  /** Forgets everything without a word, as a process that is killed. */
  stop() {
    this.ws.clients.forEach((ws) => ws.terminate());
    return new Promise((resolve) => this.ws.close(resolve));
  }
}

if (process.argv[1] === new URL(import.meta.url).pathname) {
  const server = await ResumableServer.start({ port: Number(process.argv[2] ?? 0) });
  console.log(server.url);
  process.stdin.resume().on('end', () => {
    if (server.mistakes.length > 0) console.error(`the client made mistakes: ${server.mistakes.join('; ')}`);
    process.exit(server.mistakes.length > 0 ? 1 : 0);
  });
}
