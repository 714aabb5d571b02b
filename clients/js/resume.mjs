// A WebSocket whose messages survive broken connections, for browsers and Node: the peer of rxplus's resumable mode.
//
//   const socket = new ResumableSocket('wss://example.org/chat');
//   socket.on('message', (data) => console.log(data));
//   socket.send('hello');
//
// Both ends count the messages of each direction, and keep those that they have written until the other end has said how far it
// has come. After a break, the next connection goes on where the last one broke: nothing is lost, nothing comes twice, all is in
// order. If a session cannot go on, `gap` says exactly what is missing, or that nobody can know. The session lives in memory: a page
// that is loaded again is a new client.

import { NotDelivered, Outgoing, lengthOf } from './outgoing.mjs';
import { DLE, Mistake, applicationOf, isResumable, offers, parse } from './wire.mjs';

export { NotDelivered } from './outgoing.mjs';
export { SUBPROTOCOL } from './wire.mjs';

/** Another connection has the session. It says the same of a connection that this end gives up for the next one. */
const TAKEN_OVER = 4900;

/** A mistake of the peer: what 1002 is to programs that may send it. */
const MISTAKE = 4901;

/** Close codes with which a peer refuses a message: of its kind, encoding, content or length (RFC 6455, section 7.4.1). */
const REFUSALS = [1003, 1007, 1008, 1009];

/**
 * So many connections on which nothing written has arrived end a session: one message may be what breaks them all. They have to
 * break over `stuckTime` as well, since a client that comes back at once loses so many on a bad network in the blink of an eye.
 */
const STUCK = 8;

/** After so long an open connection has proven to be good. */
const PROVEN = 10_000;

const OPTIONS = {
  WebSocket: globalThis.WebSocket,
  protocols: [],
  queue: 65_536,
  window: 4_096,
  windowLength: 4 << 20,
  retryDelay: 500,
  maxRetryDelay: 30_000,
  heartbeat: 20_000,
  closeTimeout: 5_000,
  fallback: false,
  ackEvery: 128,
  ackLength: 32 << 10,
  ackDelay: 1_000,
  buffered: 1 << 20,
  stuckTime: 10_000,
};

/**
 * @typedef {import('./outgoing.mjs').Data} Data
 *
 * @typedef {object} Options
 * @property {typeof WebSocket} [WebSocket] The global one by default, which Node has from version 22 on; or that of `ws`.
 * @property {string[]} [protocols] The application's own subprotocols, the preferred one first.
 * @property {number} [queue] How many messages wait at most to be written: 65,536. `send` refuses more.
 * @property {number} [window] How many are at most written and unacknowledged: 4,096. More wait in the queue.
 * @property {number} [windowLength] The same in bytes, counting a character of text as one: 4 MiB.
 * @property {number} [retryDelay] Milliseconds before the second attempt to connect, doubled for each further one: 500.
 * @property {number} [maxRetryDelay] The longest of these: 30,000.
 * @property {number} [heartbeat] After so many milliseconds without a word the peer is asked for one, and given up after as many
 * more: 20,000. 0 for never.
 * @property {number} [closeTimeout] How many milliseconds `close` waits at most: 5,000.
 * @property {boolean} [fallback] Whether every other attempt to connect that fails offers no more than the application's own
 * subprotocols: for servers that are not rxplus's. Off, since such an attempt finds a resumable server that was merely down.
 *
 * @typedef {object} Gap Something is missing.
 * @property {number | null} missed How many of the peer's messages do not come; `null` if nobody can know.
 * @property {number} unconfirmed How many of our own were written and may have arrived or not.
 * @property {string} why `dropped` by the peer, or why the session is lost: `unknown`, `expired`, `overflow`, `evicted`, `ended`,
 * `stuck`, `taken over`, `plain`.
 *
 * @typedef {object} Events What each event comes with.
 * @property {string | ArrayBuffer} message
 * @property {Gap} gap
 * @property {{ resumed: boolean }} open
 * @property {undefined} plain
 * @property {{ code: number, reason: string }} close
 *
 * @typedef {object} Closing What `close` could not deliver.
 * @property {number} unsent Messages that have not arrived: most of them were never written.
 * @property {number} unconfirmed Messages that were written and may have arrived or not.
 */

