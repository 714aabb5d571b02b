"""The resumable mode in Python, over `websockets`: a second reader of the specification, on both sides.

    peer.py server [PORT]      prints its address, sends back what it hears, and ends when its standard input does
    peer.py client URL COUNT   sends so many messages to an echo, and prints what came of it
"""

import asyncio
import base64
import json
import re
import secrets
import sys
import time

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

SUBPROTOCOL = "rxplus.resume.1"
DLE = "\x10"
TAKEN_OVER = 4900
WINDOW = 500
ACK_EVERY, ACK_LENGTH, ACK_DELAY = 128, 32 * 1024, 1.0

NUMBER = "(0|[1-9][0-9]{0,15})"
TOKEN = "([A-Za-z0-9_-]{21}[AQgw])"
WHY = "(unknown|expired|overflow|evicted|ended|stuck)"
VERBS = [
    f"(hello) {TOKEN} {NUMBER}",
    "(new)",
    f"(resume) {TOKEN} {NUMBER} {NUMBER}",
    f"(resumed) {NUMBER} {NUMBER}",
    f"(at) {NUMBER}",
    f"(lost) {WHY}(?: {NUMBER} {NUMBER})?",
    f"(ack) {NUMBER}",
    "(ask)",
]


class Mistake(Exception):
    """What the other end must not say."""


def insist(is_so, why):
    if not is_so:
        raise Mistake(why)


def parse(message):
    """The verb and its arguments, numbers as numbers; or None for a payload."""
    if not isinstance(message, str) or not message.startswith(DLE) or message.startswith(DLE * 2):
        return None
    found = next(filter(None, (re.fullmatch(verb, message[1:]) for verb in VERBS)), None)
    insist(found and len(message.encode()) <= 128, f"no control message: {message!r}")
    words = [int(word) if re.fullmatch(NUMBER, word) else word for word in found.groups() if word is not None]
    insist(all(word < 2**53 for word in words if isinstance(word, int)), "too large a number")
    return words


class Session:
    """What one end keeps over all links of a session."""

    def __init__(self, token):
        self.token = token
        self.number = 1
        self.ws = None
        self.writer = None
        self.wake = asyncio.Event()
        # Outgoing: `out[0]` has the position `base`. `highest` is one past the last that was ever written.
        self.out, self.base, self.sent, self.highest, self.acked = [], 0, 0, 0, 0
        self.controls, self.has_asked = [], False
        # Incoming. `due` is when the next ack is. Nothing but `at` may follow a `resumed`.
        self.received, self.told_position, self.unacked, self.due = 0, 0, 0, None
        self.awaits_at = False

    def push(self, data):
        self.out.append(data)
        self.wake.set()

    def say(self, control):
        self.controls.append(DLE + control)
        self.wake.set()

    def link(self, ws):
        """Goes on over `ws`."""
        self.ws, self.sent, self.controls, self.has_asked, self.due = ws, 0, [], False, None
        self.writer = asyncio.create_task(self.write(ws))

    async def unlink(self):
        writer, self.writer, self.sent, self.due = self.writer, None, 0, None
        if writer:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    def told(self):
        """How far this end has come, which the caller tells the other."""
        self.told_position, self.unacked, self.due = self.received, 0, None
        return self.received

    async def write(self, ws):
        try:
            while True:
                self.wake.clear()
                if self.controls:
                    await ws.send(self.controls.pop(0))
                elif self.due is not None and self.due <= time.monotonic():
                    await ws.send(f"{DLE}ack {self.told()}")
                elif self.sent < min(len(self.out), WINDOW):
                    await ws.send(self.next())
                else:
                    if self.sent == WINDOW:
                        self.ask()
                    await self.wake.wait()
        except ConnectionClosed:
            pass  # the reader sees it, too

    def next(self):
        data = self.out[self.sent]
        self.sent += 1
        self.highest = max(self.highest, self.base + self.sent)
        return DLE + data if isinstance(data, str) and data.startswith(DLE) else data

    def ask(self):
        if not self.has_asked:
            self.has_asked = True
            self.say("ask")

    def count(self, data):
        """Counts a payload, and takes its mark away."""
        insist(not self.awaits_at, "a payload where `at` is due")
        self.received += 1
        self.unacked += len(data)
        if self.received - self.told_position >= ACK_EVERY or self.unacked >= ACK_LENGTH:
            self.ack_now()
        elif self.due is None:
            self.due = time.monotonic() + ACK_DELAY
            asyncio.get_running_loop().call_later(ACK_DELAY, self.wake.set)
        return data[1:] if isinstance(data, str) and data.startswith(DLE) else data

    def ack_now(self):
        self.due = 0
        self.wake.set()

    def at(self, position):
        insist(position >= self.received, f"goes on at {position} of {self.received}")
        gap, self.received = position - self.received, position
        return gap

    def acknowledge(self, position):
        insist(self.acked <= position <= self.base + self.sent, f"ack of {position}")
        self.settle(position)
        self.has_asked = False
        self.wake.set()

    def resume(self, position):
        """On a new link, the other end has come to `position`."""
        insist(position <= self.highest, f"claims {position} of {self.highest}")
        self.settle(position)

    def settle(self, position):
        gone = max(0, position - self.base)
        del self.out[:gone]
        self.acked, self.base, self.sent = position, self.base + gone, max(0, self.sent - gone)

    def go_on(self, verb, arguments):
        """What is the same on both sides. Returns how many messages do not come."""
        insist(verb == "at" or not self.awaits_at, f"{verb} where `at` is due")
        self.awaits_at = False
        if verb == "at":
            return self.at(*arguments)
        if verb == "ack":
            self.acknowledge(*arguments)
        elif verb == "ask":
            self.ack_now()
        else:
            raise Mistake(f"{verb} in a session")
        return 0


