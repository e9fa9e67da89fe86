"""OKX's dated futures of static.okx.com: all expiries of a family in one file, of which each is taken by itself."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from cli.app import app
from collectors.files.archive import series
from collectors.files.archive.facts import Allowed
from collectors.files.archive.refused import Refused
from collectors.files.archive.rows import Reading
from collectors.files.archive.series import ArchiveFile
from collectors.files.archive.unpacking import blocks
from collectors.files.archive.zips import Caps
from compactor.config import CompactorConfig
from compactor.service import compact_once
from daemon.archiving import Done, archive_job
from daemon.config import Config
from lake import Lake
from lake.errors import WrongQuestion
from lake.manifest import Manifest
from lake.writer import LakeWriter
from market.times import HOUR, MINUTE, MS, Interval, subtract
from runtime.workers import InlineExecutor
from tests.support.archive_host import ArchiveHost, archive_host, csv, day_us, zipped
from tests.support.past import Quick

NEAR, FAR, NEVER = "BTC-USD-260626", "BTC-USD-261225", "BTC-USD-270326"
DAYS = ("2026-05-08", "2026-05-09", "2026-05-10")
NOW = day_us("2026-06-01")
NAMES = "instrument_name,trade_id,side,price,size,created_time"
OF = series.series_of("okx", "inverse", "trade", FAR)
FILE = ArchiveFile(DAYS[0], OF)
HUNDRED = Allowed(contract_size="100")


def begin(date: str) -> int:
    """Of a day of UTC+8."""
    return day_us(date) - 8 * HOUR


def lines(date: str, ids: Mapping[str, range]) -> list[str]:
    """Fills of a day, a minute apart, those of all instruments mixed, newest first."""
    told = itertools.chain.from_iterable(itertools.zip_longest(*([(name, one) for one in ids[name]] for name in ids)))
    return [
        f"{one[0]},{one[1]},{'buy' if one[1] % 2 else 'sell'},64000.{place % 10},{1 + place},"
        f"{(begin(date) + place * MINUTE) // MS}"
        for place, one in enumerate(one for one in told if one is not None)
    ][::-1]  # fmt: skip


def chain(made: list[str]) -> bytes:
    return zipped({"BTC-USD-futureschain.csv": csv([NAMES, *made])})


def read(made: list[str], of: series.Series = OF, allowed: Allowed = HUNDRED) -> tuple[pl.DataFrame | None, Reading]:
    file = ArchiveFile(DAYS[0], of)
    reading = Reading(file, allowed)
    found = [*reading.batches(blocks(io.BytesIO(chain(made)), file, Caps()))]
    return (pl.concat(found) if found else None), reading


def test_the_lines_of_one_future_are_taken_and_those_of_others_counted() -> None:
    made = lines(DAYS[0], {NEAR: range(50, 53), FAR: range(7, 12)})
    rows, reading = read(made)
    assert rows is not None
    assert sorted(rows["seq"]) == [7, 8, 9, 10, 11]
    assert rows["symbol"].unique().to_list() == [FAR]
    assert [made[number - 2].split(",")[1] for number in rows["frame_no"]] == [str(one) for one in rows["seq"]]
    assert (set(rows["qty_unit"]), set(rows["multiplier"])) == ({"contract"}, {"100"})
    facts = reading.facts
    assert (facts.rows, facts.others, facts.lines, facts.first_id, facts.last_id) == (5, 3, 9, 7, 11)
    assert reading.coverage == [Interval(begin(DAYS[0]) + MINUTE, begin(DAYS[0]) + 7 * MINUTE + 1)]


def test_a_file_without_a_line_of_a_future_proves_that_it_was_not_traded() -> None:
    rows, reading = read(lines(DAYS[0], {NEAR: range(50, 53)}))
    assert rows is None
    assert (reading.facts.rows, reading.facts.others) == (0, 3)
    assert reading.coverage == [FILE.span] == [Interval(begin(DAYS[0]), begin(DAYS[1]))]
    with pytest.raises(Refused, match="it has no rows"):
        read([])


def test_ids_follow_by_one_for_each_instrument() -> None:
    """What another one lacks is that one's matter."""
    made = lines(DAYS[0], {NEAR: range(50, 56), FAR: range(7, 12)})
    lacking = [one for one in made if not one.startswith((f"{NEAR},52", f"{FAR},9"))]
    with pytest.raises(Refused, match=r"ids: ids \[9, 10\) are missing"):
        read(lacking)
    assert read([one for one in made if not one.startswith(f"{NEAR},52")])[1].facts.others == 5
    _, reading = read(lacking, allowed=Allowed(holes=True, contract_size="100"))
    assert [(hole.id_from, hole.id_to) for hole in reading.facts.holes] == [(9, 10)]


