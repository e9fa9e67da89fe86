"""How much memory a transport takes before it refuses: `python -m tests.support.hungry NAME COMPRESSION URL LIMIT...`.

Connects once for each limit, says hello, reads to the end, and prints [close code, bytes by which memory has ever grown
since] for each as JSON. A process of its own, because only a peak that nothing else has reached can be seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import sys
import time
from pathlib import Path

import psutil

from collectors import transports
from collectors.transports import Closed


def peak() -> int:
    """The most that was ever resident, in bytes; on Linux of this program alone, not of what it was forked from."""
    if sys.platform == "linux":
        held = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(held.split()[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


async def main(name: str, compression: str, url: str, limits: list[int]) -> list[tuple[int, int]]:
    transports.CLOSE_SECONDS = 0.5
    found = []
    for limit in limits:
        connect = transports.load(name)
        transport = await connect(url, max_frame=limit, timeout=60, now=time.time_ns, compression=compression)
        before = psutil.Process().memory_info().rss
        await transport.send("hello")
        code = 0
        with contextlib.suppress(TimeoutError):
            while not code:
                try:
                    await asyncio.wait_for(transport.receive(), 60)
                except Closed as closed:
                    code = closed.code
        await transport.close()
        found.append((code, peak() - before))
    return found


if __name__ == "__main__":
    name, compression, url, *limits = sys.argv[1:]
    print(json.dumps(asyncio.run(main(name, compression, url, [int(limit) for limit in limits]))))
