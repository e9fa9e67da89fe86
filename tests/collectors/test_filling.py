"""A bought book beside own capture: own goes first, the file fills what is open, and the book is right at all times."""

import contextlib
import itertools

import pytest

from collectors.files import blocks
from collectors.files.importing import parts_of, rehearse, request_of, take_in
from collectors.files.reading import Options, Refused
from compactor.config import CompactorConfig
from compactor.service import compact_once
from lake.errors import BookUnknown
from lake.manifest import Manifest
from lake.reader import Lake
from lake.verify import verify_lake
from lake.writer import LakeWriter
from market.times import DAY, SECOND, parse
from runtime.workers import InlineExecutor
from tests.support.book_rows import delta, whole
from tests.support.book_rows import table as books
from tests.support.bought_books import BOOK, MARKET, Market
from tests.support.lakes import TestLake
from tests.support.market_rows import T0

NOW = parse("2026-11-20T12:00:00Z")


def lake_of(folder, market, *spans, covered=True, **gap):
    """Own capture of some [first, last) of a market; between them are gaps."""
    held = TestLake(folder / "lake")
    rows = [row for first, last in spans for row in market.own(first, last)]
    if rows:
        held.part("book_delta", books(rows))
    for first, last in spans if covered else ():
        held.cover(market.at[first], market.at[last - 1] + 1, kind="book_delta")
    for (_, end), (start, _) in itertools.pairwise(spans):
        held.gap(market.at[end - 1], market.at[start], kind="book_delta", **gap)
    held.close()
    return held.root


def request(root, text, name="a.csv"):
    file = root.parent / name
    file.write_text(text)
    return request_of(file, Options(**MARKET))


def take(root, text, name="a.csv"):
    with LakeWriter.open(root, "node", NOW) as writer:
        return take_in(writer, InlineExecutor(), "node", NOW, request(root, text, name), lambda *_: None)


def gaps(root):
    manifest = Manifest.read_only(root)
    try:
        return manifest.gaps()
    finally:
        manifest.close()


def spans(said):
    return [(one.ts_from, one.ts_to) for one in said.filled.parts]


def close(root, now=NOW):
    with LakeWriter.open(root, "node", now) as writer:
        done = compact_once(writer, InlineExecutor(), now, CompactorConfig(), final=True, retention=False)
        assert not done.failures


def test_a_closed_day_that_a_file_fills_is_a_new_revision_and_a_sound_lake(tmp_path):
    market = Market(13, 120)
    root = lake_of(tmp_path, market, (20, 50), (60, 90))
    close(root, NOW - DAY)
    take(root, market.file(0, 120, wholes=(0,)))
    close(root)
    with LakeWriter.open(root, "node", NOW) as writer:
        [file] = writer.manifest.files("book_delta")
        assert (file.level, file.revision, file.rows) == ("day", 1, 120 + 8)
        with writer.manifest.snapshot() as now:
            found = verify_lake(root, now, lambda *_: None)
        assert [one for one in found.findings if one.severity == "error"] == []
    with Lake(root) as lake:
        assert all(market.right(lake, n) for n in range(120))
        rows = lake.read("book_delta").to_pylist()
        assert [row["flags"] for row in rows if row["source"] == "import" and row["flags"]] == [
            "clear", "snapshot", "clear", "clear", "snapshot", "clear", "clear", "snapshot", "clear"
        ]  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1, 3, 4])
