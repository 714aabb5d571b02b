"""Autobahn's suite (as kosoku runs it) against rxplus's server, and against its client.

Run as `autobahn.py server` or `autobahn.py client`. Sections 12 and 13 are about compression, which rxplus does not have.
"""

import asyncio
import sys
from collections import defaultdict

from kosoku import FailureError, run_fuzzingclient, run_fuzzingserver

from peer import Peer

SECTIONS = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*"]

# So many are in those sections. A suite that leaves some out has checked less.
CASE_COUNT = 301

# Ends a run that hangs: about ten times what it takes.
PATIENCE = 140


async def against_server():
    peer = await Peer.start("server")
    results = await asyncio.wait_for(run_fuzzingclient(peer.url, SECTIONS), PATIENCE)
    await peer.end()
    return results


async def against_client():
    async with run_fuzzingserver(SECTIONS, port=0) as suite:
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
    if len(results) != CASE_COUNT:
        print(f"  FAILED: {CASE_COUNT} cases were to run")
    return not cases["FAILED"] and len(results) == CASE_COUNT


def main():
    side = sys.argv[1]
    run = {"server": against_server, "client": against_client}[side]
    results = asyncio.run(results_of(run))
    sys.exit(0 if report(side, results) else 1)


main()
