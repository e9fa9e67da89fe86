"""A book of raw data beside a file of the same book: whoever came first stands, and the book is right at all times."""

import gzip
import os
import re
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from collectors.config import CollectorsConfig
from collectors.files import filling
from collectors.files.importing import request_of, take_in
from collectors.files.reading import Options
from collectors.replay import replay
from collectors.replaying import adapter
from collectors.slices import Recording, SliceReader
from compactor.config import CompactorConfig
from compactor.service import compact_once
from daemon.rederiving import Rederiver, Wanted
from lake.adopting import Published
from lake.errors import BookUnknown
from lake.frames import FrameLine, encode_frame_lines
from lake.reader import Lake
from lake.verify import verify_lake
from lake.writer import LakeWriter
from market import times
from market.kinds import KINDS
from market.times import DAY, SECOND
from runtime.workers import InlineExecutor
from tests.support.bought_books import MARKET, Market
from tests.support.market_rows import T0
from transformer.config import TransformerConfig
from transformer.service import transform_once

NOW = T0 + 10 * DAY
CONFIG = CollectorsConfig(node="n")
SAMPLES = Path(os.environ.get("LAKE_SAMPLES", Path(__file__).parents[2].parent / "shared" / "samples"))


class Taking:
    """A lake that takes in one thing after another, a second apart."""

    def __init__(self, folder: Path, market=("binance", "linear")) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.root, self.now, self.market = folder, folder / "lake", NOW, market

    def own(self, market, *spans):
        """Own capture: a connection for each of some [first, last), which asked for its book at once."""
        lines = []
        for place, (first, last) in enumerate(spans, 1):
            path = self._put(market.raw(first, last, wholes=(first,), late=20), f"own{place}")
            recording = Recording("", adapter("binance"), self.now)
            told = [line for _, line in SliceReader(path, recording).pairs()]
            told[0].url = "wss://x"
            lines += [msgspec.structs.replace(line, conn=f"n-1-{place}") for line in told]
            reason = "stopped" if last == spans[-1][1] else "disconnect"
            end = lines[-1]
            lines.append(FrameLine(ts_recv=end.ts_recv, conn=end.conn, dir="close", n=end.n, reason=reason))
        return self.raw(encode_frame_lines(lines))

    def file(self, text):
        path = self._put(text.encode())
        with self.writer() as writer:
            asked = request_of(path, Options(**MARKET))
            return take_in(writer, InlineExecutor(), "n", self.now, asked, lambda *_: None)

    def raw(self, data):
        path = self._put(data)
        with self.writer() as writer:
            said = replay([path], *self.market, writer, CONFIG, self.now)
            transform_once(writer, InlineExecutor(), self.now, TransformerConfig(), lambda *_: None)
        return said

    def close(self):
        with self.writer() as writer:
            done = compact_once(writer, InlineExecutor(), self.now, CompactorConfig(), final=True, retention=False)
            assert not done.failures
            with writer.manifest.snapshot() as now:
                found = verify_lake(self.root, now, lambda *_: None)
        assert [one for one in found.findings if one.severity == "error"] == []

    def again(self):
        """All of its frames through the parsers once more."""
        with Rederiver(self.root, Wanted(*self.market), CONFIG, self.now, self.folder) as work:
            while work.step():
                pass
        assert work.outcome.findings == []
        assert sum(one.different for one in work.outcome.days) == 0

    def right(self, market, places):
        with Lake(self.root) as lake:
            assert [n for n in places if not market.right(lake, n)] == []

    def rows(self):
        with Lake(self.root) as lake:
            return lake.read("book_delta").to_pylist()

    def gaps(self):
        with self.writer() as writer:
            return writer.manifest.gaps()

    def writer(self):
        self.now += SECOND
        return LakeWriter.open(self.root, "n", self.now)

    def _put(self, data, name="a.csv"):
        path = self.folder / f"{self.now}" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return path


@pytest.fixture
def held(tmp_path):
    return Taking(tmp_path)


