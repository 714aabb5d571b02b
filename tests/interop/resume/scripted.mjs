// `clients/js` against a server that the test plays by hand: what it says, word for word, and what it does with what it hears.

import { check, equal, pause, summary } from '../javascript/checks.mjs';
import { library } from '../javascript/library.mjs';
import { mistakeChecks } from './mistakes.mjs';
import { DLE, FIRST, SECOND, Scene, checkBegun, fateOf } from './scene.mjs';

const { WebSocket } = library('ws');

// ---- the subprotocol ----

for (const [own, offered, chosen, application] of [
  [[], ['rxplus.resume.1', 'rxplus.plain'], 'rxplus.resume.1', ''],
  [[], ['rxplus.resume.1', 'rxplus.plain'], 'rxplus.plain', ''],
  [['a', 'b'], ['a+rxplus.resume.1', 'a', 'b+rxplus.resume.1', 'b'], 'b+rxplus.resume.1', 'b'],
  [['a', 'b'], ['a+rxplus.resume.1', 'a', 'b+rxplus.resume.1', 'b'], 'a', 'a'],
]) {
  await check(`offers for ${JSON.stringify(own)}, of which ${chosen} is chosen`, async () => {
    const scene = await Scene.start({ protocols: own }, () => chosen);
    const link = await scene.link();
    equal(scene.offered, offered);
    const open = new Promise((resolve) => scene.socket.on('open', resolve));
    link.say(...(chosen.endsWith('rxplus.resume.1') ? [`!hello ${FIRST} 120`, '!ack 0'] : []));
    await open;
    equal(scene.socket.protocol, application);
    scene.end();
  });
}

await check('a server without the mode is spoken to in plain messages', async () => {
  const scene = await Scene.start({}, () => 'rxplus.plain');
  const plain = new Promise((resolve) => scene.socket.on('plain', resolve));
  scene.socket.send(`${DLE}early`);
  const link = await scene.link();
  await plain;
  await link.hears('!early');
  equal(await fateOf(scene.socket.sendTracked('tracked')), 'unconfirmed');
  await link.hears('tracked');
  link.say('!ack 1');
  link.ws.terminate();
  const again = await scene.link();
  again.say('again');
  await pause(20);
  equal(scene.events, [`${DLE}ack 1`, { missed: null, unconfirmed: 0, why: 'plain' }, 'again']);
  equal(await scene.socket.close(), { unsent: 0, unconfirmed: 0 });
  scene.end();
});

await check('fallback offers nothing in every other attempt that fails', async () => {
  const scene = await Scene.start({ fallback: true }, () => false);
  const plain = new Promise((resolve) => scene.socket.on('plain', resolve));
  await plain; // a client fails if it offers, and nothing is chosen
  scene.end();
});

// ---- the beginning ----

await check('nothing is written before new is answered', async () => {
  const scene = await Scene.start();
  scene.socket.send('first');
  const link = await scene.link();
  await link.hearsNothing();
  link.say(`!hello ${FIRST} 120`);
  await link.hears('!new');
  await link.hearsNothing();
  link.say('!ack 0');
  await link.hears('first');
  scene.end();
});

await check('a break before new is answered leaves no session and no doubt', async () => {
  const scene = await Scene.start();
  const fate = fateOf(scene.socket.sendTracked('first'));
  const link = await scene.link();
  link.say(`!hello ${FIRST} 120`);
  await link.hears('!new');
  link.ws.terminate();
  const again = await scene.link();
  again.say(`!hello ${SECOND} 120`);
  await again.hears('!new');
  again.say('!ack 0');
  await again.hears('first', '!ask');
  again.say('!ack 1');
  equal([await fate, scene.events], ['delivered', []]);
  scene.end();
});

await check('a payload is as good an answer to new as an ack', async () => {
  const scene = await Scene.start();
  scene.socket.send('first');
  const link = await scene.link();
  link.say(`!hello ${FIRST} 120`);
  await link.hears('!new');
  link.say('greeting');
  await link.hears('first');
  equal(scene.events, ['greeting']);
  scene.end();
});

