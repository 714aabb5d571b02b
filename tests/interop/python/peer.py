"""rxplus's program (`peer/main.rs`), as the checks in Python start it."""

import asyncio
import os
from asyncio.subprocess import PIPE

# Ends a check that hangs.
PATIENCE = 10


class Peer:
    """The running program. Its address is `url`."""

    @classmethod
    async def start(cls, *args):
        self = cls()
        self.process = await asyncio.create_subprocess_exec(os.environ["INTEROP_PEER"], *args, stdin=PIPE, stdout=PIPE)
        self.url = await self.line()
        return self

    async def line(self):
        """The next line that it prints."""
        line = await asyncio.wait_for(self.process.stdout.readline(), PATIENCE)
        if not line:
            raise EOFError("the program under test has ended")
        return line.decode().strip()

    def tell(self, line):
        self.process.stdin.write(f"{line}\n".encode())

    async def end(self):
        """Ends its standard input, upon which it closes its connections and ends."""
        self.process.stdin.close()
        await self.ended()

    async def ended(self, within=PATIENCE):
        """Waits until it has ended."""
        code = await asyncio.wait_for(self.process.wait(), within)
        assert code == 0, f"the program under test ended with {code}"