export class ResumableSocket {
  #url;
  #options;
  /** @type {Record<string, Set<Function>>} */
  #handlers = {};
  #outgoing;
  /**
   * What the session has besides its queue. `received` is how far this end has come in the peer's messages, `told` the last such
   * position that the peer was told, `unacked` the length of what came since, `link` the number of connections so far, `stalled`
   * how many of the last of them brought nothing on, `stalledSince` when the first of those broke.
   */
  #session = null;
  /** The connection. What an older one still says is not heard. */
  #ws = null;
  /**
   * `down`; `opening`: waits for `hello`; `resuming`: for `resumed` or `lost`; `beginning`: for any answer to `new`; `up`; `plain`:
   * connected to a peer without the mode; `failed`: closes for a mistake of the peer; `closing`: everything has arrived; `closed`.
   */
  #state = 'down';
  /** The session that the server offers on this connection. */
  #offered;
  /** One `ask` at a time: a slow peer would only find a heap of them. */
  #hasAsked = false;
  /** The peer has closed for a message of ours: the first that it does not have. */
  #isRefused = false;
  /** Attempts in a row that did not open, and connections in a row that were of no use. */
  #failures = 0;
  #delays = 0;
  #upSince;
  /** Whether a position has moved on this connection. */
  #hasMoved = false;
  /** Ticks of the heartbeat since anything was heard. */
  #silence = 0;
  #timers = { ack: null, flush: null, retry: null, heartbeat: null, close: null };
  /** The promise of `close`, and its `resolve`. */
  #closing = null;

  /**
   * @param {string | URL} url
   * @param {Options} [options]
   */
  constructor(url, options = {}) {
    this.#url = url;
    this.#options = { ...OPTIONS, ...options };
    this.#outgoing = new Outgoing(this.#options);
    this.#connect();
  }