@pytest.mark.parametrize("size", [None, 300])
def test_the_book_is_right_before_own_capture_in_its_gaps_and_behind_it(tmp_path, monkeypatch, seed, size):
    if size is not None:
        monkeypatch.setattr(blocks, "BLOCK", size)
        monkeypatch.setattr(blocks, "HEAD", size)
    market = Market(seed, 60)
    given_up = {"state": "unrepairable", "closed_at": NOW - 1} if seed % 2 else {}
    root = lake_of(tmp_path, market, (10, 25), (30, 45), **given_up)
    said = take(root, market.file(0, 60, wholes=(0,)))
    at = market.at
    assert spans(said) == [(at[0], at[10]), (at[24] + 1, at[30]), (at[44] + 1, at[59] + 1)]
    assert [(one.rows, one.folded) for one in said.filled.parts] == [(10, False), (5, True), (15, True)]
    assert (said.covered, said.other, said.quarantined, said.duplicates) == (30, 0, 0, 0)
    assert (said.rows, said.added) == (30 + 8, 8)
    assert said.filled.not_taken == []
    assert [one.levels == one.same for one in said.filled.parts] == [True] * 3
    assert [one.levels > 0 for one in said.filled.parts] == [False, True, True]
    [gap] = gaps(root)
    assert (gap.state, gap.source) == ("repaired", "import")
    for closed in (False, True):
        if closed:
            close(root)
        with Lake(root) as lake:
            assert all(market.right(lake, n) for n in range(60)), closed


class Narrow(Market):
    """Its whole books show some of the best levels only, as those of venues do; updates tell of others too."""

    depth = 2

    def whole(self, n):
        sides = [sorted(side, reverse=not place)[: self.depth] for place, side in enumerate(self.books[n])]
        return [[(str(one), str(self.books[n][place][one])) for one in side] for place, side in enumerate(sides)]


@pytest.mark.parametrize("depth, seed", [(2, 8), (2, 24), (3, 14), (4, 21)])
def test_beyond_what_a_whole_book_showed_nothing_is_known_where_a_part_begins_either(tmp_path, depth, seed):
    """What updates named out there is no book: what lies between was never told."""
    market = Narrow(seed, 60)
    market.depth = depth
    root = lake_of(tmp_path, market, (10, 20))
    said = take(root, market.file(0, 60, wholes=(0,)))
    assert [part.folded for part in said.filled.parts] == [False, True]
    known = []
    with Lake(root) as lake:
        for n in range(20, 60):
            with contextlib.suppress(BookUnknown):  # the market has left what was shown
                known.append(market.right(lake, n))
    assert len(known) >= 39
    assert all(known)


def test_how_a_bought_book_differs_from_own_capture_where_they_meet_is_counted(tmp_path):
    market = Market(12, 60)
    root = lake_of(tmp_path, market, (0, 30))
    other = f"bf,BTCUSDT,{market.at[25]},{market.at[25] + 9},false,bid,98.5,7\n"
    said = take(root, market.file(0, 60, wholes=(0,), line=lambda n: other if n == 25 else ""))
    [part] = said.filled.parts
    assert part.levels - part.same == 1


def test_what_a_dry_run_says_is_what_comes(tmp_path):
    market = Market(1, 60)
    root = lake_of(tmp_path, market, (20, 40))
    asked = request(root, market.file(0, 60, wholes=(0,)))
    manifest = Manifest.read_only(root)
    parts = parts_of(root, InlineExecutor(), manifest, asked)
    manifest.close()
    told = rehearse(asked, NOW, lambda *_: None, None, parts)
    with LakeWriter.open(root, "node", NOW) as writer:
        said = take_in(writer, InlineExecutor(), "node", NOW, asked, lambda *_: None)
    assert [(one.ts_from, one.ts_to, one.rows) for one in told.filled.parts] == [
        (one.ts_from, one.ts_to, one.rows) for one in said.filled.parts
    ]
    assert [(one.rows, one.covered, one.added) for one in (told, said)] == [(45, 20, 5)] * 2


def test_all_of_what_own_capture_covers_is_left_out(tmp_path):
    market = Market(2, 40)
    root = lake_of(tmp_path, market, (0, 40))
    said = take(root, market.file(5, 35, wholes=(5,)))
    assert (said.rows, said.covered, said.files, said.filled.parts) == (0, 30, 0, [])
    with Lake(root) as lake:
        assert lake.read("book_delta").num_rows == 40