class Server:
    def __init__(self):
        self.sessions = {}
        self.tombstones = {}
        self.mistakes = []
        self.closing = set()

    async def greet(self, ws):
        offered = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
        session = None
        try:
            await ws.send(f"{DLE}hello {offered} 120")
            while session is None:
                session = await self.begin(ws, offered, parse(await ws.recv()))
            await self.read(ws, session)
        except ConnectionClosed:
            pass
        except Mistake as mistake:
            self.mistakes.append(str(mistake))
            await ws.close(1002, str(mistake)[:100])
        await self.leave(ws, session)

    async def begin(self, ws, offered, said):
        """The session that a client begins with, if it has one already."""
        insist(said, "a payload before the session")
        if said == ["new"]:
            session = self.sessions[offered] = Session(offered)
            session.link(ws)
            session.ack_now()
            return session
        verb, *arguments = said
        insist(verb == "resume", f"{verb} before the session")
        token, number, received = arguments
        session = self.sessions.get(token)
        if session is None:
            await ws.send(f"{DLE}lost {self.tombstones.get(token, 'unknown')}")
            return None
        if number <= session.number:
            await ws.close(TAKEN_OVER)
            return None
        return await self.take_over(ws, session, number, received)

    async def take_over(self, ws, session, number, received):
        # From here on nothing is counted on the old link.
        old, session.ws, session.number = session.ws, ws, number
        if old:
            closing = asyncio.create_task(old.close(TAKEN_OVER))
            self.closing.add(closing)
            closing.add_done_callback(self.closing.discard)
        await session.unlink()
        if session.ws is not ws:
            return None  # yet another link has come in between
        session.resume(received)
        session.link(ws)
        session.awaits_at = True
        session.say(f"resumed {session.told()} {session.base}")
        return session

    async def read(self, ws, session):
        async for message in ws:
            if session.ws is not ws:
                return  # taken over
            said = parse(message)
            if said is None:
                session.push(session.count(message))
            else:
                session.go_on(said[0], said[1:])

    async def leave(self, ws, session):
        """A break parks the session, and a closing handshake ends it."""
        if session is None or session.ws is not ws:
            return
        session.ws = None
        await session.unlink()
        if ws.close_code not in (1006, TAKEN_OVER):
            self.sessions.pop(session.token, None)
            end = session.base + len(session.out)
            self.tombstones[session.token] = f"ended {session.received} {end}"


