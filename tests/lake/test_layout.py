"""Paths and names: reversible, inside the lake, the same on every file system."""

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake import layout
from market.errors import Malformed, UnknownKind
from market.times import SECOND, parse

AT = parse("2026-11-20T13:45:00")
SHA = "0123456789abcdef" * 4
HOSTILE = [
    "../../etc/passwd", "..", ".", "/etc", "a/b", "a\\b", "CON", "NUL.TXT", "COM1", "LPT9.x", "AUX", "%2e%2e", "%",
    "a\0b", "BTCUSDT.", "BTC USDT ", "x" * 300, "我踏马来了USDT", "🚀" * 80, "btcusdt", "C:", "a:b", "a*b", "-x", "_x",
    ".hidden", "\ud800", "\n", "~", "%~AB", "İ", "ß",
]  # fmt: skip


def test_safe_names_stay_as_they_are() -> None:
    for name in ("BTCUSDT", "BTC-USD", "1000SATSUSDT", "BTCUSDT_261225", "BTC-26DEC26-100000-C"):
        assert layout.encode_name(name) == name
    assert layout.encode_name("BTC/USD") == "BTC%2FUSD"
    with pytest.raises(Malformed):
        layout.encode_name("")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_one_harmless_component(name: str) -> None:
    encoded = layout.encode_name(name)
    assert len(encoded) <= layout.MAX_NAME
    path = layout.table_dir("binance", "spot", "trade", name, "2026-11-20")
    parts = PurePosixPath(path).parts
    assert len(parts) == len(PurePosixPath(layout.table_dir("binance", "spot", "trade", "A", "2026-11-20")).parts)
    assert ".." not in parts
    assert encoded.split(".")[0] not in {"CON", "NUL", "COM1", "LPT9", "AUX", ""}
    assert not encoded.endswith((".", " "))
    if "%~" in encoded:
        with pytest.raises(Malformed, match="shortened"):
            layout.decode_name(encoded)
    else:
        assert layout.decode_name(encoded) == name


@given(st.lists(st.text(min_size=1, max_size=60), min_size=2, max_size=8, unique=True))
def test_no_two_names_meet_even_where_case_is_ignored(names: list[str]) -> None:
    encoded = [layout.encode_name(name) for name in names]
    assert len({name.casefold() for name in encoded}) == len(names)
    for name, text in zip(names, encoded, strict=True):
        assert text.isascii()
        if "%~" not in text:
            assert layout.decode_name(text) == name


@given(st.text(alphabet="ABz%20F.~é/", min_size=1, max_size=12))
def test_only_what_the_encoder_writes_is_decoded(text: str) -> None:
    try:
        name = layout.decode_name(text)
    except Malformed:
        return
    assert layout.encode_name(name) == text


def test_segment_and_frames_paths_say_where_they_come_from() -> None:
    path = layout.raw_path("binance", "spot", "trade", AT, "box1", 123)
    assert path == "raw/exchange=binance/market_type=spot/data_type=trade/date=2026-11-20/134500-box1-000123.jsonl"
    parsed = layout.parse_raw(path)
    assert (parsed.kind, parsed.opened_at, parsed.node, parsed.number, parsed.open) == ("trade", AT, "box1", 123, False)
    assert layout.parse_raw(path + layout.OPEN).open
    assert layout.parse_raw(path + layout.OPEN).path == path
    assert layout.meta_path(path + layout.OPEN) == path + ".meta.json"
    frames = layout.frames_path("binance", "linear", AT, "box1", 1_234_567)
    assert frames == "frames/exchange=binance/market_type=linear/date=2026-11-20/134500-box1-1234567.frames.jsonl.zst"
    assert layout.parse_frames(frames).kind == layout.FRAMES
    assert layout.parse_frames(frames).number == 1_234_567


@given(
    st.integers(0, 4_000_000_000).map(lambda s: s * SECOND),
    st.from_regex(r"[a-z0-9]{1,32}", fullmatch=True),
    st.integers(0, 10**8),
)
def test_a_segment_path_is_taken_apart_into_what_it_was_made_of(at: int, node: str, number: int) -> None:
    parsed = layout.parse_raw(layout.raw_path("okx", "linear", "quote", at, node, number))
    assert (parsed.exchange, parsed.market_type, parsed.kind) == ("okx", "linear", "quote")
    assert (parsed.opened_at, parsed.node, parsed.number) == (at, node, number)