def test_messages_before_any_whole_book_are_named_and_left_out(tmp_path):
    market = Market(3, 60)
    root = lake_of(tmp_path, market, (0, 20))
    said = take(root, market.file(10, 60, wholes=(40,)))
    assert spans(said) == [(market.at[40], market.at[59] + 1)]
    assert (said.covered, said.other) == (10, 20)
    [told] = said.filled.not_taken
    assert told.startswith(
        "2024-07-19T00:00:20Z to 2024-07-19T00:00:39.000001Z: 20 messages come before any whole book"
    )
    with Lake(root) as lake:
        assert market.right(lake, 45)
        with pytest.raises(BookUnknown):
            lake.book("BTCUSDT", at=market.at[30], **MARKET)


def test_a_message_that_is_none_leaves_the_book_unknown_until_a_whole_one(tmp_path):
    market = Market(4, 60)
    root = lake_of(tmp_path, market, (0, 30))
    bad = f"bf,BTCUSDT,{market.at[10]},{market.at[10] + 9},false,bid,99,much\n"
    said = take(root, market.file(0, 60, wholes=(0, 50), line=lambda n: bad if n == 10 else ""))
    assert spans(said) == [(market.at[50], market.at[59] + 1)]
    assert (said.covered, said.other, said.quarantined) == (31, 20, 0)


def test_where_own_updates_join_by_their_ids_nothing_is_put_between_them(tmp_path):
    market = Market(5, 40)
    held = TestLake(tmp_path / "lake")
    rows = market.own(0, 40)
    held.part("book_delta", books(rows[:20] + rows[25:]))
    held.cover(market.at[0], market.at[39] + 1, kind="book_delta")
    held.gap(market.at[19], market.at[25], kind="book_delta")
    held.part("book_delta", books([delta(market.at[25], 124, first=115, prev=119)]))
    held.close()
    said = take(held.root, market.file(0, 40, wholes=(0,)))
    assert (said.rows, said.covered) == (0, 40)
    [told] = said.filled.not_taken
    assert told.endswith("the lake's own updates join across it by their ids, so that none is missing there")
    assert [gap.state for gap in gaps(held.root)] == ["open"]


def test_updates_beside_what_is_covered_go_first(tmp_path):
    market = Market(6, 60)
    root = lake_of(tmp_path, market, (20, 40), covered=False)
    said = take(root, market.file(0, 60, wholes=(0,)))
    assert spans(said) == [(market.at[0], market.at[20]), (market.at[39] + 1, market.at[59] + 1)]
    assert "the lake has 20 updates there beside what it covers, and they go first" in said.filled.not_taken[0]
    with Lake(root) as lake:
        assert all(market.right(lake, n) for n in (*range(40), *range(41, 60)))


def test_two_files_of_one_time_are_not_mixed(tmp_path):
    market = Market(7, 60)
    root = lake_of(tmp_path, market, (0, 10))
    first = take(root, market.file(0, 40, wholes=(0,)))
    second = take(root, market.file(5, 60, wholes=(5,)), "b.csv")
    assert spans(first) == [(market.at[9] + 1, market.at[39] + 1)]
    assert spans(second) == [(market.at[39] + 1, market.at[59] + 1)]
    with Lake(root) as lake:
        assert all(market.right(lake, n) for n in range(60))


def test_a_day_of_which_the_lake_has_nothing_is_taken_as_it_is(tmp_path):
    market = Market(8, 30)
    held = TestLake(tmp_path / "lake")
    held.part("book_delta", books([whole(T0 + 3 * DAY, 9, [("9", "1")], [("11", "1")])]))
    held.close()
    said = take(held.root, market.file(0, 30, wholes=(0,)))
    assert (said.filled, said.rows, said.added) == (None, 31, 1)