async def server(port):
    peer = Server()
    options = {"subprotocols": [SUBPROTOCOL], "compression": None, "ping_interval": None, "max_size": 4 << 20}
    async with serve(peer.greet, "127.0.0.1", port, **options) as listening:
        print(f"ws://127.0.0.1:{listening.sockets[0].getsockname()[1]}", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    if peer.mistakes:
        print("the client made mistakes:", peer.mistakes, file=sys.stderr)
    return 1 if peer.mistakes else 0


def item(number):
    """As in `echo.mjs`."""
    text = f"{number}{'ü' * (number % 4_000) if number % 50 == 0 else ''}"
    if number % 5 == 0:
        return DLE + text
    return text.encode() if number % 3 == 0 else text


class Client:
    """Sends numbered messages, and hears them come back."""

    def __init__(self, url, count):
        self.url, self.count, self.heard = url, count, 0
        self.session, self.resumes, self.sessions, self.gaps = None, 0, 0, []

    async def run(self):
        unsent = [item(number) for number in range(self.count)]
        while True:
            try:
                if await self.on_one_link(unsent):
                    break
            except (OSError, TimeoutError, asyncio.TimeoutError, ConnectionClosed, InvalidHandshake, InvalidMessage):
                await asyncio.sleep(0.01)
        figures = {"heard": self.heard, "sessions": self.sessions, "resumes": self.resumes, "gaps": self.gaps}
        print(json.dumps(figures), flush=True)
        return 0

    async def on_one_link(self, unsent):
        """Whether all that was to be done is done."""
        options = {"subprotocols": [SUBPROTOCOL], "compression": None, "ping_interval": None, "open_timeout": 5}
        ws = await connect(self.url, **options)
        try:
            verb, offered, _ = parse(await ws.recv()) or [None] * 3
            insist(verb == "hello", f"{verb} in place of hello")
            if self.session is None:
                await self.begin(ws, offered, unsent)
            else:
                await self.resume(ws, offered)
            await self.read(ws)
            return True
        finally:
            if self.session:
                await self.session.unlink()
            ws.transport.abort()

    async def begin(self, ws, offered, unsent):
        await ws.send(f"{DLE}new")
        # Nothing is written before this is answered, so there is no doubt if it is not.
        answer = await ws.recv()
        self.session = Session(offered)
        self.session.out = list(unsent)
        self.session.link(ws)
        self.sessions += 1
        self.take(answer)

    async def resume(self, ws, offered):
        session = self.session
        session.number += 1
        await ws.send(f"{DLE}resume {session.token} {session.number} {session.told()}")
        verb, *arguments = parse(await ws.recv()) or [None]
        insist(verb == "resumed", f"{verb} {arguments} in place of resumed")
        received, following = arguments
        insist(received >= session.base, "the server went back")
        session.resume(received)
        self.note(session.at(following))
        session.told()
        await ws.send(f"{DLE}at {session.base}")
        session.link(ws)
        self.resumes += 1

    async def read(self, ws):
        while self.heard < self.count or self.session.out:
            if self.heard == self.count:
                self.session.ask()
            self.take(await ws.recv())
        await self.session.unlink()
        await ws.send(f"{DLE}ack {self.session.told()}")
        await ws.close(1000)

    def take(self, message):
        said = parse(message)
        if said is not None:
            return self.note(self.session.go_on(said[0], said[1:]))
        data = self.session.count(message)
        insist(data == item(self.heard), f"{data!r} in place of number {self.heard}")
        self.heard += 1

    def note(self, gap):
        if gap:
            self.gaps.append(gap)


def main(role, *arguments):
    if role == "server":
        return asyncio.run(server(int(arguments[0]) if arguments else 0))
    return asyncio.run(Client(arguments[0], int(arguments[1])).run())


sys.exit(main(*sys.argv[1:]))
