"""History of simulated venues into a lake over HTTP: once, whatever comes in between, and never asked for again.

(What each page has to prove: tests/conformance/test_history.py.)
"""

import asyncio
import importlib
from pathlib import Path
from random import Random
from unittest import mock

import pytest

from collectors import alone
from collectors.history_plan import Wish
from collectors.replay import replay
from lake.rows import FRAMES, HISTORY
from lake.writer import LakeWriter
from market.times import HOUR, MINUTE, SECOND
from tests.support.past import BEGAN, CONFIG, Killed, contract, past

SPAN = (BEGAN + 10 * MINUTE, BEGAN + 40 * MINUTE)
FAULTS = [
    {"fault": "html_200"}, {"fault": "empty_body"}, {"fault": "short_body"}, {"fault": "gzip_cut"},
    {"fault": "http_status", "status": 503}, {"fault": "http_status", "status": 429, "retry_after": 40},
]  # fmt: skip
BROUGHT = [
    ("bybit", "linear", ["kline", "open_interest"]), ("okx", "linear", ["trade"]),
    *(
        pytest.param(venue, market, kinds, marks=pytest.mark.slow)
        for venue, market, kinds in (
            ("bybit", "spot", ["kline"]), ("bybit", "inverse", ["kline", "funding_rate"]),
            ("okx", "spot", ["trade", "kline"]), ("okx", "inverse", ["trade", "kline", "funding_rate"]),
            ("kucoin", "spot", ["kline"]), ("kucoin", "linear", ["kline"]),
            ("kucoin", "inverse", ["kline", "funding_rate"]),
        )
    ),
]  # fmt: skip


def same(venue, market, kinds, kills=0, again=8):
    """Whether the lake has exactly what the venue had; so many rows may be twice after a kill."""
    for book in venue.books(market):
        for kind in kinds:
            found = venue.events(kind, book.symbol)
            got = sorted(
                {one.open_time if kind == "kline" else getattr(one, "seq", None) or one.ts_event for one in found}
            )
            if kind == "kline":
                held = [one.open_time for one in book.candles.read("1m")]
                wanted = [at for at in held if at >= SPAN[0] and at + MINUTE <= SPAN[1]]
            elif kind == "trade":
                wanted = [one.id for one in book.trades if one.ts in range(*SPAN)]
            else:
                step = 8 * HOUR if kind == "funding_rate" else 5 * MINUTE
                wanted = [at for at in range(SPAN[0] - SPAN[0] % step, SPAN[1], step) if at >= SPAN[0]]
            assert got == wanted, kind
            assert len(found) <= len(got) + again * kills


@pytest.mark.parametrize("name, market, kinds", BROUGHT)
async def test_everything_comes_once_over_kills_and_bad_answers(tmp_path: Path, monkeypatch, name, market, kinds):
    random, kills = Random(name + market), 0
    async with past(tmp_path, market, symbols="1", venue=name) as venue:
        pages = importlib.import_module(f"collectors.exchanges.{name}.history").PAGES
        for route in pages:
            monkeypatch.setitem(pages, route, 60 if "trades" in route else 9)
        for fault in FAULTS:
            await venue.fault(**fault)
        for _ in range(60):
            venue.kill_after = random.choice([4, 8, 12] if "trade" in kinds else [2, 3, 5])
            try:
                done = await venue.bring(market, kinds, SPAN)
            except Killed:
                kills += 1
            else:
                break
        assert kills > 1
        assert not done.failed
        # of OKX's trades half a page is asked for again: what comes before it may be told behind it
        same(venue, market, kinds, kills, 8 + 60 // 2 if name == "okx" else 8)
        silences = [one.came for one in venue.asked if one.status == 429]
        assert len(silences) == 1
        assert not [one for one in venue.asked if silences[0] < one.left < silences[0] + 38 * SECOND]
        venue.kill_after, asked = None, len(venue.asked)
        assert (await venue.bring(market, kinds, SPAN)).requests == 0
        assert len(venue.asked) == asked
        with venue.writer() as writer:
            assert writer.manifest.gaps() == []
            assert {row.source for row in writer.manifest.sessions()} == {HISTORY}


async def test_a_contract_that_nobody_lists_is_no_history_and_the_others_come(tmp_path: Path):
    async with past(tmp_path, "linear", symbols="1", venue="kucoin") as venue:
        (book,) = venue.books("linear")
        with venue.writer() as writer:
            made = venue.plan(writer, "linear", [Wish("kline", symbol, *SPAN) for symbol in (book.symbol, "NOPEUSDTM")])
            done = await venue.carry_out("linear", writer, made, asyncio.Event())
        (failed,) = done.failed
        assert done.done == 1
        same(venue, "linear", ["kline"])
        assert (failed.chunk.symbol, failed.permanent) == ("NOPEUSDTM", True)
        assert "what a contract is worth is not known" in failed.reason
        known = mock.patch.object(alone, "contracts_of", return_value=(contract("NOPE", "1"),))
        with venue.writer() as writer, known:
            made = venue.plan(writer, "linear", [Wish("kline", "NOPE", *SPAN)])  # which the lake knows, but no list
            done = await venue.carry_out("linear", writer, made, asyncio.Event())
        assert "200003" in done.failed[0].reason


async def test_a_contract_of_binance_is_worth_what_the_venue_lists(tmp_path: Path):
    async with past(tmp_path, "inverse", symbols="1", venue="binance") as venue:
        await venue.bring("inverse", ["kline"], SPAN)
        asked = [one for one in venue.asked if "exchangeInfo" in one.route]
        assert len(asked) == 1
        with mock.patch.object(alone, "contracts_of", return_value=()), venue.writer() as writer:
            made = venue.plan(writer, "inverse", [Wish("kline", symbol, *SPAN) for symbol in ("XUSD_200925", "XUSDT")])
            done = await venue.carry_out("inverse", writer, made, asyncio.Event())
        why = {one.chunk.symbol: one.reason for one in done.failed}
        assert "what a contract is worth is not known" in why["XUSDT"]
        assert "what a contract is worth" not in why.get("XUSD_200925", ""), (
            "the venue's rule says it of one that is over"
        )


async def test_frames_of_contracts_are_read_again_to_the_same_rows(tmp_path: Path):
    async with past(tmp_path, "linear", symbols="1", venue="kucoin") as venue:
        (book,) = venue.books("linear")
        await venue.bring("linear", ["kline"], SPAN)
        with venue.writer() as writer:
            files = [venue.root / row.path for row in writer.manifest.segments(kind=FRAMES) if row.rows]
        now = venue.clock.now()
        with LakeWriter.open(tmp_path / "again", "n", now, simulated=True) as writer:
            done = replay(files, "kucoin", "linear", writer, CONFIG, now)
            assert (done.rejected, done.damage, done.gaps) == ({}, [], 0)
        kept, venue.root = venue.events("kline", book.symbol), tmp_path / "again"
        assert venue.events("kline", book.symbol) == kept
        assert {one.volume_quote for one in kept} == {None}
