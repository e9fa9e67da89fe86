"""History of a simulated Binance into a lake: all of it once, whatever comes in between, and never asked for again."""

import asyncio
from pathlib import Path
from random import Random

import msgspec
import pytest

from collectors.exchanges import binance
from collectors.exchanges.binance import history
from collectors.history_plan import MARGIN, Held, Wish, plan
from collectors.replay import replay
from lake import Lake
from lake.rows import FRAMES, HISTORY, SegmentRow
from lake.widths import sessions_of
from lake.writer import LakeWriter
from market.session import Coverage, Gap
from market.times import HOUR, MINUTE, MS, SECOND
from runtime.workers import InlineExecutor
from tests.support.past import BEGAN, CONFIG, END, Killed, past
from transformer.config import TransformerConfig
from transformer.service import transform_once

FROM = BEGAN + 10 * MINUTE
TO = END - 10 * MINUTE
SPAN = (FROM, TO)


def trades(book):
    return [
        (one.id, one.price, one.qty, one.ts, "sell" if one.maker else "buy")
        for one in book.trades
        if one.ts in range(*SPAN)
    ]


def aggregates(book):
    return [
        (one.id, one.price, one.qty, one.ts, "sell" if one.maker else "buy", one.first_id, one.last_id)
        for one in book.aggregates
        if one.ts in range(*SPAN)
    ]


def opens(book):
    return [one.open_time for one in book.candles.read("1m") if one.open_time >= FROM and one.open_time + MINUTE <= TO]


def held_trades(venue, kind, book):
    found = {}
    for one in venue.events(kind, book.symbol):
        said = (one.seq, one.price, one.qty, one.ts_event, one.side)
        said += (one.first_id, one.last_id) if kind == "agg_trade" else ()
        assert found.setdefault(one.seq, said) == said
        assert (one.source, one.condition) == ("rest", "market")
    return [found[number] for number in sorted(found)]


def same(venue, market, kinds):
    """Whether the lake has exactly what the venue had."""
    for book in venue.books(market):
        for kind in kinds:
            if kind == "kline":
                got = sorted({one.open_time for one in venue.events(kind, book.symbol)})
                assert got == opens(book)
            elif kind in ("trade", "agg_trade"):
                assert held_trades(venue, kind, book) == (trades if kind == "trade" else aggregates)(book)


@pytest.mark.parametrize(
    "market, kinds",
    [
        ("spot", ["trade", "agg_trade", "kline"]),
        ("linear", ["agg_trade", "kline"]),
        ("inverse", ["agg_trade", "kline"]),
    ],
)
async def test_everything_comes_once_over_any_number_of_kills(tmp_path: Path, monkeypatch, market, kinds):
    random, kills = Random(market), 0
    monkeypatch.setattr(history, "PAGE", 60)  # so that there are many
    async with past(tmp_path, market, symbols="1") as venue:
        for _ in range(200):
            venue.kill_after = random.choice([0, 3, 6, 8, 10])
            before = len(venue.asked)
            with venue.writer() as writer:
                covered = writer.manifest.coverage()
            try:
                done = await venue.bring(market, kinds, SPAN)
            except Killed:
                kills += 1
            else:
                break
            for one in venue.asked[before:]:  # of what was covered only borders
                if one.route == "exchangeInfo":  # what a contract is worth
                    continue
                symbol = one.query["symbol"]
                kind = {"historicalTrades": "trade", "aggTrades": "agg_trade", "klines": "kline"}[one.route]
                assert len(again(one, [row for row in covered if (row.kind, row.symbol) == (kind, symbol)])) <= 2
        assert kills > 2
        assert not done.failed
        same(venue, market, kinds)
        venue.kill_after = None
        asked = len(venue.asked)
        assert (await venue.bring(market, kinds, SPAN)).requests == 0
        assert len(venue.asked) == asked
        with venue.writer() as writer:
            assert writer.manifest.gaps() == []
            assert {row.source for row in writer.manifest.sessions()} == {HISTORY}
            causes = {(row.close_cause or "").partition(":")[0] for row in writer.manifest.sessions()}
            assert causes <= {"done", "crash"}


def again(asked, covered):
    """Rows of an answer that lie inside what was covered already."""
    time = {
        "historicalTrades": lambda row: row["time"],
        "aggTrades": lambda row: row["T"],
        "klines": lambda row: row[6],
    }
    if asked.query.get("limit") == "1":
        return []
    times = [time[asked.route](row) * MS for row in msgspec.json.decode(asked.body)]
    return [at for at in times if any(row.ts_from <= at < row.ts_to for row in covered)]


async def test_what_came_becomes_rows_of_its_days(tmp_path: Path):
    async with past(tmp_path, "spot", symbols="1") as venue:
        await venue.bring("spot", ["trade", "kline"], SPAN)
        with venue.writer() as writer:
            done = transform_once(writer, InlineExecutor(), venue.clock.now(), TransformerConfig())
            assert (done.failed, done.parked, done.quarantined) == (0, 0, 0)
        for book in venue.books("spot"):
            with Lake(venue.root) as lake:
                table = lake.read("trade", exchange="binance", symbol=book.symbol)
                assert table.column("seq").to_pylist() == [one[0] for one in trades(book)]
                assert set(table.column("source").to_pylist()) == {"rest"}
                candles = lake.read("kline", exchange="binance", symbol=book.symbol)
                assert candles.num_rows == len(opens(book))


