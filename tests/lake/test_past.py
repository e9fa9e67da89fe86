"""Earlier answers: a revision of closed days, and what was live at a time; or an error, never a smaller answer."""

import pytest

from compactor import retention
from lake import completeness
from lake.errors import NotHeld, WrongQuestion
from lake.tables import Parent
from market.times import DAY, HOUR, SECOND
from tests.support.lakes import TestLake, bar_table
from tests.support.market_rows import T0, trade


class TimedLake(TestLake):
    """Published at a time of its own."""

    now = T0

    def _publish(self, kind, data, remove=(), **placement):
        from lake.publish import Placement, publish

        row = publish(self.root, Placement(kind=kind, **placement), [data], run="test", now=self.now)
        self.writer.publish(add=[row], remove=remove, now=self.now)
        return row


@pytest.fixture
def made(tmp_path):
    lake = TimedLake(tmp_path / "lake")
    yield lake
    lake.close()


def ids(table) -> list[int]:
    return table.column("seq").to_pylist()


def parents(*rows) -> dict:
    return {"parents": tuple(Parent(row.path, row.sha256) for row in rows)}


def life(made: TimedLake) -> list:
    """A part at T0, a daily file a day later, its revision a day after that; the next day is hot."""
    rows = [trade(T0 + n, "10", "1", seq=n + 1) for n in range(4)]
    part = made.part("trade", rows[:2])
    made.now = T0 + DAY
    first = made.day("trade", rows[:3], remove=[part.path], **parents(part))
    made.part("trade", [trade(T0 + DAY, "10", "1", seq=9)])
    made.now = T0 + 2 * DAY
    second = made.day("trade", rows, remove=[first.path], revision=1, **parents(first))
    return [part, first, second]


def test_what_was_live_at_a_time_is_read_again(made, lake):
    life(made)
    assert ids(lake.read("trade")) == [1, 2, 3, 4, 9]
    asked = {T0 - 1: [], T0: [1, 2], T0 + DAY - 1: [1, 2], T0 + DAY: [1, 2, 3, 9], "2024-07-21": [1, 2, 3, 4, 9]}
    for at, expected in asked.items():
        assert ids(lake.read("trade", as_of=at)) == expected, at
        assert lake.scan("trade", as_of=at).collect()["seq"].to_list() == expected
        assert ids(lake.batches("trade", as_of=at).read_all()) == expected
    assert lake.completeness("trade", as_of=T0 + DAY + HOUR).complete_until == T0 + DAY


def test_a_revision_is_read_by_its_number(made, lake):
    life(made)
    assert ids(lake.read("trade", version=0)) == [1, 2, 3]
    assert ids(lake.read("trade", version=1)) == [1, 2, 3, 4], "what is hot has no revision"
    with pytest.raises(NotHeld, match=r"trade of binance linear BTCUSDT on 2024-07-19 has no revision 2 \(it has 0, 1"):
        lake.read("trade", version=2)


def test_what_is_deleted_or_forgotten_is_an_error(made, lake):
    part, first, _ = life(made)
    (made.root / first.path).unlink()
    with pytest.raises(NotHeld, match=r"revision 0 of trade .* was replaced at 2024-07-21T00:00:00Z and is deleted"):
        lake.read("trade", version=0)
    with pytest.raises(NotHeld, match="is no longer kept"):
        lake.read("trade", as_of=T0 + DAY)
    assert ids(lake.read("trade", as_of=T0)) == [1, 2]
    (made.root / part.path).unlink()
    made.writer.mark_unlinked([part.path, first.path], T0 + 3 * DAY)
    made.writer.forget_retired(T0 + 30 * DAY, T0 + 31 * DAY)
    for at in (T0, T0 + DAY):
        with pytest.raises(NotHeld, match="is no longer known"):
            lake.read("trade", as_of=at)
    assert ids(lake.read("trade", as_of=T0 + 2 * DAY)) == [1, 2, 3, 4, 9]
    assert ids(lake.read("trade", as_of=T0 + DAY, start=T0 + DAY)) == [9], "of that day nothing is forgotten"


def test_bars_of_the_past_are_missed_by_the_trades_they_came_from(made, lake):
    rows = [trade(T0 + n, "10", "1", seq=n + 1) for n in range(2)]
    part = made.part("trade", rows)
    bars = made.part("bar_1m", bar_table(rows), **parents(part))
    made.now = T0 + DAY
    day = made.day("trade", rows, remove=[part.path], **parents(part))
    made.day("bar_1m", bar_table(rows), remove=[bars.path], **parents(day))
    assert lake.bars("5m", as_of=T0).num_rows == 1
    made.writer.mark_unlinked([bars.path], T0 + 2 * DAY)
    (made.root / bars.path).unlink()
    with pytest.raises(NotHeld, match="is no longer kept"):
        lake.bars("5m", as_of=T0)
    made.writer.forget_retired(T0 + 30 * DAY, T0 + 31 * DAY)
    with pytest.raises(NotHeld, match="is no longer known"):
        lake.bars("5m", as_of=T0)


def test_the_gaps_of_an_earlier_answer_are_those_known_then(made, lake):
    rows = [trade(T0, "10", "1", seq=1)]
    made.day("bar_1m", bar_table(rows))
    made.gap(T0, T0 + SECOND, detected_at=T0 + HOUR, state="repaired", closed_at=T0 + 2 * HOUR)
    closes = lambda at: lake.bars("1m", as_of=at).column("close").to_pylist()  # noqa: E731
    assert [closes(T0 + at) for at in (0, HOUR, 2 * HOUR)] == [[10.0], [None], [10.0]]
    told = completeness.of(lake.bars("1m", as_of=T0 + HOUR))
    assert told is not None
    assert told.gap_count == 1


def test_wrong_choices_are_named(lake):
    for version in (-1, True, "1"):
        with pytest.raises(WrongQuestion, match="is no revision"):
            lake.read("trade", version=version)
    with pytest.raises(WrongQuestion, match="both choose"):
        lake.read("trade", version=1, as_of=T0)


def test_replaced_daily_files_are_kept_for_as_long_as_is_asked_for(made, lake):
    part, first, _ = life(made)
    retired = lake.manifest.retired(T0 + 9 * DAY)
    keep = retention.Keep(grace=HOUR, forget=0, rehash=0, raw=0, frames=0, versions=5 * DAY)
    gone = lambda at: retention.plan(retired, [], {}, [], at, keep).files  # noqa: E731
    assert gone(T0 + 3 * DAY) == [part.path]
    assert sorted(gone(T0 + 7 * DAY)) == sorted([part.path, first.path])
