"""A recording of somebody else over own capture: one event by its id; what has none fills what own capture lacks."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from collectors.config import CollectorsConfig
from collectors.files.importing import Imported, request_of, take_in
from collectors.files.reading import Options
from collectors.giving import gap_id
from collectors.replay import Summary, replay
from compactor.config import CompactorConfig
from compactor.service import compact_once
from daemon.rederiving import Outcome, Rederiver, Wanted
from lake.frames import FrameLine, encode_frame_lines
from lake.reader import Lake
from lake.rows import CertificateRow, SessionRow
from lake.writer import LakeWriter
from market.session import Coverage, Gap
from market.times import DAY, SECOND, parse
from runtime.workers import InlineExecutor
from transformer.config import TransformerConfig
from transformer.service import transform_once

T0 = parse("2026-08-09T10:00:00Z")
NOW = T0 + 10 * DAY
CONFIG = CollectorsConfig(node="n")
MARKET = ("binance", "linear")
Make = Callable[[int], bytes]


def forced(number: int) -> bytes:
    """A forced order of each second: Binance gives them no ids."""
    at, price = (T0 + number * SECOND) // 1000, str(9000 + number)
    order = {"s": "BTCUSDT", "S": "SELL", "o": "LIMIT", "f": "IOC", "q": "1", "p": price, "ap": price, "X": "FILLED"}
    data = {"e": "forceOrder", "E": at, "o": order | {"l": "1", "z": "1", "T": at}}
    return json.dumps({"stream": "btcusdt@forceOrder", "data": data}).encode()


def trade(number: int) -> bytes:
    at = (T0 + number * SECOND) // 1000
    data = {
        "e": "trade",
        "E": at,
        "s": "BTCUSDT",
        "t": number + 1,
        "p": "1",
        "q": "1",
        "T": at,
        "X": "MARKET",
        "m": True,
    }
    return json.dumps({"stream": "btcusdt@trade", "data": data}).encode()


def own(make: Make) -> bytes:
    """Ours, of [0, 20) and [25, 60) s: the first connection broke."""
    lines = []
    for conn, seconds in (("n-1-1", range(20)), ("n-1-2", range(25, 60))):
        begin, end = T0 + seconds.start * SECOND, T0 + seconds.stop * SECOND
        lines.append(FrameLine(ts_recv=begin, conn=conn, dir="open", url="wss://x"))
        for n, second in enumerate(seconds, 1):
            at = T0 + second * SECOND + 30_000
            lines.append(FrameLine(ts_recv=at, conn=conn, dir="recv", n=n, frame=make(second).decode()))
        cause = "disconnect" if conn == "n-1-1" else "stopped"
        lines.append(FrameLine(ts_recv=end, conn=conn, dir="close", n=len(seconds), reason=cause))
    return encode_frame_lines(lines)


def recorded(make: Make, seconds: Iterable[int]) -> bytes:
    """Theirs: they heard everything sooner."""
    return b"".join(line(second, make(second)) for second in seconds)


def line(second: int, message: bytes) -> bytes:
    """A message that was heard so many seconds after the first."""
    when = dt.datetime.fromtimestamp(T0 // SECOND + second, dt.UTC)
    return f"{when:%Y-%m-%dT%H:%M:%S}.0120000Z ".encode() + message + b"\n"


def take(root: Path, name: str, data: bytes) -> Summary:
    file = root.parent / name / "frames"
    file.parent.mkdir()
    file.write_bytes(data)
    with LakeWriter.open(root, "n", NOW) as writer:
        done = replay([file], *MARKET, writer, CONFIG, NOW)
        transform_once(writer, InlineExecutor(), NOW, TransformerConfig(), lambda *_: None)
        compact_once(writer, InlineExecutor(), NOW, CompactorConfig(), lambda *_: None, final=True)
    return done


def stored(root: Path, kind: str) -> dict[int, list[str]]:
    """Second -> who brought its rows."""
    made: dict[int, list[str]] = {}
    for row in Lake(root).read(kind, exchange="binance").to_pylist():
        made.setdefault(round(row["ts_event"].timestamp()) - T0 // SECOND, []).append(row["session"][:6])
    return made


def again(root: Path, scratch: Path) -> Outcome:
    """All of its frames, the recording's as well, through the parsers once more."""
    with Rederiver(root, Wanted(*MARKET), CONFIG, NOW, scratch) as work:
        while work.step():
            pass
    return work.outcome


