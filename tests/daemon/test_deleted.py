"""What was deleted stays away: no backfill brings it back, everybody says so, and it comes where it is asked for."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from cli.commands import backfill as command
from collectors.history_plan import Held, Plan, Wish, plan, repaired
from compactor.config import CompactorConfig
from compactor.deleting import Deletion, delete
from compactor.deleting import plan as what_goes
from compactor.service import compact_once
from daemon.backfilling import Wanted, closed, planned
from lake import Lake
from lake.writer import LakeWriter
from market.history import Offer
from market.session import EVERY_SYMBOL, Coverage, Gap
from market.times import DAY, HOUR, MINUTE, SECOND
from runtime.workers import InlineExecutor
from tests.support.past import BEGAN, END, Past, past
from transformer.config import TransformerConfig
from transformer.service import transform_once

OFFERS = {"trade": Offer(grain=1, width=None, reach=None), "kline": Offer(grain=MINUTE, width=None, reach=None)}
LATER = END + 2 * DAY


def publish(writer: LakeWriter) -> None:
    """What came to parts, and the day to its files."""
    transform_once(writer, InlineExecutor(), LATER, TransformerConfig())
    assert not compact_once(writer, InlineExecutor(), LATER, CompactorConfig(), final=True).failures


def ids(venue: Past) -> list[int]:
    with Lake(venue.root) as lake:
        return lake.read("trade").column("seq").to_pylist()


async def carry_out(venue: Past, writer: LakeWriter, made: Plan, wanted: Wanted) -> int:
    await venue.carry_out("spot", writer, made, asyncio.Event())
    return closed(writer, wanted, venue.clock.now())


async def test_it_stays_away_until_it_is_asked_for_in_so_many_words(tmp_path: Path) -> None:
    async with past(tmp_path, "spot", symbols="1") as venue:
        (book,) = venue.books("spot")
        wanted = Wanted("binance", "spot", ("trade",), (book.symbol,), BEGAN, END)
        again = msgspec.structs.replace(wanted, deleted=True)
        with venue.writer() as writer:
            await carry_out(venue, writer, planned(writer, wanted, venue.clock.now()), wanted)
            publish(writer)
            before = ids(venue)
            with writer.manifest.snapshot() as now:
                going = what_goes(now, "binance", "spot", "trade", book.symbol)
            of = {"exchange": "binance", "market_type": "spot", "kind": "trade", "symbol": book.symbol}
            gone = delete(writer, Deletion(**of, digest=going.digest), venue.clock.now())
            assert (gone.rows, ids(venue)) == (len(before), [])
            publish(writer)
            made = planned(writer, wanted, venue.clock.now())
            assert made.chunks == ()
            assert 0 < END - BEGAN - made.deleted < MINUTE, "from its first row to its last"
            assert made.held == END - BEGAN - made.deleted
            assert ids(venue) == []
            with Lake(venue.root) as lake:
                (said,) = lake.coverage(kind="trade", start=BEGAN, end=END)
                assert (said.complete, said.deleted, said.missing) == (False, made.deleted, made.deleted)
                assert [(gap.cause, gap.state) for gap in lake.gaps(state="all")] == [("deleted", "unrepairable")]
            more = planned(writer, again, venue.clock.now())
            assert [(one.kind, one.symbol) for one in more.chunks] == [("trade", book.symbol)]
            assert more.deleted == 0
            assert await carry_out(venue, writer, more, again) == 1
            publish(writer)
            assert ids(venue) == before
            (gap,) = writer.manifest.gaps()
            assert (gap.state, gap.source, gap.closed_at) == ("repaired", "rest", venue.clock.now())
            assert str(gap.detail).endswith("rows were deleted by hand; asked for again")
            assert planned(writer, again, venue.clock.now()).chunks == ()
            assert planned(writer, wanted, venue.clock.now()).deleted == 0


def gone(kind: str = "trade", symbol: str = "A", start: int = 2, end: int = 4, at: int = 7) -> Gap:
    return Gap(
        gap_id=f"deleted-{kind}-{symbol}-{start}", exchange="x", market_type="spot", kind=kind, symbol=symbol,
        ts_from=start * HOUR, ts_to=end * HOUR, id_from=None, id_to=None, cause="deleted", proof="counted",
        state="unrepairable", session=None, detected_at=at * DAY, closed_at=at * DAY,
    )  # fmt: skip


def covered(session: str, start: int, end: int, symbol: str = "A", kind: str = "trade") -> Coverage:
    return Coverage("x", "spot", kind, symbol, session, start * HOUR, end * HOUR)


def asked(held: Held, kind: str = "trade", symbol: str = "A") -> list[tuple[int, int]]:
    made = plan([Wish(kind, symbol, 0, 6 * HOUR)], OFFERS, held, 9 * DAY)
    return [(one.start // HOUR, -(-one.end // HOUR)) for one in made.chunks]


def test_what_nobody_covered_is_left_alone_too() -> None:
    assert asked(Held(gaps=[gone()])) == [(0, 2), (4, 6)]
    assert asked(Held(gaps=[gone()], again=True)) == [(0, 6)]
    assert asked(Held(gaps=[gone(symbol="B")])) == [(0, 6)], "another symbol's"


def test_files_of_all_symbols_are_of_each() -> None:
    whole = gone(kind="kline", symbol=EVERY_SYMBOL)
    streams = [covered("live", 0, 6, one, "kline") for one in "AB"]
    held = Held(streams, [whole], minutes=frozenset({("A", "live"), ("B", "live")}))
    assert asked(held, "kline") == []
    again = msgspec.structs.replace(held, again=True)
    assert asked(again, "kline") == [(2, 4)]
    back = [covered(f"past-{one}", 2, 4, one, "kline") for one in "AB"]
    opened = {"past-A": 8 * DAY, "past-B": 8 * DAY}
    for some, closed_now in ((back[:1], []), (back, ["repaired"])):
        one = Held([*streams, *some], [whole], frozenset(opened), {}, held.minutes, opened)
        assert [gap.state for gap in repaired(OFFERS, one, 9 * DAY)] == closed_now


@pytest.mark.parametrize(
    "opened, span, states",
    [(8, (2, 4), ["repaired"]), (8, (2, 3), []), (6, (2, 4), [])],
    ids=["all of it, since", "not all of it", "what was asked for before is what was deleted"],
)
def test_it_is_back_once_all_of_it_was_asked_for_since(opened: int, span: tuple[int, int], states: list[str]) -> None:
    rows = [covered("live", 0, 6), covered("past", *span)]
    held = Held(rows, [gone()], frozenset({"past"}), opened={"past": opened * DAY})
    found = repaired(OFFERS, held, 9 * DAY)
    assert [gap.state for gap in found] == states
    left = [(2, 4)] if opened == 6 else [(span[1], 4)] if not states else []
    assert asked(msgspec.structs.replace(held, again=True)) == left
    assert plan([Wish("trade", "A", 0, 6 * HOUR)], OFFERS, held, 9 * DAY).deleted == sum(
        (end - start) * HOUR for start, end in left
    )


def test_the_command_says_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert command._nothing(Plan(deleted=HOUR)) == "nothing to ask for: it was deleted from this lake"
    command._refusals(Plan(deleted=90 * MINUTE))
    assert "--deleted asks for them again" in " ".join(capsys.readouterr().err.split())
    told = Wanted("binance", "spot", ("trade",), ("BTCUSDT",), 0, SECOND, deleted=True)
    assert told.said.endswith(", also what was deleted")