def other(name: str, at: int = begin(DAYS[0])) -> str:
    return f"{name},1,buy,64000.1,1,{at // MS}"


@pytest.mark.parametrize(
    "line, rule, said",
    [
        (other("ETH-USD-261225"), "value", "instrument_name is no future of BTC-USD: 'ETH-USD-261225'"),
        (other("BTC-USDT-261225"), "value", "no future of BTC-USD"),
        (other("BTC-USD_UM-261225"), "value", "no future of BTC-USD"),
        (other("BTC-USD-SWAP"), "value", "no future of BTC-USD"),
        (other("BTC-USD"), "value", "no future of BTC-USD"),
        (other("BTC-USD-261225-C"), "value", "no future of BTC-USD"),
        (other("XBTC-USD-261225"), "value", "no future of BTC-USD"),
        (other(NEAR, begin(DAYS[1])), "period", "is not in 2026-05-08"),
        (other(NEAR, begin(DAYS[0]) - MS), "period", "is not in 2026-05-08"),
        (other(NEAR, begin(DAYS[0]) * 1000), "unit", "its times are in us"),
    ],
)
def test_lines_of_others_prove_what_file_it_is(line: str, rule: str, said: str) -> None:
    """So that no line of a future in it is a proof."""
    with pytest.raises(Refused, match=said) as caught:
        read([line])
    assert (caught.value.rule, caught.value.name) == (rule, FILE.name)


def test_its_files_are_those_of_the_family_and_no_others() -> None:
    assert FILE.path == "okex/traderecords/trades/daily/20260508/BTC-USD-futureschain-trades-2026-05-08.zip"
    assert OF.periods == ("daily",)
    linear = series.series_of("okx", "linear", "trade", "BTC-USD_UM-261225")
    assert "/BTC-USD_UM-futureschain-trades-" in linear.path("daily", DAYS[0])
    swap = series.series_of("okx", "inverse", "trade", "BTC-USD-SWAP")
    assert (swap.family, "/BTC-USD-SWAP-trades-" in swap.path("daily", DAYS[0])) == ("", True)
    for market, symbol in (("inverse", "BTC-USD"), ("spot", FAR), ("spot", "BTC-USD-SWAP"), ("inverse", f"{FAR}-C")):
        with pytest.raises(WrongQuestion, match="is no symbol of okx"):
            series.series_of("okx", market, "trade", symbol)
    with pytest.raises(WrongQuestion, match="is no symbol of okx inverse with files of book_delta"):
        series.series_of("okx", "inverse", "book_delta", FAR)
    assert series.published("okx", "inverse", "trade") == "daily, monthly; families: daily"
    assert series.published("okx", "spot", "trade") == "daily, monthly"


@pytest.fixture
def host() -> Iterator[ArchiveHost]:
    with archive_host() as made:
        yield made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    LakeWriter.open(tmp_path / "lake", "node", NOW).close()
    return tmp_path / "lake"


def put(host: ArchiveHost, date: str, made: list[str]) -> str:
    path = ArchiveFile(date, OF).path
    host.files[path] = chain(made)
    return path


def ask(root: Path, host: ArchiveHost, *symbols: str, now: int = NOW, **changed: Any) -> Done:
    """Of these dates of files: a day of UTC has two."""
    told: dict[str, Any] = {
        "exchange": "okx", "market_type": "inverse", "kind": "trade", "symbols": symbols, "contract_size": "100",
        "first": DAYS[0], "last": DAYS[1],
    }  # fmt: skip
    told = {name: value for name, value in {**told, **changed}.items() if value is not None}
    config = Config.model_validate(
        {"archives": {"mirrors": {"okx": {"base": host.address}}}, "collectors": {"node": "node"}}
    )
    with LakeWriter.open(root, "node", now) as writer:
        return archive_job(writer, InlineExecutor(), Quick(now), told, config, lambda *_: None)


