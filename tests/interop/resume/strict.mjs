// What a server with the resumable mode says to a client that the test plays by hand, and what it does when the client errs.
//
//   node strict.mjs SERVER [ARGUMENT]..    a program that prints its address, and sends back what it hears
//
// A server that lists the mistakes at its end lists those of this client.

import { once } from 'node:events';

import { check, equal, summary } from '../javascript/checks.mjs';
import { library } from '../javascript/library.mjs';
import { Peer } from '../javascript/peer.mjs';
import { Words } from './words.mjs';

const { WebSocket } = library('ws');
const peer = await Peer.run(...process.argv.slice(2));

const DLE = '\x10';
const STRANGER = 'AAAAAAAAAAAAAAAAAAAAAA';

/** The client's end of one connection. Control messages are written with `!` in the place of DLE. */
class Link extends Words {
  static async open(path = '/echo') {
    const link = new Link();
    const offers = ['rxplus.resume.1', 'rxplus.plain'];
    link.listen(new WebSocket(`${peer.url}${path}`, offers, { perMessageDeflate: false }));
    link.end = once(link.ws, 'close').then(([code]) => code);
    const [, token, seconds] = /^!hello ([A-Za-z0-9_-]{21}[AQgw]) ([1-9][0-9]*)$/.exec(await link.next()) ?? [];
    if (!seconds) throw new Error('no hello');
    return Object.assign(link, { token });
  }

  /** With a session that has begun. */
  static async begun(path) {
    const link = await Link.open(path);
    link.say('!new');
    await link.hears('!ack 0');
    return link;
  }

  /** The next connection of this session. */
  async again(number, received, answer, path) {
    const link = await Link.open(path);
    link.say(`!resume ${this.token} ${number} ${received}`);
    await link.hears(answer);
    return Object.assign(link, { token: this.token });
  }

  terminate() {
    this.ws.terminate();
    return this.end;
  }
}

await check('no two tokens are the same', async () => {
  const [one, other] = [await Link.open(), await Link.open()];
  equal(one.token === other.token, false);
});

await check('the echo of marked and binary messages', async () => {
  const link = await Link.begun();
  link.say('a', `!${DLE}ack 9`, `!${DLE}`, new Uint8Array([0x10, 0x61]), '');
  await link.hears('a', `!${DLE}ack 9`, `!${DLE}`, new Uint8Array([0x10, 0x61]), '');
  link.say('!ask');
  await link.hears('!ack 5');
});

await check('a control message in fragments', async () => {
  const link = await Link.begun();
  link.ws.send(DLE, { fin: false });
  link.ws.send('as', { fin: false });
  link.ws.send('k', { fin: true });
  await link.hears('!ack 0');
});

await check('a resume sends what has not arrived', async () => {
  const link = await Link.begun();
  link.say('a', 'b', 'c');
  await link.hears('a', 'b', 'c');
  await link.terminate();
  const again = await link.again(2, 1, '!resumed 3 1');
  again.say('!at 3');
  await again.hears('b', 'c');
  again.say('!ack 3', 'd');
  await again.hears('d');
  await again.terminate();
  const third = await link.again(5, 4, '!resumed 4 4');
  third.say('!at 7', 'e'); // what lies between does not come
  await third.hears('e');
  third.say('!ask');
  await third.hears('!ack 8');
});

await check('a newer connection takes over, an older one does not', async () => {
  const link = await Link.begun();
  link.say('a');
  await link.hears('a');
  const third = await link.again(3, 1, '!resumed 1 1');
  equal(await link.end, 4900); // it is not to come back
  third.say('!at 1');
  for (const number of [0, 1, 2, 3]) {
    const stale = await Link.open();
    stale.say(`!resume ${link.token} ${number} 0`);
    equal(await stale.end, 4900);
  }
  third.say('b');
  await third.hears('b');
});

await check('a break before at leaves everything as it was', async () => {
  const link = await Link.begun();
  link.say('a', 'b');
  await link.hears('a', 'b');
  await link.terminate();
  for (const number of [2, 3, 4]) await (await link.again(number, 0, '!resumed 2 0')).terminate();
  const last = await link.again(5, 0, '!resumed 2 0');
  last.say('!at 2', 'c');
  await last.hears('a', 'b', 'c');
});

for (const code of [1000, 1001, 4001]) {
  await check(`a closing handshake with ${code} ends the session, and its numbers are known`, async () => {
    const link = await Link.begun();
    link.say('a', 'b');
    await link.hears('a', 'b');
    link.ws.close(code);
    await link.end;
    const again = await link.again(2, 1, '!lost ended 2 2');
    again.say('!new');
    await again.hears('!ack 0');
  });
}

await check('a connection that the client gives up with 4900 does not end the session', async () => {
  const link = await Link.begun();
  link.say('a');
  await link.hears('a');
  link.ws.close(4900);
  await link.end;
  await link.again(2, 1, '!resumed 1 1');
});

await check('a session that nobody knows', async () => {
  const link = await Link.open();
  link.say(`!resume ${STRANGER} 2 7`);
  await link.hears('!lost unknown');
  link.say('!new');
  await link.hears('!ack 0');
  link.say('a');
  await link.hears('a');
});

const LONG = 'x'.repeat(200);
for (const said of [
  '!', '! ', '!ack', '!ack ', '!ack x', '!ack -1', '!ack 01', '!ack 1.0', '!ack 0 ', '!ack 0 0', '!ask 1', '!at', '!Ack 0', '!bye',
  `!${LONG}`, '!ack 2', '!at 0', '!at 9007199254740992', '!new', `!resume ${STRANGER} 2 0`, `!hello ${STRANGER} 120`, '!resumed 0 0',
  '!lost unknown', '!ack\n0',
]) {
  await check(`${JSON.stringify(said.slice(0, 30))} in a session is a mistake`, async () => {
    const link = await Link.begun();
    link.say('a');
    await link.hears('a');
    link.say(said);
    equal(await link.end, 1002);
  });
}

await check('an ack that falls is a mistake', async () => {
  const link = await Link.begun();
  link.say('a', 'b');
  await link.hears('a', 'b');
  link.say('!ack 2', '!ack 1');
  equal(await link.end, 1002);
});

for (const said of [
  'payload', '!ack 0', '!ask', '!at 0', `!hello ${STRANGER} 120`, '!resume', `!resume ${STRANGER} 2`, `!resume ${STRANGER.slice(1)}B 2 0`,
]) {
  await check(`${JSON.stringify(said)} before the session is a mistake`, async () => {
    const link = await Link.open();
    link.say(said);
    equal(await link.end, 1002);
  });
}

for (const said of ['payload', '!ack 1', '!ask', '!new', '!at 0']) {
  await check(`${JSON.stringify(said)} in place of at is a mistake`, async () => {
    const link = await Link.begun();
    link.say('a');
    await link.hears('a');
    await link.terminate();
    const again = await link.again(2, 1, '!resumed 1 1');
    again.say(said);
    equal(await again.end, 1002);
  });
}

await check('a resume beyond what was sent is a mistake', async () => {
  const link = await Link.begun();
  link.say('a');
  await link.hears('a');
  await link.terminate();
  const liar = await Link.open();
  liar.say(`!resume ${link.token} 2 2`);
  equal(await liar.end, 1002);
  await link.again(3, 1, '!resumed 1 1');
});

const { good, line } = summary(`${process.argv.slice(2).join(' ')} as a server`);
console.log(line);
process.exit(good ? 0 : 1);