def test_without_ids_it_fills_what_own_capture_lacks_and_doubles_nothing(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    take(root, "own", own(forced))
    said = take(root, "theirs", recorded(forced, [*range(5, 61), 80]))
    assert (said.events, said.covered) == ({"liquidation": 7}, {"liquidation": 50})
    held = stored(root, "liquidation")
    assert set(Counter(len(who) for who in held.values())) == {1}
    assert [second for second, (who,) in held.items() if who == "tardis"] == [20, 21, 22, 23, 24, 60, 80]
    assert sorted(held) == [*range(61), 80]
    once_more = take(root, "once more", recorded(forced, [*range(5, 61), 80]))
    assert (once_more.passed_over, once_more.events, stored(root, "liquidation")) == (57, {}, held)


def best(number: int) -> bytes:
    """The best prices of each second, which Binance numbers."""
    at = (T0 + number * SECOND) // 1000
    data = {
        "e": "bookTicker",
        "u": number + 1,
        "s": "BTCUSDT",
        "b": "9",
        "B": "1",
        "a": "11",
        "A": "1",
        "T": at,
        "E": at,
    }
    return json.dumps({"stream": "btcusdt@bookTicker", "data": data}).encode()


def levels(number: int) -> bytes:
    """The best levels of each second."""
    at = (T0 + number * SECOND) // 1000
    data = {"e": "depthUpdate", "E": at, "T": at, "s": "BTCUSDT", "U": number, "u": number + 1, "pu": number}
    return json.dumps({"stream": "btcusdt@depth5", "data": data | {"b": [["9", "1"]], "a": [["11", "1"]]}}).encode()


KIND = {forced: "liquidation", best: "quote"}
ORDERS = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"
QUOTES = "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount\n"


def bought(root: Path, seconds: Iterable[int], kind: str = "liquidation") -> Imported:
    """The same as a file: forced orders and quotes without ids, trades with theirs."""
    file = root.parent / "bought.csv"
    text = QUOTES if kind == "quote" else ORDERS
    for second in seconds:
        at, name = T0 + second * SECOND, second + 1 if kind == "trade" else ""
        row = "1,11,9,1" if kind == "quote" else f"{name},sell,1,1"
        text += f"binance-futures,BTCUSDT,{at},{at},{row}\n"
    file.write_text(text)
    asked = request_of(file, Options(exchange=MARKET[0], market_type=MARKET[1], kind=kind))
    with LakeWriter.open(root, "n", NOW) as writer:
        said = take_in(writer, InlineExecutor(), "n", NOW, asked, lambda *_: None)
        compact_once(writer, InlineExecutor(), NOW, CompactorConfig(), lambda *_: None, final=True)
    return said


@pytest.mark.parametrize("file_first", [True, False])
@pytest.mark.parametrize("kind, make, left", [("quote", best, 10), ("trade", trade, 0)])
def test_rows_of_a_file_without_the_ids_that_a_recording_has_are_not_doubled(
    tmp_path: Path, kind: str, make: Make, left: int, file_first: bool
) -> None:
    root = tmp_path / "lake"
    if file_first:
        bought(root, range(10, 20), kind)
    said = take(root, "theirs", recorded(make, range(30)))
    assert said.covered == ({kind: left} if file_first and left else {})
    if not file_first:
        assert bought(root, range(10, 20), kind).covered == left
    assert {second: len(who) for second, who in stored(root, kind).items()} == dict.fromkeys(range(30), 1)
    assert again(root, tmp_path).findings == []


@pytest.mark.parametrize("file_first", [True, False])
def test_a_file_and_a_recording_of_one_time_are_weighed_in_either_order(tmp_path: Path, file_first: bool) -> None:
    root = tmp_path / "lake"
    take(root, "own", own(forced))
    file, theirs = [*range(10, 70), 90], [*range(5, 80)]
    if file_first:
        assert bought(root, file).rows == len([*range(20, 25), *range(60, 70), 90])
        said = take(root, "theirs", recorded(forced, theirs))
        assert said.covered == {"liquidation": len(theirs)}
    else:
        take(root, "theirs", recorded(forced, theirs))
        assert bought(root, file).rows == 1
    held = stored(root, "liquidation")
    assert set(Counter(len(who) for who in held.values())) == {1}, "nothing twice"
    assert set(held) >= {*range(70), 90}
    assert again(root, tmp_path).findings == []


def test_of_two_recordings_of_one_time_the_first_one_stands_and_the_other_fills_what_is_open(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    take(root, "own", own(forced))
    first = recorded(forced, range(5, 64)) + b"\n" + recorded(forced, range(70, 80))  # a connection that ended
    assert take(root, "first", first).events == {"liquidation": 5 + 4 + 10}
    said = take(root, "second", recorded(forced, range(7, 90)))
    assert (said.events, said.covered) == ({"liquidation": 6 + 10}, {"liquidation": 83 - 16})
    held = stored(root, "liquidation")
    assert {second: len(who) for second, who in held.items()} == dict.fromkeys(range(90), 1)
    assert again(root, tmp_path).findings == []
    said = take(root, "third", recorded(forced, range(3, 95)))
    assert said.events == {"liquidation": 5}
    assert sorted(stored(root, "liquidation")) == [*range(95)]
    assert again(root, tmp_path).findings == []
    once_more = take(root, "second again", recorded(forced, range(7, 90)))
    assert (once_more.passed_over, once_more.events) == (83, {})


def test_a_part_of_a_recording_taken_in_anew_doubles_nothing(tmp_path: Path) -> None:
    """Its first message is another one, and so is the name of its connection."""
    root = tmp_path / "lake"
    take(root, "all", recorded(forced, range(60)))
    said = take(root, "part", recorded(forced, range(30, 50)))
    assert (said.events, said.covered, said.passed_over) == ({}, {"liquidation": 20}, 0)
    take(root, "behind", recorded(forced, range(60, 70)))
    assert {second: len(who) for second, who in stored(root, "liquidation").items()} == dict.fromkeys(range(70), 1)
    assert again(root, tmp_path).findings == []


@pytest.mark.parametrize("market, left", [("spot", 10), ("linear", 0)])
def test_an_archive_with_ids_of_its_own_that_came_first_is_not_doubled(tmp_path: Path, market: str, left: int) -> None:
    """The lines of Bybit's files of spot are numbered from 1; those of its futures have the names of the stream."""
    root, name = tmp_path / "lake", "n-1-9"
    with LakeWriter.open(root, "n", NOW) as writer:
        url = "https://public.bybit.com/x.csv.gz#sha256=0&kind=trade&as=x"
        row = SessionRow(
            session=name, exchange="bybit", market_type=market, source="archive", url=url, opened_at=NOW - 1
        )
        span = Coverage("bybit", market, "trade", "BTCUSDT", name, T0 + 5 * SECOND, T0 + 15 * SECOND)
        writer.record(sessions=[row], coverage=[span])
    data = b""
    for second in range(20):
        at = (T0 + second * SECOND) // 1000
        fill = {
            "T": at,
            "s": "BTCUSDT",
            "S": "Buy",
            "v": "1",
            "p": "1",
            "i": f"{second + 1}",
            "BT": False,
            "seq": second,
        }
        message = {"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": at, "data": [fill | {"L": "PlusTick"}]}
        data += line(second, json.dumps(message).encode())
    file = tmp_path / "raw"
    file.write_bytes(data)
    with LakeWriter.open(root, "n", NOW) as writer:
        said = replay([file], "bybit", market, writer, CONFIG, NOW)
    assert (said.rejected, said.events, said.covered) == ({}, {"trade": 20 - left}, {"trade": left} if left else {})


def test_what_was_under_way_when_a_recording_ended_is_in_the_one_that_goes_on(tmp_path: Path) -> None:
    """Other streams had told of a later time by then."""
    root = tmp_path / "lake"
    take(root, "first", recorded(forced, range(10)) + line(10, trade(13)))
    said = take(root, "behind", line(11, forced(10)) + line(14, forced(12)) + recorded(forced, range(15, 20)))
    assert (said.events, said.covered) == ({"liquidation": 7}, {})
    assert sorted(stored(root, "liquidation")) == [*range(11), 12, *range(15, 20)]
    take(root, "before", line(0, forced(1)) + line(20, forced(21)))
    assert again(root, tmp_path).findings == []


def test_a_recording_whose_rest_is_taken_in_later_is_weighed_as_one(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    take(root, "own", own(forced))
    files = [tmp_path / "theirs" / name for name in ("1", "2")]
    files[0].parent.mkdir()
    for file, seconds in zip(files, (range(5, 30), range(30, 70)), strict=True):
        file.write_bytes(recorded(forced, seconds))
    for count, covered in ((1, 20), (2, 30)):
        with LakeWriter.open(root, "n", NOW) as writer:
            said = replay(files[:count], *MARKET, writer, CONFIG, NOW)
            transform_once(writer, InlineExecutor(), NOW, TransformerConfig(), lambda *_: None)
            compact_once(writer, InlineExecutor(), NOW, CompactorConfig(), lambda *_: None, final=True)
        assert said.covered == {"liquidation": covered}
    assert {second: len(who) for second, who in stored(root, "liquidation").items()} == dict.fromkeys(range(70), 1)
    assert again(root, tmp_path).findings == []


def test_frames_that_are_read_again_become_the_same_rows(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    take(root, "own", own(forced))
    take(root, "theirs", recorded(forced, [*range(5, 61), 80]))
    outcome = again(root, tmp_path)
    assert outcome.findings == []
    assert [(one.kind, one.rows, one.derived) for one in outcome.days] == [("liquidation", 62, 62)]
    assert [row[2:] for row in gaps(root)] == [("repaired", "import")], "a gap that was closed since was one then"


def gaps(root: Path) -> list[tuple[float, float, str, str | None]]:
    """From when to when (s), state and source."""
    with Lake(root) as lake:
        rows = lake.manifest.gaps(*MARKET)
    spans = [((row.ts_from - T0) / SECOND, ((row.ts_to or 0) - T0) / SECOND) for row in rows]
    return [(*span, row.state, row.source) for span, row in zip(spans, rows, strict=True)]


@pytest.mark.parametrize("kind, make", [("liquidation", forced), ("quote", best), ("book_snapshot", levels)])
def test_gaps_of_every_kind_are_closed_where_a_recording_was_there_all_the_time(
    tmp_path: Path, kind: str, make: Make
) -> None:
    root = tmp_path / "lake"
    take(root, "own", own(make))
    take(root, "elsewhere", recorded(make, range(40, 50)))
    assert gaps(root) == [(19, 25, "open", None)]
    take(root, "theirs", recorded(make, range(5, 55)))
    assert gaps(root) == [(19, 25, "repaired", "import")]
    assert sorted(stored(root, kind)) == [*range(60)]
    (certificate,) = certificates(root, kind)
    assert certificate.open_gaps == 0


def certificates(root: Path, kind: str) -> list[CertificateRow]:
    with Lake(root) as lake:
        return [lake.manifest.certificates(file.path)[-1] for file in lake.manifest.files(kind)]


@pytest.mark.parametrize("make", [forced, best])
def test_of_a_gap_that_is_filled_in_part_the_rest_stays_open_until_that_comes(tmp_path: Path, make: Make) -> None:
    root, end = tmp_path / "lake", 1e-6
    take(root, "own", own(make))
    take(root, "middle", recorded(make, range(21, 24)))
    told = [(19, 21, "open", None), (21 - end, 23 + end, "repaired", "import"), (23, 25, "open", None)]
    assert gaps(root) == told
    assert again(root, tmp_path).findings == []
    take(root, "start", recorded(make, range(15, 22)))
    assert [row[2] for row in gaps(root)] == ["repaired", "repaired", "open"]
    take(root, "rest", recorded(make, range(20, 30)))
    assert [row[2] for row in gaps(root)] == ["repaired"] * 3
    assert {second: len(who) for second, who in stored(root, KIND[make]).items()} == dict.fromkeys(range(60), 1)
    assert again(root, tmp_path).findings == []


def test_a_gap_of_the_recording_too_stays_open(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    take(root, "own", own(best))
    take(root, "theirs", recorded(best, range(5, 20)) + b"\n" + recorded(best, range(26, 40)))
    assert [row[:3] for row in gaps(root)] == [(19, 25, "open"), (19, 25, "open"), (25 - 1e-6, 26, "repaired")]


@pytest.mark.parametrize("node, state", [("m", "repaired"), ("n", "open")])
def test_frames_of_another_node_close_what_this_one_lacks(tmp_path: Path, node: str, state: str) -> None:
    """A connection of the same node was there, and did not hear more than what was stored then."""
    root, lines = tmp_path / "lake", [FrameLine(ts_recv=T0, conn=f"{node}-9-1", dir="open", url="wss://x")]
    take(root, "own", own(best))
    for n, second in enumerate(range(10, 40), 1):
        at = T0 + second * SECOND + 31_000
        lines.append(FrameLine(ts_recv=at, conn=f"{node}-9-1", dir="recv", n=n, frame=best(second).decode()))
    take(root, "theirs", encode_frame_lines(lines))
    assert [row for row in gaps(root) if row[2] != "empty"] == [(19, 25, state, "import" if state != "open" else None)]


def test_what_own_capture_lacks_behind_the_event_that_a_recording_heard_last_is_not_forgotten(tmp_path: Path) -> None:
    """Both have one name; the connection of own capture lived on, and covers its own gap."""
    root, symbol = tmp_path / "lake", (*MARKET, "quote", "BTCUSDT")
    name, own_conn = gap_id(*symbol, 20, 0), "n-1-1"
    lines = [FrameLine(ts_recv=T0, conn=own_conn, dir="open", url="wss://x")]
    for n, second in enumerate([*range(20), *range(30, 60)], 1):
        at = T0 + second * SECOND + 30_000
        lines.append(FrameLine(ts_recv=at, conn=own_conn, dir="recv", n=n, frame=best(second).decode()))
    take(root, "own", encode_frame_lines(lines))
    with LakeWriter.open(root, "n", NOW) as writer:
        start, end = T0 + 19 * SECOND, T0 + 30 * SECOND
        told = (start, end, None, None, "stalled", "interval", "open", own_conn, end)
        writer.record_gaps([Gap(name, *symbol, *told)])
    take(root, "theirs", recorded(best, range(5, 20)) + b"\n" + recorded(best, range(26, 40)))
    end = 1e-6
    assert gaps(root) == [(19, 26, "open", None), (19, 26, "open", None), (26 - end, 30, "repaired", "import")]
    take(root, "third", recorded(best, range(22, 27)))
    told = [row[:3] for row in gaps(root) if row[2] == "open"]
    assert told == [(19, 22, "open"), (19, 22, "open")]


def test_a_file_without_ids_fills_a_gap_of_quotes_and_proves_nothing(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    take(root, "own", own(best))
    assert bought(root, range(60), "quote").rows == 5
    take(root, "elsewhere", recorded(best, range(40, 50)))
    assert gaps(root) == [(19, 25, "open", None)]


def test_with_ids_both_are_one(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    take(root, "own", own(trade))
    said = take(root, "theirs", recorded(trade, range(5, 70)))
    assert (said.events, said.covered) == ({"trade": 65}, {})
    assert {second: len(who) for second, who in stored(root, "trade").items()} == dict.fromkeys(range(70), 1)


@pytest.mark.parametrize("symbol", ["*", "ETHUSDT"])
def test_a_stream_of_all_symbols_covers_each_of_them(tmp_path: Path, symbol: str) -> None:
    root = tmp_path / "lake"
    with LakeWriter.open(root, "n", NOW) as writer:
        writer.record_coverage([Coverage(*MARKET, "liquidation", symbol, "n-1-1", T0, T0 + 30 * SECOND)])
    take(root, "theirs", recorded(forced, range(60)))
    assert sorted(stored(root, "liquidation")) == list(range(30 if symbol == "*" else 0, 60))