def held(root: Path, symbol: str) -> list[int]:
    """Its ids; none where the lake has no trades at all."""
    rows = Lake(root).read("trade", exchange="okx").to_pylist()
    return sorted(row["seq"] for row in rows if row["symbol"] == symbol)


def covered(root: Path, symbol: str) -> list[Interval]:
    with closing(Manifest.read_only(root)) as manifest:
        rows = manifest.coverage("okx", "inverse", "trade", symbol)
    return sorted((Interval(row.ts_from, row.ts_to) for row in rows), key=lambda one: one.start)


def test_a_file_is_fetched_once_for_all_futures_that_are_asked_for(root: Path, host: ArchiveHost) -> None:
    paths = [
        put(host, date, lines(date, {NEAR: range(10 * place, 10 * place + 10), FAR: range(5 * place, 5 * place + 5)}))
        for place, date in enumerate(DAYS)
    ]
    done = ask(root, host, NEAR, FAR, NEVER)
    assert done.ok, done
    assert [(one.path, one.symbol, one.rows, one.others) for one in done.files] == [
        (path, symbol, rows, 15 - rows) for path in paths for symbol, rows in ((NEAR, 10), (FAR, 5), (NEVER, 0))
    ]
    assert [one.joined for one in done.files] == [None, None, None, True, True, None, True, True, None]
    # HEAD to see that it is there, HEAD for its version, GET: each once
    assert sorted(host.asked) == sorted([(path, None) for path in paths] * 3)
    assert held(root, NEAR) == [*range(30)]
    assert held(root, FAR) == [*range(15)]
    assert covered(root, NEVER) == [ArchiveFile(date, OF).span for date in DAYS]
    host.asked.clear()
    again = ask(root, host, NEVER, FAR, NEAR)
    assert ({one.state for one in again.files}, again.ok) == ({"known"}, True)
    assert sorted(host.asked) == sorted([(path, None) for path in paths] * 2), "none was fetched"
    more = ask(root, host, FAR, "BTC-USD-260925")
    assert [one.state for one in more.files] == ["known", "taken"] * 3
    assert not [path for path in (root / "archives").rglob("*.zip*") if path.suffix != ".json"]


@pytest.mark.parametrize("order", [*itertools.permutations(DAYS)])
@pytest.mark.parametrize("missing", [0, 4])
def test_days_without_a_trade_do_not_hide_what_is_missing(
    root: Path, host: ArchiveHost, order: tuple[str, ...], missing: int
) -> None:
    """Ids go on over them, or not, in whatever order the files come."""
    ids = {DAYS[0]: range(5, 11), DAYS[1]: range(0), DAYS[2]: range(11 + missing, 18)}
    for date in order:
        put(host, date, lines(date, {NEAR: range(3), FAR: ids[date]}))
        ask(root, host, FAR)
    with closing(Manifest.read_only(root)) as manifest:
        gaps = [(gap.id_from, gap.id_to) for gap in manifest.gaps("okx", "inverse", "trade", FAR, state="open")]
    assert gaps == ([(11, 15)] if missing else [])
    first, last = Interval(begin(DAYS[0]) + 8 * MINUTE, begin(DAYS[2]) + MINUTE), ArchiveFile(DAYS[1], OF).span
    left = subtract([last if missing else first], covered(root, FAR))
    assert not left, "from the last trade before to the first one after, where ids go on"


def test_a_bad_file_is_refused_for_each_and_another_series_is_never_asked_for(root: Path, host: ArchiveHost) -> None:
    good = put(host, DAYS[0], lines(DAYS[0], {NEAR: range(3), FAR: range(4)}))
    put(host, DAYS[1], [*lines(DAYS[1], {NEAR: range(3, 5)}), other("ETH-USD-261225", begin(DAYS[1]))])
    for wrong in ("BTC-USD", FAR):
        host.files[good.replace("BTC-USD-futureschain", wrong)] = b"something else"
    done = ask(root, host, NEAR, FAR)
    assert [(one.state, one.rule) for one in done.files] == [("taken", "")] * 2 + [("refused", "value")] * 2
    assert done.missing == {NEAR: [DAYS[2]], FAR: [DAYS[2]]}
    assert {one.symbol for one in done.rest} == {NEAR, FAR}
    assert all("-futureschain-trades-" in path for path, _ in host.asked)
    assert (held(root, NEAR), held(root, FAR)) == ([0, 1, 2], [0, 1, 2, 3])