def test_parquet_paths_say_what_is_in_them() -> None:
    where = ("binance", "spot", "trade")
    name = layout.parquet_name("trade", AT, AT + 59 * SECOND + 999_000, 2, SHA)
    hot = f"{layout.hot_dir(*where, '2026-11-20', 13)}/{name}"
    assert hot == (
        "hot/exchange=binance/market_type=spot/data_type=trade/year=2026/month=11/day=20/hour=13/"
        "trade-134500000-134559999-g2-01234567.parquet"
    )
    assert layout.parse_parquet(hot).hour == 13
    assert layout.parse_parquet(hot).symbol is None
    version = f"{layout.version_dir(*where, 'BTC/USD', '2026-11-20')}/{name}"
    assert version == (
        "versions/exchange=binance/market_type=spot/data_type=trade/symbol=BTC%2FUSD/year=2026/month=11/day=20/"
        "trade-134500000-134559999-g2-01234567.parquet"
    )
    parsed = layout.parse_parquet(version)
    assert (parsed.symbol, parsed.date, parsed.hour, parsed.generation) == ("BTC/USD", "2026-11-20", None, 2)
    assert (parsed.first, parsed.last, parsed.sha8) == ("134500000", "134559999", SHA[:8])
    table = f"{layout.table_dir(*where, 'BTC/USD', '2026-11-20')}/{name}"
    assert table.removeprefix("tables") == version.removeprefix("versions")
    assert layout.parse_parquet(table).tree == layout.TABLES
    hourly = layout.version_dir("binance", "spot", "mark_price", None, "2026-11-20", 7) + f"/mark_price{name[5:]}"
    assert (layout.parse_parquet(hourly).symbol, layout.parse_parquet(hourly).hour) == (None, 7)


def test_what_is_set_aside_mirrors_where_it_was() -> None:
    raw = layout.raw_path("binance", "spot", "trade", AT, "box1", 1)
    assert layout.quarantine_path(raw + layout.OPEN, "tail-12") == f"quarantine/{raw}.tail-12"
    for origin in ("../x", "", "/x", "a/../b", "a b"):
        with pytest.raises(Malformed):
            layout.quarantine_path(origin, "tail")
    with pytest.raises(Malformed):
        layout.quarantine_path(raw, "../tail")


def test_the_ledger_has_a_file_a_day_and_writer() -> None:
    assert layout.ledger_path("2026-11-20", "box1") == "ledger/2026-11-20-box1.jsonl"
    assert layout.parse_ledger("ledger/2026-11-20-box1.jsonl") == ("2026-11-20", "box1")
    for path in ("ledger/2026-13-20-box1.jsonl", "ledger/x.jsonl", "ledger/2026-11-20-../x.jsonl"):
        with pytest.raises(Malformed):
            layout.parse_ledger(path)


@pytest.mark.parametrize(
    "call",
    [
        lambda: layout.raw_path("../x", "spot", "trade", AT, "box1", 1),
        lambda: layout.raw_path("binance", "margin", "trade", AT, "box1", 1),
        lambda: layout.raw_path("binance", "spot", "trade", AT, "box-1", 1),
        lambda: layout.raw_path("binance", "spot", "trade", AT, "box1", -1),
        lambda: layout.table_dir("binance", "spot", "trade", "A", "20261120"),
        lambda: layout.table_dir("binance", "spot", "trade", "A", "2026-02-30"),
        lambda: layout.table_dir("binance", "spot", "trade", "A", "2026-W47-5"),
        lambda: layout.hot_dir("binance", "spot", "trade", "2026-11-20", 24),
        lambda: layout.parquet_name("trade", AT, AT, 1, "../../x"),
        lambda: layout.parse_raw(
            "raw/exchange=binance/market_type=spot/data_type=trade/date=2026-11-20/994500-b-000001.jsonl"
        ),
        lambda: layout.parse_raw("raw/x"),
        lambda: layout.parse_frames("frames/x"),
        lambda: layout.parse_parquet("tables/x.parquet"),
    ],
)
def test_what_is_no_part_of_a_path_is_refused(call) -> None:
    with pytest.raises(Malformed):
        call()


def test_an_unknown_kind_is_refused_by_name() -> None:
    with pytest.raises(UnknownKind, match="tick"):
        layout.raw_path("binance", "spot", "tick", AT, "box1", 1)