  /** The application's own subprotocol that the server chose, or an empty text. */
  get protocol() {
    return applicationOf(this.#ws?.protocol ?? '');
  }

  /**
   * Calls `handler` at each event. Returns a function that ends this.
   *
   * - `message`: a message of the peer, a text or an `ArrayBuffer`.
   * - `gap`: a {@link Gap}, between the two messages that it lies between.
   * - `open`: messages can be sent. `{ resumed }` is false if this is a new session, which knows nothing of an earlier one.
   * - `plain`: the peer has no resumable mode; `open` follows. What is written just before a break may then be lost.
   * - `close`: the connection has ended, `{ code, reason }`. Another one follows, unless you called `close()`.
   *
   * @template {keyof Events} E
   * @param {E} event
   * @param {(value: Events[E]) => void} handler
   * @returns {() => void}
   */
  on(event, handler) {
    const handlers = (this.#handlers[event] ??= new Set());
    handlers.add(handler);
    return () => handlers.delete(handler);
  }

  /**
   * Queues a message, also while there is no connection. Returns false if the queue is full or the socket closed.
   *
   * @param {Data} data Copied, if it is a buffer.
   */
  send(data) {
    return this.#push({ data }) === null;
  }

  /**
   * Queues a message. Resolves once the peer has it; otherwise rejects with {@link NotDelivered}. A peer without the mode never
   * tells: then with `unconfirmed`.
   *
   * @param {Data} data Copied, if it is a buffer.
   * @returns {Promise<void>}
   */
  sendTracked(data) {
    return new Promise((resolve, reject) => {
      const refusal = this.#push({ data, resolve, reject });
      if (refusal) reject(new NotDelivered(refusal));
    });
  }

  /**
   * Ends the session at both ends, when all that is queued has arrived, over further connections if need be.
   *
   * @returns {Promise<Closing>}
   */
  close() {
    if (!this.#closing) {
      let resolve;
      this.#closing = { promise: new Promise((done) => (resolve = done)), resolve };
      this.#timers.close = setTimeout(() => this.#finish(), this.#options.closeTimeout);
      this.#flush();
      this.#closeIfDone();
    }
    return this.#closing.promise;
  }

  #emit(event, value) {
    for (const handler of [...(this.#handlers[event] ?? [])]) {
      try {
        handler(value);
      } catch (error) {
        // The count of what was received does not depend on what a handler makes of it.
        setTimeout(() => {
          throw error;
        });
      }
    }
  }

  // ---- the connection ----

  #connect() {
    const { WebSocket, protocols, fallback, heartbeat } = this.#options;
    const isBare = fallback && this.#failures % 2 === 1;
    const ws = new WebSocket(this.#url, isBare ? protocols : offers(protocols));
    this.#ws = ws;
    this.#state = 'opening';
    this.#failures += 1;
    this.#silence = 0;
    this.#hasMoved = false;
    ws.binaryType = 'arraybuffer';
    const mine = (handle) => (event) => ws === this.#ws && handle(event);
    ws.onopen = mine(() => this.#opened());
    ws.onmessage = mine(({ data }) => this.#heard(data));
    ws.onerror = () => {}; // `close` follows
    ws.onclose = mine(({ code, reason }) => this.#broken(code, reason));
    if (heartbeat > 0) this.#timers.heartbeat ??= setInterval(() => this.#beat(), heartbeat);
  }

  #opened() {
    this.#failures = 0;
    if (isResumable(this.#ws.protocol)) return; // the server speaks first
    this.#lose('plain');
    this.#emit('plain');
    this.#session = newSession(null);
    this.#open('plain', { resumed: false });
  }

  #heard(data) {
    this.#silence = 0;
    try {
      this.#read(data);
    } catch (error) {
      if (!(error instanceof Mistake)) throw error;
      this.#state = 'failed';
      this.#ws.close(MISTAKE, error.message);
    }
  }

  /** A browser cannot ping, but it can `ask`. */
  #beat() {
    if (this.#state === 'plain') return;
    this.#silence += 1;
    if (this.#silence > 1) this.#abandon();
    else if (this.#state === 'up') this.#ask();
  }

  /** Gives up a connection on which nothing comes. Its end, should the server hear of it, is not the session's. */
  #abandon() {
    const ws = this.#ws;
    this.#broken(1006, 'the peer does not answer');
    ws.close(TAKEN_OVER);
  }

  #broken(code, reason) {
    this.#ws = null;
    for (const name of ['ack', 'flush', 'heartbeat']) this.#stop(name);
    const state = this.#state;
    this.#state = 'down';
    this.#hasAsked = false;
    this.#isRefused ||= state === 'up' && REFUSALS.includes(code);
    if (state === 'beginning') this.#session = null; // there was none
    else if (code === TAKEN_OVER) this.#lose('taken over');
    else if (state === 'plain' && (code === 1000 || code === 1001)) this.#session = null;
    else if (state === 'plain') this.#lose('plain');
    else if (state === 'up' && this.#outgoing.sent > 0 && !this.#hasMoved) this.#stall();
    this.#outgoing.loseLink();
    this.#emit('close', { code, reason });
    if (state === 'closing') this.#finish();
    if (this.#state === 'down') this.#retry();
  }

  #retry() {
    const { retryDelay, maxRetryDelay } = this.#options;
    if (this.#upSince && Date.now() - this.#upSince > PROVEN) this.#delays = 0;
    this.#upSince = null;
    const delay = Math.min(maxRetryDelay, retryDelay * 2 ** this.#delays++);
    this.#timers.retry = setTimeout(() => this.#connect(), delay * (1 + Math.random()) / 2);
    this.#closeIfDone();
  }

  // ---- what the peer says ----

  #read(data) {
    if (this.#state === 'plain') return this.#emit('message', data);
    if (this.#state === 'beginning') this.#open('up', { resumed: false });
    if (this.#state === 'closing' || this.#state === 'failed') return;
    const isMarked = typeof data === 'string' && data[0] === DLE;
    if (isMarked && data[1] !== DLE) return this.#control(parse(data));
    if (this.#state !== 'up') throw new Mistake('a payload before the session');
    this.#payload(isMarked ? data.slice(1) : data);
  }

  #payload(data) {
    const { ackEvery, ackLength, ackDelay } = this.#options;
    const session = this.#session;
    session.received += 1;
    session.unacked += lengthOf(data);
    this.#progress();
    this.#emit('message', data);
    // The handlers may have closed the socket.
    if (this.#session !== session || this.#state !== 'up') return;
    if (session.received - session.told >= ackEvery || session.unacked >= ackLength) this.#ack();
    else this.#timers.ack ??= setTimeout(() => this.#ack(), ackDelay);
  }

  #control({ verb, args }) {
    const [first, second, third] = args;
    switch (`${this.#state} ${verb}`) {
      case 'opening hello':
        this.#offered = first;
        return this.#greet();
      case 'resuming resumed':
        return this.#resume(first, second);
      case 'resuming lost':
        this.#lose(first, args.length > 1 ? { received: second, end: third } : null);
        return this.#begin();
      case 'up at':
        return this.#skip(first);
      case 'up ack':
        return this.#acknowledged(first);
      case 'up ask':
        return this.#ack();
      default:
        throw new Mistake(`${verb} while ${this.#state}`);
    }
  }

  #greet() {
    const session = this.#session;
    if (session && this.#isStuck()) this.#lose('stuck');
    if (!this.#session) return this.#begin();
    session.link += 1;
    this.#state = 'resuming';
    this.#say(`resume ${session.token} ${session.link} ${this.#told()}`);
  }

  /** Takes the offered session. Nothing is written before this is answered, so nothing can be in doubt. */
  #begin() {
    if (this.#state === 'closed') return; // by a handler of `gap`
    this.#session = newSession(this.#offered);
    this.#outgoing.begin();
    this.#state = 'beginning';
    this.#say('new');
  }

  #resume(received, next) {
    this.#outgoing.resume(received);
    this.#isRefused = false; // it was somebody else, on the way
    this.#skip(next);
    this.#told();
    this.#say(`at ${this.#outgoing.base}`);
    this.#open('up', { resumed: true });
  }

  #open(state, how) {
    if (this.#state === 'closed') return; // by a handler of `gap` or `plain`
    this.#state = state;
    this.#upSince = Date.now();
    this.#emit('open', how);
    this.#flush();
  }

  #acknowledged(position) {
    const count = this.#outgoing.acknowledge(position);
    this.#hasAsked = false;
    if (count > 0) this.#progress();
    this.#flush();
  }

  /** What lies before `position`, and has not come, does not come. */
  #skip(position) {
    const missed = position - this.#session.received;
    if (missed < 0) throw new Mistake('a position behind the last one');
    this.#session.received = position;
    if (missed > 0) this.#emit('gap', { missed, unconfirmed: 0, why: 'dropped' });
  }

  /** The session is over. With what the server still knows of it there is no doubt; without, what was written is in doubt. */
  #lose(why, known = null) {
    const session = this.#session;
    if (!session) return;
    const missed = known && known.end - session.received;
    if (missed < 0) throw new Mistake('an end before what came already');
    const unconfirmed = this.#outgoing.lose(known && known.received, this.#isRefused);
    this.#session = null;
    this.#isRefused = false;
    if (missed !== 0 || unconfirmed > 0) this.#emit('gap', { missed, unconfirmed, why });
  }

  /** The connection has brought nothing on. */
  #stall() {
    const session = this.#session;
    if (session.stalled === 0) session.stalledSince = Date.now();
    session.stalled += 1;
  }

  #isStuck() {
    const { stalled, stalledSince } = this.#session;
    return stalled >= STUCK && Date.now() - stalledSince >= this.#options.stuckTime;
  }

  /** The connection is good: a position has moved on it. */
  #progress() {
    this.#hasMoved = true;
    this.#session.stalled = 0;
    this.#delays = 0;
  }

  // ---- what this end says ----

  /** Returns why a message is not accepted, or null. */
  #push(entry) {
    if (this.#closing) return 'closed';
    if (this.#outgoing.waiting >= this.#options.queue) return 'full';
    this.#outgoing.push(entry);
    this.#flush();
    return null;
  }

  #flush() {
    const isPlain = this.#state === 'plain';
    if (!isPlain && this.#state !== 'up') return;
    this.#stop('flush');
    while (this.#outgoing.mayWrite()) {
      if (this.#ws.readyState !== 1) return; // it is about to end
      if (this.#ws.bufferedAmount >= this.#options.buffered) {
        // No event tells when there is room again.
        this.#timers.flush = setTimeout(() => this.#flush(), 20);
        break;
      }
      const data = this.#outgoing.write();
      this.#ws.send(!isPlain && typeof data === 'string' && data[0] === DLE ? DLE + data : data);
      if (isPlain) this.#outgoing.forget();
    }
    if (!isPlain && this.#outgoing.wantsAck(this.#closing)) this.#ask();
    this.#closeIfDone();
  }

  #ask() {
    if (this.#hasAsked) return;
    this.#hasAsked = true;
    this.#say('ask');
  }

  #ack() {
    this.#say(`ack ${this.#told()}`);
  }

  /** How far this end has come, which the caller tells the peer. */
  #told() {
    const session = this.#session;
    this.#stop('ack');
    session.told = session.received;
    session.unacked = 0;
    return session.received;
  }

  #say(control) {
    if (this.#ws.readyState === 1) this.#ws.send(DLE + control);
  }

  #closeIfDone() {
    if (!this.#closing || this.#outgoing.length > 0) return;
    if (this.#state === 'up' || this.#state === 'plain') {
      if (this.#state === 'up') this.#ack();
      this.#state = 'closing';
      this.#ws.close(1000);
    } else if (!this.#session && this.#state !== 'closing') {
      this.#finish();
    }
  }

  /** Nothing more happens. */
  #finish() {
    if (this.#state === 'closed') return;
    if (this.#state === 'up') this.#ack();
    this.#state = 'closed';
    for (const name of Object.keys(this.#timers)) this.#stop(name);
    const ws = this.#ws;
    this.#ws = null;
    ws?.close(1000);
    this.#closing?.resolve(this.#outgoing.end());
  }

  #stop(timer) {
    clearTimeout(this.#timers[timer]); // which ends an interval as well
    this.#timers[timer] = null;
  }
}

function newSession(token) {
  return { token, link: 1, received: 0, told: 0, unacked: 0, stalled: 0, stalledSince: 0 };
}
