// A client with the resumable mode and a server with it, through a network that breaks.
//
//   node clients.mjs SERVER [ARGUMENT].. -- CLIENT [ARGUMENT]..
//
// The server prints its address and echoes. The client is called with the server's address and a count, sends so many messages, and
// prints what came of it.

import { spawn } from 'node:child_process';
import { once } from 'node:events';

import { check, equal, summary } from '../javascript/checks.mjs';
import { Peer } from '../javascript/peer.mjs';
import { Proxy } from './proxy.mjs';

const COUNT = 10_000;
const CUTS = 30;
const PATIENCE = 60_000;

const words = process.argv.slice(2);
const [server, client] = [words.slice(0, words.indexOf('--')), words.slice(words.indexOf('--') + 1)];

for (const seed of [1, 2]) {
  await check(`a network that cuts at any byte, ${seed}`, () => cutAtAnyByte(seed), PATIENCE);
}

async function cutAtAnyByte(seed) {
  const peer = await Peer.run(...server);
  // By bytes and not by time: a fast client would be done before the first cuts. All that it sends is several times more.
  const proxy = await Proxy.start(peer.url, { seed, longest: 30_000 });
  Object.assign(proxy, { risk: 1, most: CUTS });
  const { code, said } = await run([...client, `${proxy.url}/echo`, COUNT]);
  equal(code, 0);
  const { heard, sessions, resumes, gaps } = JSON.parse(said);
  equal({ heard, sessions, gaps }, { heard: COUNT, sessions: 1, gaps: [] });
  if (resumes < CUTS / 3) throw new Error(`only ${resumes} resumes: nothing was tried`);
  console.log(`     ${proxy.cuts} cuts, ${resumes} resumes`);
  proxy.stop();
  await peer.end(); // which fails if the client made mistakes
}

/** Runs a program, which is ended before the check is. */
async function run([program, ...args]) {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'], timeout: PATIENCE - 5_000 });
  const [said, [code]] = await Promise.all([child.stdout.toArray(), once(child, 'exit')]);
  return { code, said: `${Buffer.concat(said)}` };
}

const { good, line } = summary(`${client.join(' ')} as a client of ${server.join(' ')}`);
console.log(line);
process.exit(good ? 0 : 1);
