// What both ends say to each other, and the subprotocol by which they agree to.

/** The subprotocol of the resumable mode. An application's own subprotocol P travels as `P+rxplus.resume.1`. */
export const SUBPROTOCOL = 'rxplus.resume.1';

/** Means nothing. For handshakes that fail if none of the offered subprotocols is chosen, as a browser's do. */
const PLAIN = 'rxplus.plain';

/** Begins each control message. A text of the program that begins so travels with one more. */
export const DLE = '\x10';

/** What a peer must not say. */
export class Mistake extends Error {}

const isNumber = (text) => /^(0|[1-9][0-9]{0,15})$/.test(text) && Number.isSafeInteger(Number(text));
const isToken = (text) => /^[A-Za-z0-9_-]{21}[AQgw]$/.test(text);
const isReason = (text) => /^(unknown|expired|overflow|evicted|ended|stuck)$/.test(text);

/** The kinds of arguments that each control message of a server has. */
const VERBS = {
  hello: [[isToken, isNumber]],
  resumed: [[isNumber, isNumber]],
  lost: [[isReason], [isReason, isNumber, isNumber]],
  at: [[isNumber]],
  ack: [[isNumber]],
  ask: [[]],
};

/** Reads a control message. Its numbers come as numbers. */
export function parse(text) {
  const [verb, ...args] = text.slice(1).split(' ');
  const shapes = Object.hasOwn(VERBS, verb) ? VERBS[verb] : [];
  const fits = (shape) => shape.length === args.length && shape.every((is, index) => is(args[index]));
  if (!shapes.some(fits)) throw new Mistake('a malformed control message');
  return { verb, args: args.map((arg) => (isNumber(arg) ? Number(arg) : arg)) };
}

/** What to offer: each subprotocol of the application with the mode, then without. */
export function offers(application) {
  if (application.length === 0) return [SUBPROTOCOL, PLAIN];
  return application.flatMap((name) => [`${name}+${SUBPROTOCOL}`, name]);
}

export const isResumable = (chosen) => chosen === SUBPROTOCOL || chosen.endsWith(`+${SUBPROTOCOL}`);

/** The application's part of a chosen subprotocol, or an empty text. */
export function applicationOf(chosen) {
  if (chosen === SUBPROTOCOL || chosen === PLAIN) return '';
  return isResumable(chosen) ? chosen.slice(0, -SUBPROTOCOL.length - 1) : chosen;
}
