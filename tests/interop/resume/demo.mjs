// `examples/resumable` as its users see it, in Chromium: the plug is pulled, and the page says what that has cost.
//
//   node demo.mjs PROGRAM    the example

import { check, equal, pause, summary } from '../javascript/checks.mjs';
import { Chromium } from '../javascript/chromium.mjs';
import { Peer } from '../javascript/peer.mjs';

const PATIENCE = 30_000;
const PULLS = 5;

const demo = await Peer.run(process.argv[2]);
let why;
const browser = new Chromium(demo.url, (reason) => { why = reason; }, ['--remote-debugging-port=0']);

/** What stands in the rows of the table, for one of the two sockets. */
const ROWS = '[...document.querySelectorAll("[data-key]")]';
const column = (n) => browser.evaluate(`Object.fromEntries(${ROWS}.map((row) => [row.dataset.key, row.cells[${n}].textContent]))`);

/** Both columns, once this is so. */
async function until(isSo) {
  for (;;) {
    if (why) throw new Error(why);
    const [resumable, plain] = [await column(1), await column(2)];
    if (isSo(resumable, plain)) return [resumable, plain];
    await pause(50);
  }
}

const areUp = (...sides) => sides.every(({ link }) => link === 'up');
const returns = ({ resumed, again }) => (Number(resumed) || 0) + Number(again);

/** Clicks, and waits until both sockets have come back and the page takes the next click. */
async function click(...ids) {
  const before = await until(areUp);
  for (const id of ids) await browser.evaluate(`document.getElementById("${id}").click()`);
  await until((...sides) => areUp(...sides) && sides.every((side, n) => returns(side) > returns(before[n])));
  while (await browser.evaluate('plug.disabled')) await pause(50);
}

await check('both count, in both directions', async () => {
  await until((...sides) => sides.every(({ heard, received }) => heard > 0 && received > 0));
});
for (let n = 1; n <= PULLS; n += 1) await check(`the plug is pulled, ${n}`, () => click('unplug'));
await check('the plug stays out', () => click('stays', 'unplug'), PATIENCE);
await check('everything is swallowed', () => click('swallow'), PATIENCE);
await check('nothing is missing, and nothing came twice', async () => {
  const [{ sent }] = await until(areUp);
  const hasAll = ({ acknowledged, heard }) => acknowledged >= Number(sent) && heard >= Number(sent);
  const [{ missing, missingThere, twice, twiceThere, gaps, again, resumed }] = await until(hasAll);
  const none = { missing, missingThere, twice, twiceThere, gaps, again };
  equal(none, { missing: '0', missingThere: '0', twice: '0', twiceThere: '0', gaps: '0', again: '0' });
  if (resumed < PULLS + 2) throw new Error(`resumed only ${resumed} times`);
});
await check('the plain one has lost some, in both directions', async () => {
  await until((_, { missing, missingThere, again }) => missing > 0 && missingThere > 0 && again >= PULLS + 2);
});
await check('the program ends when it is asked to', async () => {
  demo.process.kill('SIGINT');
  equal((await demo.ended)[0], 0);
});
const { good, line } = summary('the page of the resumable mode');
console.log(line);
await browser.end();
demo.process.kill('SIGKILL');
process.exit(good ? 0 : 1);