@pytest.mark.parametrize("size, file_first", [(None, True), (300, False)])
def test_own_capture_just_behind_a_file_that_was_taken_whole_is_no_repeat_of_it(
    tmp_path, monkeypatch, size, file_first
):
    """The ids of the file are far above those of the venue: its end is said, and nothing behind it waits for more."""
    if size is not None:
        monkeypatch.setattr(blocks, "BLOCK", size)
        monkeypatch.setattr(blocks, "HEAD", size)
    market = Market(15, 20)
    if not file_first:  # on one day they are weighed against each other
        market.at = [at + DAY - 10 * SECOND for at in market.at]
    text = market.file(0, 10, wholes=(0,))
    root = lake_of(tmp_path, market, *(() if file_first else [(10, 20)]))
    said = take(root, text)
    if file_first:
        lake_of(tmp_path, market, (10, 20))
    with Lake(root) as lake:
        assert all(market.right(lake, n) for n in range(20))
        last = lake.read("book_delta").to_pylist()[10]
        assert (last["flags"], last["frame_no"], last["session"]) == ("clear", len(text.splitlines()), said.session)
    assert (said.filled, said.rows, said.added) == (None, 11, 1)
    assert (said.ts_from, said.ts_to) == (market.at[0], market.at[9] + 1)
    assert take(root, text).already


def test_a_time_that_goes_back_behind_a_border_stays_in_its_part(tmp_path):
    market = Market(9, 60)
    root = lake_of(tmp_path, market, (0, 30))
    early = f"bf,BTCUSDT,{market.at[20]},{market.at[40] + 9},false,bid,98.5,7\n"
    said = take(root, market.file(0, 60, wholes=(0,), line=lambda n: early if n == 40 else ""))
    assert said.filled.parts[0].rows == 31
    with Lake(root) as lake:
        rows = lake.read("book_delta", start=market.at[40], end=market.at[41]).to_pylist()
        assert [row["ts_estimated"] for row in rows] == [False, True]
        assert market.right(lake, 25)
        assert ("98.5", "7") in lake.book("BTCUSDT", at=market.at[45], **MARKET).bids


def test_a_file_of_another_book_in_the_middle_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 300)
    monkeypatch.setattr(blocks, "HEAD", 300)
    market = Market(10, 60)
    root = lake_of(tmp_path, market, (0, 10))
    text = market.file(0, 30, wholes=(0,)) + market.file(30, 60).removeprefix(BOOK).replace("BTCUSDT", "ETHUSDT")
    with pytest.raises(Refused, match=r"books of several symbols are in one file: BTCUSDT, ETHUSDT"):
        take(root, text)


def test_of_a_gap_that_is_filled_in_part_the_rest_stays_open(tmp_path):
    market = Market(11, 90)
    root = lake_of(tmp_path, market, (0, 10), (60, 90))
    said = take(root, market.file(30, 90, wholes=(30,)))
    assert spans(said) == [(market.at[30], market.at[60])]
    told = [(gap.ts_from, gap.ts_to, gap.state, gap.source) for gap in gaps(root)]
    at = market.at
    assert told == [(at[9], at[30], "open", None), (at[30] - 1, at[60], "repaired", "import")]
    with Lake(root) as lake:
        assert all(market.right(lake, n) for n in range(30, 90))
        with pytest.raises(BookUnknown, match="a gap"):
            lake.book("BTCUSDT", at=at[20], **MARKET)
    take(root, market.file(5, 40, wholes=(5,)), "b.csv")
    assert [(gap.state, gap.source) for gap in gaps(root)] == [("repaired", "import")] * 2
    with Lake(root) as lake:
        assert all(market.right(lake, n) for n in range(90))


def test_of_ids_that_are_missing_a_part_of_their_time_is_filled(tmp_path):
    """Which of the ids are in that time no file says: all of them are told of the rest."""
    market = Market(14, 60)
    root = lake_of(tmp_path, market, (0, 10), (40, 60), id_from=110, id_to=140, proof="ids")
    take(root, market.file(20, 30, wholes=(20,)))
    told = [(gap.ts_from, gap.ts_to, gap.state, gap.missing) for gap in gaps(root)]
    at = market.at
    assert told == [
        (at[9], at[20] + 1, "open", 30),
        (at[20] - 1, at[29] + 2, "repaired", 30),
        (at[29], at[40], "open", 30),
    ]
