"""Python's `websockets` as a server for our client."""

import asyncio
import json
import sys
from http import HTTPStatus

from websockets.asyncio.server import serve

from checks import Checks, equal, messages
from peer import Peer


class Session:
    """The checks, and what they share: a server for our clients, and the connections that they make."""

    async def run(self):
        checks = Checks()
        self.accepted = asyncio.Queue()
        options = {"process_request": admit, "select_subprotocol": select}
        async with serve(self.hold, "127.0.0.1", 0, **options) as server:
            self.port = server.sockets[0].getsockname()[1]
            client, websocket, _ = await self.connected()
            await messages(checks, websocket)
            await checks.check("the end of the client is 1000", ends_with(1000, client, websocket))
            await checks.check("an error of the client is 1011", self.error())
            await checks.check("a subprotocol", self.subprotocol("second", "first", "second"))
            await checks.check("no subprotocol", self.subprotocol(None))
            for code, reason in [(1012, "redémarrage ☂"), (1000, ""), (4003, "encore")]:
                await checks.check(f"reconnects after {code}", self.reconnects(code, reason))
            await checks.check("reconnects after a connection that broke", self.broken())
            await checks.check("a refusal", self.refusal())
        return checks.exit_code("websockets as a server")

    async def hold(self, websocket):
        await self.accepted.put(websocket)
        await websocket.wait_closed()

    async def connected(self, *subprotocols):
        """Our client, its first connection, and what it says of it."""
        client = await Peer.start("client", f"ws://127.0.0.1:{self.port}/", "0", *subprotocols)
        websocket = await self.accepted.get()
        return client, websocket, await event(client, "connected")

    async def error(self):
        client, websocket, _ = await self.connected()
        client.tell("error")
        await ends_with(1011, client, websocket)

    async def subprotocol(self, due, *offered):
        client, websocket, opened = await self.connected(*offered)
        equal((websocket.subprotocol, opened["subprotocol"]), (due, due))
        await client.end()

    async def reconnects(self, code, reason):
        client, websocket, _ = await self.connected()
        await websocket.close(code, reason)
        await self.comes_back(client, code, reason)

    async def broken(self):
        client, websocket, _ = await self.connected()
        websocket.transport.abort()
        await self.comes_back(client, 1006, "")

    async def comes_back(self, client, code, reason):
        """The client reports the end of its connection, and its next one works."""
        end = await event(client, "disconnected")
        equal((end["code"], end["reason"]), (code, reason))
        websocket = await self.accepted.get()
        await websocket.send("once more")
        equal(await websocket.recv(), "once more")
        await client.end()

    async def refusal(self):
        client = await Peer.start("client", f"ws://127.0.0.1:{self.port}/refused", "0")
        rejected = await event(client, "rejected")
        equal((rejected["status"], rejected["body"]), (403, "not for you."))
        await event(client, "closed")
        await client.end()


def admit(connection, request):
    return connection.respond(HTTPStatus.FORBIDDEN, "not for you.") if request.path == "/refused" else None


def select(_connection, offered):
    return "second" if "second" in offered else None


async def event(client, kind):
    """The next event of this kind."""
    while True:
        event = json.loads(await client.line())
        if event["event"] == kind:
            return event


async def ends_with(code, client, websocket):
    await client.end()
    await websocket.wait_closed()
    equal(websocket.close_code, code)


sys.exit(asyncio.run(Session().run()))