// ---- payloads ----

await checkBegun('only texts that begin with DLE are marked', async (scene, link) => {
  for (const data of ['', '!x', 'a!', '!', '!!']) scene.socket.send(data.replaceAll('!', DLE));
  scene.socket.send(new Uint8Array([0x10, 0x61]));
  scene.socket.send(5);
  await link.hears('', `!${DLE}x`, 'a!', `!${DLE}`, `!${DLE}${DLE}`, new Uint8Array([0x10, 0x61]), '5');
  link.say(`!${DLE}ack 1`, Buffer.from([0x10, 0x61]));
  link.say('!ask');
  await link.hears('!ack 2');
  equal(scene.events, [`${DLE}ack 1`, new Uint8Array([0x10, 0x61])]);
});

await checkBegun('a buffer that is written to later is sent as it was', async (scene, link) => {
  const buffer = new Uint8Array([1, 2, 3]);
  scene.socket.send(buffer.subarray(1));
  buffer.fill(9);
  await link.hears(new Uint8Array([2, 3]));
  link.ws.terminate();
  const again = await scene.resumed(2, 0, '!resumed 0 0');
  await again.hears('!at 0', new Uint8Array([2, 3]));
});

// ---- acks ----

await checkBegun('an ack comes after 128 messages', async (scene, link) => {
  for (let n = 0; n < 127; n++) link.say(`${n}`);
  await link.hearsNothing();
  link.say('127');
  await link.hears('!ack 128');
}, { ackDelay: 60_000 });

await checkBegun('an ack comes after 32 KiB', async (scene, link) => {
  link.say('x'.repeat((32 << 10) - 1));
  await link.hearsNothing();
  link.say('x');
  await link.hears('!ack 2');
  link.say('x');
  await link.hearsNothing();
}, { ackDelay: 60_000 });

await checkBegun('an ack comes after a second', async (scene, link) => {
  link.say('first');
  const begin = Date.now();
  await link.hears('!ack 1');
  if (Date.now() - begin < 900) throw new Error('too early');
});

await checkBegun('an ack comes at once if the server asks', async (scene, link) => {
  link.say('!ask', 'first', '!ask', '!ask');
  await link.hears('!ack 0', '!ack 1', '!ack 1');
});

await checkBegun('a full window asks once, and goes on with the ack', async (scene, link) => {
  for (let n = 0; n < 5; n++) scene.socket.send(`${n}`);
  await link.hears('0', '1', '!ask');
  await link.hearsNothing();
  link.say('!ack 1');
  await link.hears('2', '!ask');
  link.say('!ack 3');
  await link.hears('3', '4');
  await link.hearsNothing();
}, { window: 2 });

await checkBegun('a window is full by its length too, but takes one message of any', async (scene, link) => {
  for (const data of ['x'.repeat(100), 'a', 'b'.repeat(10), 'c']) scene.socket.send(data);
  await link.hears('x'.repeat(100), '!ask');
  await link.hearsNothing();
  link.say('!ack 1');
  await link.hears('a', '!ask');
  link.say('!ack 2');
  await link.hears('b'.repeat(10), '!ask');
  for (const data of ['d', 'e']) scene.socket.send(data.repeat(4));
  link.say('!ack 3');
  await link.hears('c', 'dddd', 'eeee');
}, { windowLength: 10 });

await checkBegun('a full queue refuses', async (scene, link) => {
  equal(['0', '1', '2', '3'].map((data) => scene.socket.send(data)), [true, true, true, false]);
  equal(await fateOf(scene.socket.sendTracked('4')), 'full');
  await link.hears('0');
}, { window: 1, queue: 2 });

// ---- a resume ----

