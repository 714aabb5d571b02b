// What `clients/js` does when the server errs: it closes with 4901, and comes back.

import { check, equal } from '../javascript/checks.mjs';
import { FIRST, SECOND, Scene, checkBegun } from './scene.mjs';

export async function mistakeChecks() {
  const LONG = 'x'.repeat(200);
  for (const said of [
    '!', '! ', '!ack', '!ack ', '!ack x', '!ack -1', '!ack 01', '!ack 1.0', '!ack 9007199254740992', '!ack 0 ', '!ack 0 0', '!ask 1',
    '!at', '!at 9007199254740992', '!Ack 0', '!bye', `!${LONG}`, `!ack ${LONG}`, '!ack 2', '!new', `!resume ${FIRST} 2 0`, `!hello ${SECOND} 120`, '!resumed 0 0',
    '!lost unknown', '!constructor', '!ack\n0',
  ]) {
    await checkBegun(`${JSON.stringify(said.slice(0, 30))} in a session is a mistake`, async (scene, link) => {
      scene.socket.send('0');
      await link.hears('0');
      link.say(said, 'a payload that is not heard any more');
      equal((await link.end).code, 4901);
      await scene.resumed(2, 0, '!resumed 1 0');
    });
  }

  await checkBegun('what goes back is a mistake', async (scene, link) => {
    link.say('a', 'b', '!at 1');
    equal((await link.end).code, 4901);
    scene.socket.send('0');
    const second = await scene.resumed(2, 2, '!resumed 0 2');
    await second.hears('!at 0', '0');
    second.say('!ack 1', '!ack 0');
    equal((await second.end).code, 4901);
    const third = await scene.resumed(3, 2, '!resumed 0 2');
    equal((await third.end).code, 4901);
    const fourth = await scene.resumed(4, 2, '!resumed 1 1');
    equal((await fourth.end).code, 4901);
    const fifth = await scene.resumed(5, 2, '!resumed 2 2');
    equal((await fifth.end).code, 4901);
    const sixth = await scene.resumed(6, 2, '!lost ended 1 1');
    equal((await sixth.end).code, 4901);
    const seventh = await scene.resumed(7, 2, '!lost ended 2 2');
    equal((await seventh.end).code, 4901);
    const last = await scene.resumed(8, 2, '!resumed 1 2');
    await last.hears('!at 1');
    equal(scene.events, ['a', 'b']);
  });

  for (const said of ['payload', '!ack 0', '!resumed 0 0', '!hello short 120', `!hello ${FIRST.slice(1)}B 120`, `!hello ${FIRST}`, `!hello ${FIRST} 1 2`, '!ask']) {
    await check(`${JSON.stringify(said)} before hello is a mistake`, async () => {
      const scene = await Scene.start();
      const link = await scene.link();
      link.say(said);
      equal((await link.end).code, 4901);
      scene.end();
    });
  }

  for (const said of ['payload', '!ack 0', `!hello ${FIRST} 120`, '!lost', '!lost why', '!lost ended 1', '!lost taken 0 0']) {
    await checkBegun(`${JSON.stringify(said)} in place of resumed is a mistake`, async (scene, link) => {
      link.ws.terminate();
      const again = await scene.resumed(2, 0, said);
      equal((await again.end).code, 4901);
    });
  }
}
