"""docs/reading.md: its examples give what it says."""

import doctest
import re
from pathlib import Path

import pytest

from lake.rows import CertificateRow
from lake.tables import Parent
from market.times import DAY, HOUR, MINUTE, SECOND, Interval
from tests.support.lakes import STREAM, TestLake, bar_table
from tests.support.market_rows import T0, trade

PAGE = Path(__file__).parents[2] / "docs/reading.md"


@pytest.fixture
def data(tmp_path, monkeypatch):
    """The lake of the page, as `data` in the current folder."""
    made = TestLake(tmp_path / "data")
    rows = [trade(T0 + n * 30 * SECOND, str(100 + n / 2), "2", seq=n + 1) for n in range(120)]
    later = [trade(T0 + DAY + n * SECOND, str(200 + n / 2), "2", seq=n + 123) for n in range(3)]
    first = made.day("trade", rows[:100])
    second = made.day(
        "trade", rows, remove=[first.path], revision=1, parents=(Parent(first.path, first.sha256),)
    )  # fmt: skip
    for row, missing in ((first, 0), (second, 2)):
        held = {name: getattr(row, name) for name in ("path", "sha256", "kind", "symbol", "date", "revision", "rows")}
        made.writer.publish(certificates=[CertificateRow(**STREAM, **held, issued_at=T0, missing=missing)], now=T0)
    made.part("trade", later)
    made.day("bar_1m", bar_table(rows, covered=Interval(T0, T0 + DAY)))
    made.part("bar_1m", bar_table(later, covered=Interval(T0, T0 + DAY + MINUTE)))
    made.cover(T0, T0 + DAY + MINUTE)
    made.gap(T0 + HOUR, T0 + HOUR + SECOND, id_from=121, id_to=123)
    made.close()
    monkeypatch.chdir(tmp_path)


def test_the_examples_give_what_the_page_says(data):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) > 5
    test = doctest.DocTestParser().get_doctest("".join(blocks), {}, "reading.md", str(PAGE), 0)
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    failed, tried = runner.run(test, out=said.append)
    assert (failed, tried > 15) == (0, True), "".join(said)