@pytest.mark.parametrize("seed", range(2))
def test_raw_data_goes_round_a_file_that_was_imported_before(held, seed):
    market = Market(seed, 60)
    held.file(market.file(20, 40, wholes=(20,)))
    said = held.raw(market.raw(0, 60, wholes=(3,)))
    assert (said.covered, said.damage, said.gaps) == ({"book_delta": 20}, [], 0)
    (told,) = said.not_taken
    assert told == (
        "BTCUSDT 2024-07-19T00:00:20Z to 2024-07-19T00:00:39.000001Z: 20 updates of its book were left out, for a file"
        " that was taken in before has it; behind it the book begins with what all updates of the recording had come to"
    )
    places = [4, 10, 19, 20, 21, 30, 39, 40, 41, 50, 59]
    held.right(market, places)
    held.again()
    held.close()
    held.right(market, places)
    held.again()
    flags = [(row["flags"], row["source"]) for row in held.rows() if row["flags"] not in ("", "gap_before")]
    assert flags == [
        ("snapshot", "rest"), ("clear", "derived"), ("snapshot", "import"), ("clear", "import"), ("clear", "derived"),
        ("snapshot", "derived"),
    ]  # fmt: skip


def test_in_the_other_order_the_file_fills_what_the_raw_data_leave_open(held):
    market = Market(1, 60)
    held.raw(market.raw(10, 40, wholes=(10,)))
    said = held.file(market.file(0, 60, wholes=(0,)))
    assert (said.rows - said.added, said.covered) == (30, 30)
    held.right(market, [0, 5, 9, 10, 11, 25, 39, 40, 41, 50, 59])
    held.again()


def test_one_after_the_other_each_takes_what_is_open_and_nothing_twice(held):
    market = Market(2, 80)
    held.own(market, (0, 10), (50, 55))
    held.file(market.file(5, 30, wholes=(5,)))
    said = held.raw(market.raw(8, 60, wholes=(9,)))
    assert said.covered == {"book_delta": 20}
    said = held.file(market.file(20, 80, wholes=(20,)))
    assert (said.rows - said.added, said.covered) == (20, 40)
    said = held.raw(market.raw(25, 80, wholes=(26,), late=5))
    assert said.covered == {"book_delta": 5 + 1 + 20}
    assert sum("BTCUSDT" in one for one in said.not_taken) == 2
    assert {(gap.state, gap.source) for gap in held.gaps()} == {("repaired", "import")}
    places = [3, 9, 10, 11, 20, 29, 30, 31, 40, 49, 50, 54, 55, 59, 60, 61, 79]
    held.right(market, places)
    held.close()
    held.right(market, places)
    held.again()
    observed = [row["ts_event"] for row in held.rows() if not row["flags"] or row["flags"] == "gap_before"]
    assert len(observed) == len(set(observed))


def test_raw_data_of_which_no_whole_book_is_known_leave_the_book_unknown_until_one(held):
    market = Market(3, 60)
    held.file(market.file(0, 20, wholes=(0,)))
    said = held.raw(market.raw(10, 60, wholes=(40,)))
    assert said.not_taken[0].endswith("behind it the book is unknown until the recording tells a whole one")
    held.right(market, [0, 10, 19, 41, 59])
    with Lake(held.root) as lake, pytest.raises(BookUnknown):
        lake.book("BTCUSDT", at=market.at[30], **MARKET)
    held.again()


def test_the_same_raw_data_and_the_same_file_again_change_nothing(held):
    market = Market(4, 40)
    text, data = market.file(10, 20, wholes=(10,)), market.raw(0, 40, wholes=(1,))
    held.file(text)
    held.raw(data)
    before = held.rows()
    assert held.file(text).already
    said = held.raw(data)
    assert (said.frames, said.events, said.passed_over) == (0, {}, 41)
    assert held.rows() == before


@pytest.mark.parametrize("wholes, more", [((2,), (31,)), ((2,), ())])
def test_two_recordings_of_one_book_are_one_by_their_ids(held, wholes, more):
    market = Market(5, 60)
    held.raw(market.raw(0, 40, wholes=wholes))
    held.raw(market.raw(20, 60, wholes=more, late=3))
    places = [3, 19, 20, 21, 30, 39, 40, 41, 59]
    held.right(market, places)
    held.close()
    held.right(market, places)
    held.again()
    observed = [row["last_id"] for row in held.rows() if "snapshot" not in row["flags"]]
    assert sorted(observed) == [100 + n for n in range(60)]


def test_updates_just_behind_a_file_that_says_nothing_of_its_end_are_no_repeats_of_it(held, monkeypatch):
    """Versions before this one imported files so."""
    monkeypatch.setattr(filling, "close", lambda *_: Published())
    market = Market(6, 40)
    held.file(market.file(0, 20, wholes=(0,)))
    said = held.raw(market.raw(20, 40, wholes=(22,)))
    assert (said.covered, said.not_taken) == ({}, [])
    held.right(market, [0, 19, 23, 30, 39])
    held.again()


