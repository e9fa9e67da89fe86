"""Proves that a backfill loses nothing and asks for nothing twice, over processes that are killed in the middle of it.

Simulated venues have traded for days; `dl backfill` brings it all into one lake, is killed by SIGKILL again and again
and begun anew, meets 429, 418, 5xx, web pages, torn answers and clocks that are seven seconds off. Then every row of
the lake is compared with what the venues had, and every request with what the lake covered when it was made. Exit code
1 where anything differs.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import aiohttp
import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file: the packages are one folder up

from collectors import exchanges
from collectors.adapters.pages import Made, Pages
from lake.layout import MANIFEST
from lake.manifest import Manifest
from market.session import Coverage, Endpoint, Polled
from market.times import DAY, HOUR, MINUTE, SECOND
from scripts import figures
from scripts.prove_rows import had, held
from simulator import market as simulated
from simulator import options, venues
from simulator.hub import Hub
from simulator.market import Book
from simulator.server import application, build

ROOT = Path(__file__).resolve().parents[1]
PARTS = (
    ("binance", "spot", ("trade", "agg_trade", "kline")), ("bybit", "linear", ("kline",)), ("okx", "spot", ("kline",)),
    ("kucoin", "spot", ("kline",)), ("kraken", "spot", ("trade",)), ("kraken", "linear", ("kline",)),
    ("coinbase", "spot", ("trade", "kline")),
)  # fmt: skip
"""What is brought in of each venue: what goes back as far as it is asked for. The last takes most requests: kills that
were left over come in time there.
"""
FAULTS: tuple[dict[str, Any], ...] = (
    {"fault": "html_200"}, {"fault": "short_body"}, {"fault": "http_status", "status": 503}, {"fault": "empty_body"},
    {"fault": "http_status", "status": 429, "retry_after": 4}, {"fault": "gzip_cut"},
    {"fault": "http_status", "status": 418, "retry_after": 6},
)  # fmt: skip
SKEWS = (7 * SECOND, -7 * SECOND)
"""How far the venues' clocks are from ours, in turn."""
SILENCES = (418, 429)
TOLERANCE = 0.5
"""Seconds: what was on its way when the venue asked for silence."""
SETTLED = 1.0
"""Seconds after such a word in which nobody is killed: it is on disk then."""
OVERLAP = 2
"""Rows of a page that may be covered already: its border, and one that shares its moment."""
FAILURES = 4
"""Runs that may end with a part that was not brought in: the next one goes on."""


class Asked(NamedTuple):
    """One request that reached a venue: when (s), what for, and what it was told."""

    came: float
    told: float
    target: str
    status: int
    body: bytes
    silence: float


class Twin:
    """One market of a simulated venue that has traded from `began` to `ended` (us), on a port."""

    def __init__(
        self, part: tuple[str, str, tuple[str, ...]], folder: Path, span: tuple[int, int], rate: float, skew: int
    ) -> None:
        self.name, self.market, self.kinds = part
        self.span = span
        self.venue = exchanges.load(self.name)
        self.asked: list[Asked] = []
        self._twin = venues.load(self.name)
        known = {name: venues.load(name).MARKETS for name in venues.names()}
        log = folder / f"{self.name}-{self.market}.jsonl"
        (given,) = options.parse(
            [
                "--rate",
                str(rate),
                "--log",
                str(log),
                "--venue",
                self.name,
                "--symbols",
                "1",
                "--markets",
                self.market,
                "--clock-offset-us",
                str(skew),
            ],
            known,
        )
        self.hub: Hub = build(given, self._twin, start=span[0])
        for book in self.hub.market.books:
            book.trades, book.aggregates = deque(), deque()
            book.candles._kept = 2**31  # noqa: SLF001 -- all of them, where a venue of tests keeps some
        for at in range(span[0], span[1], MINUTE):
            self.hub.market.advance(at)
        app = application(self.hub, given, self._twin)
        app.middlewares.insert(0, self._listen)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        self.host = ""

    async def begin(self) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.host = "{}:{}".format(*self._runner.addresses[0][:2])

    async def end(self) -> None:
        await self._runner.cleanup()

    @property
    def rest(self) -> str:
        return self._twin.bases(self.market, self.host)[0]

    @property
    def books(self) -> list[Book]:
        return [book for book in self.hub.market.books if book.market == self.market]

    @property
    def _listen(self) -> Any:
        @web.middleware
        async def listen(request: web.Request, handler: Handler) -> web.StreamResponse:
            came = time.time()
            answer = await handler(request)
            if not request.path.startswith("/sim"):
                body = answer.body if isinstance(answer, web.Response) and isinstance(answer.body, bytes) else b""
                silence = float(answer.headers.get("Retry-After", "0")) if answer.status in SILENCES else 0.0
                self.asked.append(Asked(came, time.time(), str(request.rel_url), answer.status, body, silence))
            return answer

        return listen

    async def spoil(self, fault: dict[str, Any]) -> None:
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"http://{self.host}/sim/faults", json={"market": self.market, **fault}) as answer,
        ):
            if answer.status != 200:
                raise SystemExit(f"no such fault: {await answer.text()}")