def test_a_file_of_a_day_that_goes_on_is_no_proof(root: Path, host: ArchiveHost) -> None:
    """A day of UTC that is over is in two files, of which the second one is of a day that may not be."""
    for date in DAYS[:2]:
        put(host, date, lines(date, {NEAR: range(3)}))
    done = ask(root, host, FAR, now=begin(DAYS[1]) + 9 * HOUR, last=DAYS[0])
    assert [(one.state, one.rule) for one in done.files] == [("taken", ""), ("refused", "period")]
    assert covered(root, FAR) == [FILE.span]
    assert [one.state for one in ask(root, host, FAR, last=DAYS[0]).files] == ["known", "taken"]


def test_what_its_publisher_changes_is_told_of_each_future(root: Path, host: ArchiveHost) -> None:
    made = {date: lines(date, {NEAR: range(9 * n, 9 * n + 9), FAR: range(5 * n, 5 * n + 5)})
            for n, date in enumerate(DAYS)}  # fmt: skip
    for date, one in made.items():
        put(host, date, one)
    assert ask(root, host, NEAR, FAR, NEVER).ok
    with LakeWriter.open(root, "node", NOW) as writer:
        assert not compact_once(writer, InlineExecutor(), NOW, CompactorConfig(), retention=False).failures
    changed = [one.replace("64000.3", "64000.9") if one.startswith(FAR) else one for one in made[DAYS[1]]]
    path = put(host, DAYS[1], [*changed, other(NEVER, begin(DAYS[1]))])
    host.asked.clear()
    told = {"market_type": None, "kind": None, "contract_size": None, "first": None, "last": None, "recheck": True}
    done = ask(root, host, **told)
    new = {one.symbol: one for one in done.files if one.state == "replaced"}
    assert len(done.files) == 9
    counts = {name: (one.added, one.changed, one.removed) for name, one in new.items()}
    assert counts == {NEAR: (0, 0, 0), FAR: (0, 1, 0), NEVER: (1, 0, 0)}
    assert host.asked.count((path, None)) == 2, "its version once, and it once"
    assert (held(root, NEVER), len(held(root, NEAR))) == ([1], 27)
    assert {one.state for one in ask(root, host, **told).files} == {"known"}


def test_the_command_says_which_future_and_that_it_was_not_traded(tmp_path: Path) -> None:
    for date in DAYS:
        path = tmp_path / "mirror" / ArchiveFile(date, OF).path
        path.parent.mkdir(parents=True)
        path.write_bytes(chain(lines(date, {NEAR: range(5)})))
    words = ("archive", "--exchange", "okx", "--market-type", "inverse", "--symbol", NEVER, "--from", DAYS[0],
             "--contract-size", "100", "--source", tmp_path / "mirror", "--lake", tmp_path / "lake")  # fmt: skip
    done = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert f"not traded then: {FILE.name} {NEVER}: its 5 lines are of others" in done.output


@pytest.mark.parametrize("kind", ["trade", "book_delta", "kline", "funding_rate"])
@pytest.mark.parametrize(
    "exchange,linear,inverse",
    [
        ("okx", ("BTC-USDT-SWAP", "BTC-USDC-SWAP", "BTC-USD_UM-SWAP"), ("BTC-USD-SWAP",)),
        ("bybit", ("BTCUSDT", "BTCPERP", "BTC-26DEC25", "BTCUSDT-26DEC25", "USDEUSDT"), ("BTCUSD", "BTCUSDZ25")),
        ("kucoin", ("XBTUSDTM", "ETHUSDCM"), ("XBTUSDM", "XBTMZ26")),
    ],
)
def test_a_name_of_a_linear_contract_is_none_of_an_inverse_one_and_the_other_way_round(
    exchange: str, linear: tuple[str, ...], inverse: tuple[str, ...], kind: str
) -> None:
    """Their files lie in one place, and say sizes in other units."""
    if not series.load(exchange).of("linear", kind):
        return
    interval = "1m" if kind == "kline" else None
    for market, own, others in (("linear", linear, inverse), ("inverse", inverse, linear)):
        assert {series.series_of(exchange, market, kind, one, interval).symbol for one in own} == set(own)
        for one in others:
            with pytest.raises(WrongQuestion, match=f"is no symbol of {exchange} {market} with files of {kind}"):
                series.series_of(exchange, market, kind, one, interval)