await checkBegun('what had arrived is not sent again, and the rest is', async (scene, link) => {
  const fates = ['0', '1', '2'].map((data) => fateOf(scene.socket.sendTracked(data)));
  await link.hears('0', '!ask', '1', '2');
  link.say('a', 'b');
  await pause(20);
  link.ws.terminate();
  const again = await scene.resumed(2, 2, '!resumed 2 2');
  await again.hears('!at 2', '2', '!ask');
  again.say('!ack 3', 'c');
  equal(await Promise.all(fates), ['delivered', 'delivered', 'delivered']);
  again.ws.close(1001); // of somebody on the way: a break like any other
  const third = await scene.resumed(3, 3, '!resumed 3 3');
  await third.hears('!at 3');
  await third.hearsNothing();
  equal(scene.events, ['a', 'b', 'c']);
});

await checkBegun('a break before the answer leaves everything as it was', async (scene, link) => {
  scene.socket.send('0');
  await link.hears('0');
  link.ws.terminate();
  for (const number of [2, 3, 4]) {
    const again = await scene.link();
    if (number > 2) again.say(`!hello ${SECOND} 120`);
    if (number > 2) await again.hears(`!resume ${FIRST} ${number - 1} 0`);
    again.ws.terminate();
  }
  const last = await scene.resumed(4, 0, '!resumed 1 0');
  await last.hears('!at 1');
});

await checkBegun('gaps are told where they are', async (scene, link) => {
  link.say('a', '!at 4', 'b');
  await pause(20);
  link.ws.terminate();
  const again = await scene.resumed(2, 5, '!resumed 0 7');
  await again.hears('!at 0');
  again.say('c', '!at 8', '!ask');
  await again.hears('!ack 8');
  const dropped = (missed) => ({ missed, unconfirmed: 0, why: 'dropped' });
  equal(scene.events, ['a', dropped(3), 'b', dropped(2), 'c']);
});

// ---- a session that is lost ----

await checkBegun('what the server knows of a lost session leaves no doubt', async (scene, link) => {
  const fates = ['0', '1', '2'].map((data) => fateOf(scene.socket.sendTracked(data)));
  await link.hears('0', '!ask', '1', '2');
  link.ws.terminate();
  const again = await scene.resumed(2, 0, '!lost expired 1 5');
  await again.hears('!new');
  again.say('!ack 0');
  await again.hears('1', '2', '!ask');
  again.say('!ack 2');
  equal(await Promise.all(fates), ['delivered', 'delivered', 'delivered']);
  equal(scene.events, [{ missed: 5, unconfirmed: 0, why: 'expired' }]);
});

await checkBegun('without it, what was written is in doubt, and the rest goes on', async (scene, link) => {
  const fates = ['0', '1', '2'].map((data) => fateOf(scene.socket.sendTracked(data)));
  await link.hears('0', '!ask', '1');
  link.ws.terminate();
  const again = await scene.resumed(2, 0, '!lost unknown');
  await again.hears('!new');
  again.say('!ack 0');
  await again.hears('2', '!ask');
  again.say('!ack 1');
  equal(await Promise.all(fates), ['unconfirmed', 'unconfirmed', 'delivered']);
  equal(scene.events, [{ missed: null, unconfirmed: 2, why: 'unknown' }]);
}, { window: 2 });

/** Whether the system takes no more bytes. */
let isBlocked = false;

class Blocked extends WebSocket {
  get bufferedAmount() {
    return isBlocked ? Infinity : super.bufferedAmount;
  }
}

await checkBegun('what did not arrive before a resume, and is not yet written again, is not in doubt', async (scene, link) => {
  const fate = fateOf(scene.socket.sendTracked('0'));
  await link.hears('0', '!ask');
  isBlocked = true;
  link.ws.terminate();
  const again = await scene.resumed(2, 0, '!resumed 0 0');
  await again.hears('!at 0');
  await again.hearsNothing();
  again.ws.terminate();
  const third = await scene.resumed(3, 0, '!lost unknown');
  await third.hears('!new');
  third.say('!ack 0');
  await third.hearsNothing();
  isBlocked = false;
  await third.hears('0', '!ask');
  third.say('!ack 1');
  equal(await fate, 'delivered');
  equal(scene.events, [{ missed: null, unconfirmed: 0, why: 'unknown' }]);
}, { WebSocket: Blocked });