async def test_settled_rates_come_at_their_hours(tmp_path: Path):
    span = (END - 30 * 24 * HOUR, END)
    async with past(tmp_path, "linear", symbols="1") as venue:
        (book,) = venue.books("linear")
        await venue.bring("linear", ["funding_rate"], span)
        found = [one.ts_event for one in venue.events("funding_rate", book.symbol)]
        assert found == [at for at in range(span[0], span[1], HOUR) if at % (8 * HOUR) == 0]


@pytest.mark.parametrize("market", ["linear", "inverse"])
async def test_open_interest_comes_every_five_minutes_of_the_last_month(tmp_path: Path, market):
    span = (END - 40 * 24 * HOUR, END)
    async with past(tmp_path, market, symbols="1") as venue:
        (book,) = venue.books(market)
        now = venue.clock.now()
        await venue.bring(market, ["open_interest"], span)
        found = sorted(one.ts_event for one in venue.events("open_interest", book.symbol))
        assert found == list(range(found[0], END, 5 * MINUTE))
        assert MARGIN <= found[0] - (now - 30 * 24 * HOUR) <= MARGIN + 6 * MINUTE


FAULTS = [
    {"fault": "html_200"}, {"fault": "empty_body"}, {"fault": "short_body"}, {"fault": "gzip_cut"},
    {"fault": "http_status", "status": 503}, {"fault": "http_status", "status": 403, "form": "html"},
    {"fault": "http_status", "status": 429, "retry_after": 40},
    {"fault": "http_status", "status": 429, "retry_after": 90},
    {"fault": "http_status", "status": 418, "retry_after": 300},
]  # fmt: skip


async def test_bad_answers_cost_nothing_and_who_asked_for_silence_is_left_alone(tmp_path: Path):
    async with past(tmp_path, "spot", symbols="1") as venue:
        for fault in FAULTS:
            await venue.fault(**fault)
        done = await venue.bring("spot", ["agg_trade", "kline"], SPAN)
        assert not done.failed
        same(venue, "spot", ["agg_trade", "kline"])
        silences = [(one.came, 40 if one.status == 429 else 300) for one in venue.asked if one.status in (418, 429)]
        assert len(silences) == 3
        for came, seconds in silences:
            assert [one for one in venue.asked if came < one.left < came + seconds * SECOND - 2 * SECOND] == []


async def test_a_ban_outlives_a_kill(tmp_path: Path):
    async with past(tmp_path, "spot", symbols="1") as venue:
        await venue.fault(fault="http_status", status=418, retry_after=600)
        venue.kill_after = 1
        with pytest.raises(Killed):
            await venue.bring("spot", ["kline"], SPAN)
        (first,) = venue.asked
        venue.kill_after = None
        venue.clock.turn_back(first.came)  # the process died while it waited
        await venue.bring("spot", ["kline"], SPAN)
        assert min(one.left for one in venue.asked[1:]) >= first.came + 600 * SECOND
        same(venue, "spot", ["kline"])


async def test_a_symbol_that_is_none_fails_for_good_and_the_others_come(tmp_path: Path):
    async with past(tmp_path, "spot", symbols="1") as venue:
        venue.books("spot")[0].listed = True
        book = venue.books("spot")[0]
        original = venue.books
        venue.books = lambda market: [*original(market), type("B", (), {"symbol": "NOPE"})()]
        done = await venue.bring("spot", ["kline"], SPAN)
        venue.books = original
        (failed,) = done.failed
        assert (failed.chunk.symbol, failed.permanent) == ("NOPE", True)
        assert "-1121" in failed.reason
        assert done.done == 1
        assert sorted({one.open_time for one in venue.events("kline", book.symbol)}) == opens(book)


async def test_a_hole_inside_what_was_streamed_is_filled_and_its_gap_closed(tmp_path: Path):
    async with past(tmp_path, "spot", symbols="1") as venue:
        (book,) = venue.books("spot")
        inside = trades(book)[100:110]
        gap = Gap(
            "g1", "binance", "spot", "trade", book.symbol, inside[0][3], inside[-1][3], inside[0][0], inside[-1][0] + 1,
            "jump", "ids", "open", "n-1-1", BEGAN,
        )  # fmt: skip
        with venue.writer() as writer:
            live = Coverage("binance", "spot", "trade", book.symbol, "n-1-1", *SPAN)
            writer.record(coverage=[live], gaps=[gap], now=venue.clock.now())
        done = await venue.bring("spot", ["trade"], SPAN)
        assert (done.chunks, done.repaired) == (1, 1)
        got = {one.seq for one in venue.events("trade", book.symbol)}
        assert {one[0] for one in inside} <= got
        assert len(got) < len(inside) + 10
        with venue.writer() as writer:
            (closed,) = writer.manifest.gaps()
            assert (closed.state, closed.source) == ("repaired", "rest")


