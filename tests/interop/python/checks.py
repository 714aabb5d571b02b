"""Runs checks one after another, and says which have passed."""

import asyncio
import os
import traceback

# Ends a check that hangs.
PATIENCE = 10

MIB = 1024 * 1024

# One, two, three and four bytes a character, the last character of all, and a zero.
UNICODE = "grüße, 你好, 👋🏽, \U0010ffff, \0."

NUMBERS = [str(number) for number in range(1000)]


class Checks:
    def __init__(self):
        self.passed = 0
        self.failed = []

    async def check(self, name, body):
        """Runs a check, and prints its name and why it failed."""
        try:
            await asyncio.wait_for(body, PATIENCE)
        except Exception:
            self.failed.append(name)
            print(f"  FAILED {name}: {traceback.format_exc()}", flush=True)
        else:
            self.passed += 1
            print(f"  ok {name}", flush=True)

    def exit_code(self, who):
        """Prints the last line."""
        print(f"{self.passed} checks with {who}, {'FAILED: ' + ', '.join(self.failed) if self.failed else 'none failed'}")
        return 0 if self.passed and not self.failed else 1


def equal(actual, expected):
    if type(actual) is not type(expected) or actual != expected:
        raise AssertionError(f"{shortened(actual)} instead of {shortened(expected)}")


async def echoes(websocket, message):
    """What is sent comes back, of the same kind."""
    await websocket.send(message)
    equal(await websocket.recv(), message)


async def messages(checks, websocket):
    """The checks that are the same for both sides."""
    for name, message in {
        "text": "hello",
        "binary": bytes(range(256)),
        "empty text": "",
        "empty binary": b"",
        "text of 1 MiB": "x" * MIB,
        "binary of 1 MiB": bytes(range(256)) * (MIB // 256),
        "UTF-8 of all lengths": UNICODE,
    }.items():
        await checks.check(name, echoes(websocket, message))
    await checks.check("1,000 messages in order", in_order(websocket))
    await checks.check("fragments", in_fragments(websocket))
    await checks.check("pong to a ping", pong(websocket))
    await checks.check("compression, or none, is agreed on", compression(websocket))


async def in_order(websocket):
    for number in NUMBERS:
        await websocket.send(number)
    equal([await websocket.recv() for _ in NUMBERS], NUMBERS)


async def in_fragments(websocket):
    await websocket.send(["frag", "ment", "s: ü"])
    equal(await websocket.recv(), "fragments: ü")
    await websocket.send([b"frag", b"ments"])
    equal(await websocket.recv(), b"fragments")


async def pong(websocket):
    seconds = await (await websocket.ping(b"are you there?"))
    assert seconds < PATIENCE


async def compression(websocket):
    names = [extension.name for extension in websocket.protocol.extensions]
    equal(names, ["permessage-deflate"] if "INTEROP_COMPRESSED" in os.environ else [])


def shortened(value):
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}.. ({len(text)})"
