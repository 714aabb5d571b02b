// The outbound half of a session: a queue that keeps a message until the peer has it.

import { Mistake } from './wire.mjs';

/** @typedef {string | Blob | ArrayBuffer | ArrayBufferView} Data */

/** Why a tracked message was not delivered: `full`, `closed`, `refused`, or `unconfirmed` if it may have been. */
export class NotDelivered extends Error {
  /** @param {'full' | 'closed' | 'refused' | 'unconfirmed'} reason */
  constructor(reason) {
    super(`the message was not delivered: ${reason}`);
    this.name = 'NotDelivered';
    this.reason = reason;
  }
}

/**
 * The messages that are not acknowledged: those that are written on this connection, and those that wait.
 *
 *     base      base + sent                base + length
 *      | written   | waiting                    |
 */
export class Outgoing {
  #options;
  /** @type {{ data: Data, length: number, resolve?: () => void, reject?: (error: Error) => void }[]} */
  #entries = [];
  /** The position of the first of them. */
  base = 0;
  /** How many are written on this connection, and their length. */
  #sent = 0;
  #sentLength = 0;
  /** How many may have arrived: written, and the peer has not told. At least those that are sent. */
  #written = 0;
  /** The highest position that was ever written in this session: the most that a peer can claim. */
  #highest = 0;
  /** The position of the last tracked message that is written. */
  #tracked = -1;

  constructor(options) {
    this.#options = options;
  }

  get length() {
    return this.#entries.length;
  }

  /** How many are written on this connection, and unacknowledged. */
  get sent() {
    return this.#sent;
  }

  get waiting() {
    return this.#entries.length - this.#sent;
  }

  push({ data, resolve, reject }) {
    const kept = owned(data);
    this.#entries.push({ data: kept, length: lengthOf(kept), resolve, reject });
  }

  /** An empty window takes a message of any length. */
  mayWrite() {
    const { window, windowLength } = this.#options;
    if (this.waiting === 0 || this.#sent >= window) return false;
    return this.#sent === 0 || this.#sentLength + this.#entries[this.#sent].length <= windowLength;
  }

  /** The next message, which the caller writes. */
  write() {
    const { data, length, resolve } = this.#entries[this.#sent];
    if (resolve) this.#tracked = this.base + this.#sent;
    this.#sent += 1;
    this.#sentLength += length;
    this.#written = Math.max(this.#written, this.#sent);
    this.#highest = Math.max(this.#highest, this.base + this.#sent);
    return data;
  }

  /** Whether somebody waits for the peer to say how far it has come: the window is full, or a message tracked, or all of them. */
  wantsAck(isClosing) {
    if (this.#sent === 0) return false;
    return isClosing || this.#tracked >= this.base || (this.waiting > 0 && !this.mayWrite());
  }

  /** The peer has come to `position`. Returns how many messages that settles. */
  acknowledge(position) {
    if (position < this.base || position > this.base + this.#sent) throw new Mistake('an ack of what was not sent');
    return this.#settle(position);
  }

  /** On a new connection the peer has come to `position`: what was written and has not arrived will not arrive. */
  resume(position) {
    if (position < this.base || position > this.#highest) throw new Mistake('a position that was not sent');
    this.#settle(position);
    this.#written = 0;
    this.loseLink();
  }

  loseLink() {
    this.#sent = 0;
    this.#sentLength = 0;
    this.#tracked = -1;
  }

  /**
   * The session is over. The peer had come to `received`, and has refused the next message, if it `isRefused`; null if nobody knows:
   * returns how many may have arrived or not. The rest goes into the next session.
   */
  lose(received, isRefused) {
    let unconfirmed = 0;
    if (received === null) {
      unconfirmed = this.#written;
      for (const { reject } of this.#entries.splice(0, this.#written)) reject?.(new NotDelivered('unconfirmed'));
    } else {
      if (received < this.base || received > this.#highest) throw new Mistake('a position that was not sent');
      this.#settle(received);
      if (isRefused && this.#written > 0) this.#entries.shift().reject?.(new NotDelivered('refused'));
    }
    this.begin();
    return unconfirmed;
  }

  /** Positions begin anew. */
  begin() {
    this.base = 0;
    this.#written = 0;
    this.#highest = 0;
    this.loseLink();
  }

  /** A peer without the mode never tells of what is written. */
  forget() {
    this.#entries.shift().reject?.(new NotDelivered('unconfirmed'));
    this.begin();
  }

  /** Nothing is delivered any more. Returns what was not. */
  end() {
    const unconfirmed = this.#written;
    const unsent = this.#entries.length - unconfirmed;
    this.#entries.forEach(({ reject }, index) => reject?.(new NotDelivered(index < unconfirmed ? 'unconfirmed' : 'closed')));
    this.#entries = [];
    this.begin();
    return { unsent, unconfirmed };
  }

  #settle(position) {
    const gone = this.#entries.splice(0, position - this.base);
    for (const { length } of gone.slice(0, this.#sent)) this.#sentLength -= length;
    for (const { resolve } of gone) resolve?.();
    this.base = position;
    this.#sent = Math.max(0, this.#sent - gone.length);
    this.#written = Math.max(0, this.#written - gone.length);
    return gone.length;
  }
}

/** Of a text the characters, of anything else the bytes. */
export const lengthOf = (data) => (typeof data === 'string' ? data.length : (data.byteLength ?? data.size));

/** A message that stays as it is when the program writes to its buffer again: it may have to be sent once more. */
function owned(data) {
  if (data instanceof ArrayBuffer) return data.slice(0);
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice();
  return data instanceof Blob ? data : String(data);
}