async def test_a_stream_of_wider_candles_holds_none_of_a_minute(tmp_path: Path):
    async with past(tmp_path, "spot", symbols="1") as venue:
        (book,) = venue.books("spot")
        await venue.bring("spot", ["kline"], (FROM, FROM + 10 * MINUTE))
        with venue.writer() as writer:
            live = [Coverage("binance", "spot", "kline", book.symbol, "n-1-1", *SPAN)]
            writer.record(coverage=live, now=venue.clock.now())  # its rows, if any, are of five minutes
            (chunk,) = venue.plan(writer, "spot", [Wish("kline", book.symbol, *SPAN)]).chunks
            assert (chunk.start, chunk.end) == (FROM + 10 * MINUTE, TO)
            (mine,) = {row.session for row in writer.manifest.sessions()}
            market = ("binance", "spot", [book.symbol])
            for interval, told in (("1m", {(book.symbol, mine)}), ("5m", set())):
                with writer.manifest.snapshot() as now:
                    assert sessions_of(writer.root, now, *market, interval) == told
            transform_once(writer, InlineExecutor(), venue.clock.now(), TransformerConfig())
            for interval, told in (("1m", {(book.symbol, mine)}), ("5m", set())):
                with writer.manifest.snapshot() as now:
                    assert sessions_of(writer.root, now, *market, interval) == told
            held = Held(live, minutes=frozenset({(book.symbol, "n-1-1")}))
            assert plan([Wish("kline", book.symbol, *SPAN)], binance.HISTORY["spot"], held, END).chunks == ()


async def test_candles_of_a_stream_that_has_just_begun_have_a_width(tmp_path: Path):
    async with past(tmp_path, "spot", symbols="1") as venue:
        await venue.bring("spot", ["kline"], (FROM, FROM + 2 * MINUTE))
        symbol = venue.books("spot")[0].symbol
        with venue.writer() as writer:
            (sealed,) = writer.manifest.segments("binance", "spot", "kline", state="sealed")
            row = SegmentRow(path=f"{sealed.path}.open", exchange="binance", market_type="spot", kind="kline",
                             state="open", period_start=sealed.period_start)  # fmt: skip
            writer.open_segment(row)
            text = (writer.root / sealed.path).read_bytes().replace(b'"1m"', b'"5m"')
            (writer.root / row.path).write_bytes(text + b'{"torn')
            with writer.manifest.snapshot() as now:
                found = sessions_of(writer.root, now, "binance", "spot", [symbol], "5m")
            assert {name for name, _ in found} == {symbol}


async def test_ids_that_the_venue_lacks_are_a_gap_that_nothing_repairs(tmp_path: Path):
    async with past(tmp_path, "spot", symbols="1") as venue:
        (book,) = venue.books("spot")
        gone = trades(book)[50:53]
        for fill in [one for one in book.trades if one.id in {row[0] for row in gone}]:
            book.trades.remove(fill)
        done = await venue.bring("spot", ["trade"], SPAN)
        assert (done.done, done.lacking) == (1, 3)
        with venue.writer() as writer:
            (gap,) = writer.manifest.gaps()
        assert (gap.id_from, gap.id_to, gap.state, gap.cause) == (
            gone[0][0],
            gone[-1][0] + 1,
            "unrepairable",
            "venue_lacks",
        )
        same(venue, "spot", ["trade"])


async def test_frames_of_history_are_read_again_to_the_same_rows(tmp_path: Path):
    async with past(tmp_path, "spot", symbols="1") as venue:
        (book,) = venue.books("spot")
        await venue.bring("spot", ["agg_trade", "kline"], SPAN)
        with venue.writer() as writer:
            rows = [row for row in writer.manifest.segments(kind=FRAMES) if row.rows]
            covered = {(row.kind, row.session, row.ts_from, row.ts_to) for row in writer.manifest.coverage()}
        now = venue.clock.now()
        with LakeWriter.open(tmp_path / "again", "n", now, simulated=True) as writer:
            files = [venue.root / row.path for row in rows]
            done = replay(files, "binance", "spot", writer, CONFIG, now)
            assert (done.rejected, done.damage, done.gaps) == ({}, [], 0)
            assert {(row.kind, row.session, row.ts_from, row.ts_to) for row in writer.manifest.coverage()} == covered
        kept, venue.root = venue.events("agg_trade", book.symbol), tmp_path / "again"
        assert venue.events("agg_trade", book.symbol) == kept


async def test_a_stop_ends_in_order_and_the_next_run_goes_on(tmp_path: Path):
    async with past(tmp_path, "spot", symbols="1") as venue:
        stop = asyncio.Event()
        stop.set()
        (book,) = venue.books("spot")
        with venue.writer() as writer:
            made = venue.plan(writer, "spot", [Wish("kline", book.symbol, *SPAN)])
            done = await venue.carry_out("spot", writer, made, stop)
            assert (done.chunks, done.done, done.failed) == (1, 0, [])
        await venue.bring("spot", ["kline"], SPAN)
        same(venue, "spot", ["kline"])