await checkBegun('who is taken over begins anew', async (scene, link) => {
  const fate = fateOf(scene.socket.sendTracked('0'));
  await link.hears('0');
  link.ws.close(4900);
  const again = await scene.link();
  again.say(`!hello ${SECOND} 120`);
  await again.hears('!new');
  equal(await fate, 'unconfirmed');
  equal(scene.events, [{ missed: null, unconfirmed: 1, why: 'taken over' }]);
});

await checkBegun('a message that the server closes for is not sent again', async (scene, link) => {
  const fates = ['0', 'too long', '2'].map((data) => fateOf(scene.socket.sendTracked(data)));
  await link.hears('0', '!ask', 'too long');
  link.ws.close(1009);
  const down = await scene.link();
  down.ws.terminate();
  const again = await scene.resumed(2, 0, '!lost ended 1 0');
  await again.hears('!new');
  again.say('!ack 0');
  await again.hears('2', '!ask');
  again.say('!ack 1');
  equal(await Promise.all(fates), ['delivered', 'refused', 'delivered']);
  equal(scene.events, []);
});

await checkBegun('a message that arrived before the server closed for another one is not the refused one', async (scene, link) => {
  const fates = ['0', '1'].map((data) => fateOf(scene.socket.sendTracked(data)));
  await link.hears('0', '!ask');
  link.ws.close(1009);
  const again = await scene.resumed(2, 0, '!lost ended 1 0');
  await again.hears('!new');
  again.say('!ack 0');
  await again.hears('1', '!ask');
  again.say('!ack 1');
  equal(await Promise.all(fates), ['delivered', 'delivered']);
}, { window: 1 });

await checkBegun('nothing is refused when the session goes on', async (scene, link) => {
  const fate = fateOf(scene.socket.sendTracked('0'));
  await link.hears('0', '!ask');
  link.ws.close(1009); // of somebody on the way
  const again = await scene.resumed(2, 0, '!resumed 0 0');
  await again.hears('!at 0', '0', '!ask');
  again.ws.terminate();
  const third = await scene.resumed(3, 0, '!lost expired 0 0');
  await third.hears('!new');
  third.say('!ack 0');
  await third.hears('0', '!ask');
  third.say('!ack 1');
  equal(await fate, 'delivered');
});

/** A message has been delivered, and the next one broken its first connection. Returns the fates of these and a third. */
async function poisoned(scene, link) {
  const fates = ['0', 'poison', 'kept'].map((data) => fateOf(scene.socket.sendTracked(data)));
  await link.hears('0', '!ask');
  link.say('!ack 1'); // so this connection is not counted
  await link.hears('poison');
  link.ws.terminate();
  return fates;
}

/** Lets the message break the next connections, `most` at most. Returns their number, and the one on which the client has given up. */
async function breaks(scene, most) {
  for (let count = 0; ; count++) {
    const link = await scene.link();
    link.say(`!hello ${SECOND} 120`);
    const said = await link.next();
    if (said === '!new') return { count, link };
    equal(said, `!resume ${FIRST} ${count + 2} 0`);
    link.say('!resumed 1 0');
    await link.hears('!at 1', 'poison');
    if (count === most) return { count, link };
    link.ws.terminate();
  }
}

async function goesOnWithout(scene, link, fates) {
  link.say('!ack 0');
  await link.hears('kept', '!ask');
  link.say('!ack 1');
  equal(await Promise.all(fates), ['delivered', 'unconfirmed', 'delivered']);
  equal(scene.events, [{ missed: null, unconfirmed: 1, why: 'stuck' }]);
}

await checkBegun('a message that breaks eight connections is given up', async (scene, link) => {
  const fates = await poisoned(scene, link);
  const { count, link: last } = await breaks(scene, 20);
  equal(count, 8);
  await goesOnWithout(scene, last, fates);
}, { window: 1, stuckTime: 0 });