class Proof:
    """One lake, the venues that it is filled from, and what was wrong."""

    def __init__(self, folder: Path, twins: list[Twin], kills: int, seed: int) -> None:
        self.folder, self.twins = folder, twins
        self.lake, self.config = folder / "lake", folder / "config.json"
        self.kills_left, self.kills, self.runs = kills, 0, 0
        self.wrong: list[str] = []
        self._chance = random.Random(seed)  # noqa: S311 -- when to kill is no secret

    def write_config(self) -> None:
        sources = [
            {"exchange": twin.name, "market_type": twin.market, "symbols": [book.symbol for book in twin.books],
             "kinds": ["trade"], "endpoint": {"rest": twin.rest}}
            for twin in self.twins
        ]  # fmt: skip
        document = {
            "lake": str(self.lake), "logs": {"file": False}, "disk": {"low_percent": 0, "ballast_mb": 1},
            "collectors": {"node": "proof", "sources": sources},
        }  # fmt: skip
        self.config.write_text(json.dumps(document))

    async def fill(self, twin: Twin, kills: int) -> None:
        """Bring in what one venue has, over so many kills."""
        faults = [dict(fault) for fault in FAULTS]
        self._chance.shuffle(faults)
        failures = 0
        while failures < FAILURES:
            if faults:
                await twin.spoil(faults.pop())
            covered, first = self._covered(twin), len(twin.asked)
            code = await self._run(twin, kill=kills > 0)
            self._check_requests(twin, covered, twin.asked[first:])
            if code == -signal.SIGKILL:
                kills -= 1
                self.kills += 1
            elif code == 0:
                self.kills_left += kills  # for the venues that come
                return
            else:
                failures += 1
        self.wrong.append(f"{twin.name} {twin.market}: dl backfill failed {failures} times")

    async def _run(self, twin: Twin, *, kill: bool) -> int:
        """One run of the command, killed after a few requests; its exit code."""
        begun, after = len(twin.asked), self._chance.randint(2, 12)
        process = await asyncio.create_subprocess_exec(
            *self._command(twin), cwd=ROOT, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        self.runs += 1
        ended = asyncio.create_task(process.communicate())
        while not ended.done():
            await asyncio.wait([ended], timeout=0.02)
            quiet = time.time() > max((one.told for one in twin.asked if one.silence), default=0) + SETTLED
            if kill and not ended.done() and quiet and len(twin.asked) >= begun + after:
                os.kill(process.pid, signal.SIGKILL)
                kill = False
        _, said = await ended
        if process.returncode not in (0, -signal.SIGKILL):
            sys.stderr.write(said.decode("utf-8", "replace")[-2000:])
        return process.returncode or 0

    def _command(self, twin: Twin) -> list[str]:
        start, end = (f"{at // SECOND}" for at in twin.span)
        kinds = [word for kind in twin.kinds for word in ("--kind", kind)]
        symbols = [word for book in twin.books for word in ("--symbol", book.symbol)]
        period = ["--from", _text(int(start)), "--to", _text(int(end))]
        return [
            sys.executable, "-m", "cli", "backfill", "--exchange", twin.name, "--market", twin.market, *symbols, *kinds,
            *period, "--config", str(self.config), "--json",
        ]  # fmt: skip

    # --- what has to hold ---

    def _covered(self, twin: Twin) -> list[Coverage]:
        if not (self.lake / MANIFEST).is_file():
            return []
        with closing(Manifest.read_only(self.lake)) as manifest:
            return manifest.coverage(twin.name, twin.market)

    def _check_requests(self, twin: Twin, covered: list[Coverage], asked: list[Asked]) -> None:
        """No request of this run while the venue wanted silence, and of what was covered before it borders only."""
        for one in asked:
            for other in twin.asked:
                if other.silence and other.told + TOLERANCE < one.came < other.told + other.silence - TOLERANCE:
                    self.wrong.append(f"{twin.name}: {one.target} was asked for in the silence of {other.target}")
        for kind in twin.kinds:
            for book in twin.books:
                held = [row for row in covered if (row.kind, row.symbol) == (kind, book.symbol)]
                for target, times in _pages(twin, kind, book.symbol, asked):
                    again = sum(any(row.ts_from <= at < row.ts_to for row in held) for at in times)
                    if again > OVERLAP:
                        self.wrong.append(f"{twin.name}: {again} rows of {target} were held already")

    def check_rows(self, twin: Twin) -> int:
        """Every row of the lake is one of the venue's, and every one of the venue's is there; how many."""
        count = 0
        for book in twin.books:
            for kind in twin.kinds:
                wanted, got = sorted(had(twin.span, kind, book)), sorted(held(self.lake, twin.name, kind, book))
                count += len(wanted)
                if wanted != got:
                    lacking, more = set(wanted) - set(got), set(got) - set(wanted)
                    self.wrong.append(
                        f"{twin.name} {twin.market} {kind} {book.symbol}: {len(lacking)} of {len(wanted)} rows are not "
                        f"there, {len(more)} are nobody's, {len(got) - len(set(got))} are there twice"
                    )
        return count


def _text(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _pages(twin: Twin, kind: str, symbol: str, asked: list[Asked]) -> Iterator[tuple[str, list[int]]]:
    """(target, times of its rows) of the pages of a kind, as the adapter itself reads them."""
    polled = Polled(kind, (symbol,), span=twin.span)
    session = twin.venue.poller(twin.market, "n-1-1", polled, Endpoint(rest=twin.rest, ws={}))
    assert isinstance(session, Pages)
    route = session._route  # noqa: SLF001 -- what reads a page
    path = urlsplit(route.url).path
    for one in asked:
        parts = urlsplit(one.target)
        query = parse_qs(parts.query)
        sought = query.get("limit") in (["1"], [str(route.limit - 1)]) or "ONE_DAY" in one.target
        if parts.path != path or one.status != 200 or sought:
            continue
        try:
            rows = route.rows(one.body, Made("n-1-1", 1, int(one.told * SECOND)))
        except Exception:  # noqa: S112 -- spoiled: no rows were told
            continue
        yield one.target, [row.at for row in rows]


@asynccontextmanager
async def _twins(
    parts: list[tuple[str, str, tuple[str, ...]]], folder: Path, days: float, rate: float
) -> AsyncIterator[list[Twin]]:
    now = int(time.time()) * SECOND
    ended = now - now % HOUR - HOUR // 6
    span = (ended - int(days * DAY) - (ended - int(days * DAY)) % MINUTE, ended - ended % MINUTE)
    simulated.CATCH_UP = 2**62  # a venue of tests lets go of what it slept through
    made = []
    try:
        for part, skew in zip(parts, itertools.cycle(SKEWS), strict=False):
            made.append(Twin(part, folder, span, rate, skew))
            await made[-1].begin()
            print(f"{part[0]} {part[1]}: {sum(len(one.trades) for one in made[-1].books):,} trades", file=sys.stderr)
        yield made
    finally:
        for twin in made:
            await twin.end()


async def prove(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything; what is to be reported."""
    chosen = [part for part in PARTS if part[0] in given.venues and hasattr(exchanges.load(part[0]), "HISTORY")]
    begun = time.monotonic()
    async with _twins(chosen, folder, given.days, given.rate) as twins:
        proof = Proof(folder, twins, given.kills, given.seed)
        proof.write_config()
        counts = {}
        for place, twin in enumerate(twins):
            share = -(-proof.kills_left // (len(twins) - place))
            proof.kills_left -= share
            await proof.fill(twin, share)
            counts[f"{twin.name} {twin.market}"] = proof.check_rows(twin)
            print(f"{twin.name} {twin.market}: {counts[f'{twin.name} {twin.market}']:,} rows", file=sys.stderr)
        if proof.kills < given.kills:
            proof.wrong.append(f"only {proof.kills} of {given.kills} kills came in time")
        return {
            "days": given.days, "kills": proof.kills, "runs": proof.runs, "rows": counts,
            "requests": sum(len(twin.asked) for twin in twins), "seconds": round(time.monotonic() - begun),
            "silences": sum(one.silence > 0 for twin in twins for one in twin.asked), "wrong": proof.wrong,
        }  # fmt: skip


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--days", type=float, default=30.0, help="of history (default: 30)")
    parser.add_argument("--kills", type=int, default=20, help="SIGKILLs in all (default: 20)")
    parser.add_argument("--rate", type=float, default=0.02, help="events a second of each venue (default: 0.02)")
    parser.add_argument("--venues", type=lambda text: text.split(","), default=[part[0] for part in PARTS])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--record", action="store_true", help="write the figures to docs/reliability-figures.json")
    parser.add_argument("--folder", type=Path, help="keep the lake here; a temporary folder if not given")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="prove-backfill-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        report = asyncio.run(prove(given, folder))
    finally:
        if given.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    print(msgspec.json.format(msgspec.json.encode(report), indent=1).decode())
    if given.record:
        figures.of_backfill(report, f"scripts/prove_backfill.py --days {given.days:g} --kills {given.kills}")
    return 1 if report["wrong"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
