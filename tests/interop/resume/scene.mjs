// `clients/js` and a server that the test plays by hand, word for word.

import { once } from 'node:events';

import { ResumableSocket } from '../../../clients/js/resume.mjs';
import { check, equal, pause } from '../javascript/checks.mjs';
import { library } from '../javascript/library.mjs';
import { Words } from './words.mjs';

const { WebSocket, WebSocketServer } = library('ws');

export const DLE = '\x10';
/** Two sessions. */
export const [FIRST, SECOND] = ['AAAAAAAAAAAAAAAAAAAAAA', '_____________________w'];
const FAST = { WebSocket, retryDelay: 10, maxRetryDelay: 20 };

/** The server's end of one connection. Control messages are written with `!` in the place of DLE. */
class Link extends Words {
  constructor(ws) {
    super();
    this.end = once(ws, 'close').then(([code, reason]) => ({ code, reason: `${reason}` }));
    this.listen(ws);
  }

  /** What is heard before the answer to a ping, which the client sends behind all that it has to say. */
  async hearsNothing() {
    await pause(20);
    this.ws.ping();
    await once(this.ws, 'pong');
    equal(this.rest(), []);
  }
}

/** A server and a client. */
export class Scene {
  static async start(options = {}, choose = (offered) => [...offered][0] ?? false) {
    const scene = new Scene();
    const handleProtocols = (offered) => ((scene.offered = [...offered]), choose(offered));
    scene.server = new WebSocketServer({ host: '127.0.0.1', port: 0, handleProtocols, perMessageDeflate: false });
    await once(scene.server, 'listening');
    const links = [];
    scene.server.on('connection', (ws) => {
      const link = new Link(ws);
      if (scene.waiting) scene.waiting(link);
      else links.push(link);
      scene.waiting = null;
    });
    scene.link = () => (links.length > 0 ? links.shift() : new Promise((resolve) => (scene.waiting = resolve)));
    scene.socket = new ResumableSocket(`ws://127.0.0.1:${scene.server.address().port}/`, { ...FAST, ...options });
    scene.events = [];
    scene.socket.on('message', (data) => scene.events.push(data));
    scene.socket.on('gap', (gap) => scene.events.push(gap));
    return scene;
  }

  /** A session that has begun. */
  static async begun(options) {
    const scene = await Scene.start(options);
    const link = await scene.link();
    const open = new Promise((resolve) => scene.socket.on('open', resolve));
    link.say(`!hello ${FIRST} 120`);
    await link.hears('!new');
    link.say('!ack 0');
    await open;
    return { scene, link };
  }

  /** The next connection of this session, which the client wants to resume. */
  async resumed(number, received, answer) {
    const link = await this.link();
    link.say(`!hello ${SECOND} 120`);
    await link.hears(`!resume ${FIRST} ${number} ${received}`);
    link.say(answer);
    return link;
  }

  end() {
    this.socket.close();
    this.server.clients.forEach((ws) => ws.terminate());
    this.server.close();
  }
}

/** A check with a session that has begun. */
export function checkBegun(name, body, options = {}) {
  return check(name, async () => {
    const { scene, link } = await Scene.begun(options);
    try {
      await body(scene, link);
    } finally {
      scene.end();
    }
  });
}

/** `delivered`, or why not. */
export const fateOf = (promise) => promise.then(() => 'delivered', (error) => error.reason);
