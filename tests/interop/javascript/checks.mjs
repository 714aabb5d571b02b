// Runs checks one after another, and says which have passed. Used by Node and by the page in the browser.

/** Ends a check that hangs. */
const PATIENCE = 10_000;

export const KIB = 1024;

/** One, two, three and four bytes a character, the last character of all, and a zero. */
export const UNICODE = 'grüße, 你好, 👋🏽, \u{10ffff}, \u0000.';

const failures = [];
let passed = 0;

/** Runs a check, and prints its name and why it failed. */
export async function check(name, body, patience = PATIENCE) {
  try {
    await within(patience, body());
    passed += 1;
    print(`  ok ${name}`);
  } catch (error) {
    failures.push(name);
    print(`  FAILED ${name}: ${error?.stack ?? error?.message ?? error}`);
  }
}

/** The last line, and whether all checks have passed. */
export function summary(who) {
  const failed = failures.length === 0 ? 'none failed' : `FAILED: ${failures.join(', ')}`;
  return { good: failures.length === 0 && passed > 0, line: `${passed} checks with ${who}, ${failed}` };
}

export function equal(actual, expected) {
  const [is, due] = [actual, expected].map(described);
  if (is !== due) throw new Error(`${short(is)} instead of ${short(due)}`);
}

/** Where the lines go. The page collects them. */
export let print = (line) => console.log(line);

export function printTo(sink) {
  print = sink;
}

export const bytes = (length) => Uint8Array.from({ length }, (_, index) => index % 251);

export const numbers = (count) => Array.from({ length: count }, (_, index) => `${index}`);

export const pause = (millis) => new Promise((resolve) => setTimeout(resolve, millis));

function within(millis, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing within ${millis / 1000} s`)), millis);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Binary and text differ, even if their bytes do not. */
const described = (value) => JSON.stringify(value, (_, part) => describedBinary(part)) ?? 'nothing';

function describedBinary(part) {
  const view = part instanceof ArrayBuffer ? new Uint8Array(part) : part;
  return ArrayBuffer.isView(view) ? `binary ${Array.from(view).join()}` : part;
}

const short = (text) => (text.length > 200 ? `${text.slice(0, 200)}.. (${text.length})` : text);