await checkBegun('a message that breaks more of them in no time is not given up before its time', async (scene, link) => {
  const since = performance.now();
  const fates = await poisoned(scene, link);
  const { count, link: last } = await breaks(scene, Infinity);
  equal([count >= 8, performance.now() - since > 390], [true, true]); // the client counts whole milliseconds
  await goesOnWithout(scene, last, fates);
}, { window: 1, stuckTime: 400 });

await checkBegun('a bad network that breaks any number of connections within ten seconds costs no message', async (scene, link) => {
  const fates = await poisoned(scene, link);
  const { link: good } = await breaks(scene, 20);
  good.say('!ack 2');
  await good.hears('!ask', 'kept', '!ask');
  good.say('!ack 3');
  equal(await Promise.all(fates), ['delivered', 'delivered', 'delivered']);
  equal(scene.events, []);
}, { window: 1 });

await checkBegun('connections on which something arrives are not counted', async (scene, link) => {
  scene.socket.send('0');
  await link.hears('0');
  link.ws.terminate();
  for (let number = 2; number <= 11; number++) {
    const again = await scene.resumed(number, number - 2, `!resumed 0 ${number - 2}`);
    await again.hears('!at 0', '0');
    again.say('a', '!ask');
    await again.hears(`!ack ${number - 1}`);
    again.ws.terminate();
  }
  await scene.resumed(12, 10, '!resumed 0 10');
});

await checkBegun('a plain server in place of a resumable one loses the session', async (scene, link) => {
  const fate = fateOf(scene.socket.sendTracked('0'));
  await link.hears('0');
  scene.server.options.handleProtocols = () => 'rxplus.plain';
  link.ws.terminate();
  await scene.link();
  equal(await fate, 'unconfirmed');
  equal(scene.events, [{ missed: null, unconfirmed: 1, why: 'plain' }]);
});

// ---- the end ----

await checkBegun('close waits for the acks, and says the own one before', async (scene, link) => {
  link.say('a');
  scene.socket.send('0');
  await link.hears('0');
  const closed = scene.socket.close();
  equal(scene.socket.send('late'), false);
  await link.hears('!ask');
  link.say('!ack 1');
  await link.hears('!ack 1');
  equal((await link.end).code, 1000);
  equal(await closed, { unsent: 0, unconfirmed: 0 });
});

await check('close before there is a connection ends at once', async () => {
  const scene = await Scene.start();
  equal(await scene.socket.close(), { unsent: 0, unconfirmed: 0 });
  scene.end();
});

await checkBegun('close says what it could not deliver', async (scene, link) => {
  const fates = ['0', '1', '2'].map((data) => fateOf(scene.socket.sendTracked(data)));
  await link.hears('0', '!ask', '1');
  equal(await scene.socket.close(), { unsent: 1, unconfirmed: 2 });
  equal(await Promise.all(fates), ['unconfirmed', 'unconfirmed', 'closed']);
}, { window: 2, closeTimeout: 50 });

await checkBegun('a handler of gap may close', async (scene, link) => {
  const closed = new Promise((resolve) => scene.socket.on('gap', () => resolve(scene.socket.close())));
  link.ws.terminate();
  await scene.resumed(2, 0, '!lost unknown');
  equal(await closed, { unsent: 0, unconfirmed: 0 });
});

await checkBegun('a connection that is given up is closed with a code that does not end the session', async (scene, link) => {
  const again = await scene.link();
  equal((await link.end).code, 4900);
  again.say(`!hello ${SECOND} 120`);
  await again.hears(`!resume ${FIRST} 2 0`);
}, { heartbeat: 50 });

await checkBegun('a connection that answers is not given up', async (scene, link) => {
  for (let n = 0; n < 6; n++) {
    await link.hears('!ask');
    link.say('!ack 0');
  }
}, { heartbeat: 100 });

await mistakeChecks();

const { good, line } = summary('clients/js, by hand');
console.log(line);
process.exit(good ? 0 : 1);