def elsewhere(market, first, last):
    """Frames of another node, which was there from first to last."""
    path_of = market.raw(first, last, wholes=(first,), late=31)
    lines = [FrameLine(ts_recv=market.at[first] + 31_000, conn="m-1-1", dir="open", url="wss://x")]
    for n, text in enumerate(path_of.splitlines(), 1):
        at, _, frame = text.partition(b" ")
        lines.append(FrameLine(ts_recv=times.parse(at.decode()), conn="m-1-1", dir="recv", n=n, frame=frame.decode()))
    return encode_frame_lines([line for line in lines if line.frame is None or "Snapshot" not in line.frame])


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize(
    "first, last, left", [(15, 45, []), (25, 30, [(120, 125), (130, 140)]), (10, 30, [(130, 140)])]
)
def test_ids_of_a_book_that_another_node_has_close_its_gap_or_leave_less_of_it(held, closed, first, last, left):
    market = Market(7, 60)
    held.own(market, (0, 20), (40, 60))
    if closed:
        held.close()
    held.raw(elsewhere(market, first, last))
    held.close()
    rows = [gap for gap in held.gaps() if gap.cause == "disconnect"]
    told = [(gap.id_from, gap.id_to, gap.ts_from, gap.ts_to) for gap in rows if gap.state == "open"]
    assert told == [(a, b, market.at[a - 101], market.at[b - 100] + 1) for a, b in left]
    closed = [(gap.source, gap.proof, gap.missing) for gap in rows if gap.state == "repaired"]
    assert closed == ([] if left else [("late", "ids", 20)])


def test_what_a_recording_has_of_a_book_is_told_by_time_at_once_and_by_ids_when_the_day_is_closed(held):
    market = Market(8, 60)
    held.own(market, (0, 20), (40, 60))
    held.raw(market.raw(10, 30, wholes=(11,)))
    at = market.at
    told = [(gap.ts_from, gap.ts_to, gap.state, gap.missing) for gap in held.gaps()]
    assert told == [(at[19], at[29] + 2, "repaired", 20), (at[29], at[40] + 1, "open", 20)]
    held.close()
    assert [(gap.state, gap.missing) for gap in held.gaps()] == [("repaired", 20), ("open", 10)]
    held.right(market, [0, 19, 20, 25, 28, 41, 59])
    with Lake(held.root) as lake, pytest.raises(BookUnknown):
        lake.book("BTCUSDT", at=at[35], **MARKET)
    held.raw(market.raw(25, 50, wholes=(26,), late=17))
    assert {gap.state for gap in held.gaps()} == {"repaired"}
    held.close()
    held.right(market, range(60))
    held.again()


def recording(name):
    """Messages of a real connection, as tardis.dev's API gives such."""
    lines = []
    for line in gzip.decompress((SAMPLES / name).read_bytes()).splitlines():
        found = re.fullmatch(rb"([0-9]+)\.([0-9]{1,6})[0-9]*: ([{\[].*)", line)
        if found is not None:
            at = times.text(int(found[1]) * SECOND)[:-1]
            lines.append(f"{at}.{found[2].decode():0<6}0Z ".encode() + found[3] + b"\n")
    return lines


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="recordings are missing")
@pytest.mark.parametrize(
    "name, market, first",
    [
        ("kucoin/cf_20210425_first1000.ws.txt.gz", ("kucoin", "spot"), 1),
        ("binance/cf_spot_20211012.ws.txt.gz", ("binance", "spot"), 0),
    ],
)
def test_two_parts_of_a_real_recording_that_overlap_are_the_rows_of_all_of_it(tmp_path, name, market, first):
    lines = recording(name)
    parts = [lines[: len(lines) * 6 // 10], lines[len(lines) * 3 // 10 :]]
    found = []
    for place, taken in enumerate([[lines], parts[first:] + parts[:first]]):
        held = Taking(tmp_path / str(place), market)
        for part in taken:
            held.raw(b"".join(part))
        rows = Counter[str]()
        for kind in ("trade", "agg_trade", "quote", "book_delta", "kline"):
            with Lake(held.root) as lake:
                columns = ["symbol", *KINDS[kind].key, *(["bids", "asks"] if kind == "book_delta" else [])]
                rows.update(f"{kind} {row}" for row in lake.read(kind, exchange=market[0], columns=columns).to_pylist())
        held.again()
        found.append(rows)
    assert found[0] == found[1]
    assert max(found[0].values()) == 1
    assert sum(found[0].values()) > len(lines) * 0.9
