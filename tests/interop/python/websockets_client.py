"""Python's `websockets` as a client of our server."""

import asyncio
import json
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from checks import NUMBERS, Checks, equal, messages
from peer import Peer


class Session:
    """The checks, and what they share: the server under test, and the ends of its connections as it sees them."""

    async def run(self):
        checks = Checks()
        self.peer = await Peer.start("server", "100")
        self.ends = await self.open("/events")
        async with self.open("/echo") as websocket:
            await messages(checks, websocket)
        await checks.check("fan-out to 5 clients, the sender among them", self.fan_out())
        await checks.check("numbers that the server sends", self.feed())
        await checks.check("a subprotocol", self.subprotocol())
        await checks.check("code and reason of the client", self.closed_by_client())
        await checks.check("code and reason of the server", self.closed_by_server())
        await checks.check("the server's pings are answered", self.heartbeat())
        await checks.check("a refusal has its status and its reason", self.refusal())
        await checks.check("the end of the server is 1001", self.end())
        return checks.exit_code("websockets as a client")

    def open(self, path, **options):
        return connect(self.peer.url + path, **options)

    async def end_of(self, path):
        """The end of the connection on `path`."""
        while True:
            end = json.loads(await self.ends.recv())
            if end.pop("path") == path:
                return end

    async def fan_out(self):
        clients = [await self.open("/room") for _ in range(5)]
        for number in NUMBERS[:100]:
            await clients[0].send(number)
        for client in clients:
            equal([await client.recv() for _ in range(100)], NUMBERS[:100])
            await client.close()

    async def feed(self):
        async with self.open("/feed?count=20") as websocket:
            equal([number async for number in websocket], NUMBERS[:20])
            equal(websocket.close_code, 1000)

    async def subprotocol(self):
        async with self.open("/hello", subprotocols=["other", "rxplus.v1"]) as websocket:
            equal(json.loads(await websocket.recv())["subprotocol"], "rxplus.v1")
            equal(websocket.subprotocol, "rxplus.v1")

    async def closed_by_client(self):
        websocket = await self.open("/closing")
        await websocket.close(4001, "assez ☂")
        equal((websocket.close_code, websocket.close_reason), (4001, "assez ☂"))
        end = await self.end_of("/closing")
        equal((end["code"], end["reason"]), (4001, "assez ☂"))

    async def closed_by_server(self):
        websocket = await self.open("/close")
        await websocket.send("4002 à bientôt ☂")
        await expect_end(websocket)
        equal((websocket.close_code, websocket.close_reason), (4002, "à bientôt ☂"))
        equal((await self.end_of("/close"))["code"], 4002)

    async def heartbeat(self):
        """Without pongs, nothing that the server has sent is confirmed."""
        unconfirmed, wait = None, 0.4
        while unconfirmed != 0 and wait < 10:
            async with self.open("/heartbeat") as websocket:
                await websocket.send("counted")
                equal(await websocket.recv(), "counted")
                await asyncio.sleep(wait)
            unconfirmed = (await self.end_of("/heartbeat"))["unconfirmed"]
            wait *= 2
        equal(unconfirmed, 0)

    async def refusal(self):
        try:
            await self.open("/refused")
        except InvalidStatus as refused:
            equal((refused.response.status_code, refused.response.body.strip()), (401, b"say the word"))
        else:
            raise AssertionError("it was let in")

    async def end(self):
        clients = [await self.open(path) for path in ["/echo", "/room"]]
        await self.peer.end()
        for client in clients:
            await expect_end(client)
            equal(client.close_code, 1001)


async def expect_end(websocket):
    try:
        message = await websocket.recv()
    except ConnectionClosed:
        return
    raise AssertionError(f"{message!r} instead of the end")


sys.exit(asyncio.run(Session().run()))
