"""Autobahn's suite (as kosoku runs it) against rxplus's server, and against its client.

Run as `autobahn.py server` or `autobahn.py client`. With `INTEROP_COMPRESSED` in the environment the sections are those about
compression, with `INTEROP_COUNT` messages a case, 100 if that is not set; the suite itself has 1,000. `INTEROP_CASES`, such as
`12.1.* 13.2.7`, has those cases alone run.
"""

import asyncio
import os
import sys
from collections import defaultdict

from kosoku import FailureError, run_fuzzingclient, run_fuzzingserver

from peer import Peer

COMPRESSED = "INTEROP_COMPRESSED" in os.environ
SECTIONS = ["12.*", "13.*"] if COMPRESSED else ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*"]
CASES = os.environ.get("INTEROP_CASES", "").split()

# So many are in those sections. A suite that leaves some out has checked less.
CASE_COUNT = 216 if COMPRESSED else 301

# Ends a run that hangs: about ten times what it takes.
PATIENCE = 1400 if COMPRESSED else 140


def shorten():
    """Has the cases about compression send fewer messages, and take plain ones for what they are.

    What comes back uncompressed, as a message does that gets no shorter, reaches them as `str`, which they cannot hash: a text
    as it is, and of bytes a character each.
    """
    from kosoku import _caseindex

    _caseindex.initialize_shims()
    import case12_x_x

    for case in case12_x_x.Case12_X_X + case12_x_x.Case13_X_X:
        on_message = case.onMessage
        case.COUNT = min(case.COUNT, int(os.environ.get("INTEROP_COUNT", "100")))
        case.onMessage = lambda self, message, binary, on_message=on_message: on_message(
            self, message.encode("latin-1" if binary else "utf-8") if isinstance(message, str) else message, binary
        )


async def against_server():
    peer = await Peer.start("server")
    results = await asyncio.wait_for(run_fuzzingclient(peer.url, CASES or SECTIONS), PATIENCE)
    await peer.end()
    return results


async def against_client():
    async with run_fuzzingserver(CASES or SECTIONS, port=0) as suite:
        peer = await Peer.start("cases", f"ws://{suite.address}:{suite.port}")
        results = asyncio.ensure_future(suite.get_result())
        await peer.ended(PATIENCE)
        return await results


async def results_of(run):
    try:
        return await run()
    except FailureError as failure:
        return failure.results


def report(side, results):
    """Prints what is not plainly good, and returns whether the run has passed."""
    cases = defaultdict(list)
    for result in results:
        cases["FAILED" if not result.passed else result.behavior.value].append(result)
    counts = ", ".join(f"{len(some)} {verdict}" for verdict, some in sorted(cases.items()))
    print(f"{len(results)} cases against the {side}: {counts}")
    for verdict in ["INFORMATIONAL", "NON-STRICT", "UNIMPLEMENTED"]:
        if cases[verdict]:
            print(f"  {verdict}: {' '.join(result.case_id for result in cases[verdict])}")
    for result in cases["FAILED"]:
        print(f"  FAILED {result.case_id}: {result.result} {result.result_close}")
    is_complete = len(results) > 0 if CASES else len(results) == CASE_COUNT
    if not is_complete:
        print(f"  FAILED: {CASES or CASE_COUNT} cases were to run")
    return not cases["FAILED"] and is_complete


def main():
    side = sys.argv[1]
    if COMPRESSED:
        shorten()
    run = {"server": against_server, "client": against_client}[side]
    results = asyncio.run(results_of(run))
    sys.exit(0 if report(side, results) else 1)


main()
