"""Every data kind, declared once: its columns, key, order, checks and daily grain. Everything downstream iterates.

A kind that is collected has an event struct: one JSON line of a segment, its fields in the order of the line.
Kinds that we derive (bars, book samples) have none. Prices and quantities are the venue's digits as text on the line;
the table holds them as float64 beside a `<name>_text` sibling (see `lake.tables`).
Times are int microseconds UTC: `ts_event` the matching engine's, `ts_publish` the gateway's, `ts_recv` ours.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from market.errors import UnknownKind

ColumnType = Literal["dict", "text", "int", "time", "date", "bool", "decimal", "float", "levels"]
Grain = Literal["symbol", "all"]
Cadence = Literal["fast", "slow", "reference"]


class Column(msgspec.Struct, frozen=True):
    """One column of a kind's table. `required` columns are never null."""

    name: str
    type: ColumnType
    required: bool = False


class Positive(msgspec.Struct, frozen=True):
    """The value must be above zero; a trade with a zero price or quantity is kept as condition `void`."""

    column: str


class Contiguous(msgspec.Struct, frozen=True):
    """Ids of one symbol follow each other by one where the venue's channel says so; a jump is a gap."""

    column: str


class NotCrossed(msgspec.Struct, frozen=True):
    """bid < ask; a crossed row is stored and counted."""

    bid: str
    ask: str


class OhlcSane(msgspec.Struct, frozen=True):
    """low <= open, close <= high, and all above zero."""


Check: TypeAlias = Positive | Contiguous | NotCrossed | OhlcSane


class Event(msgspec.Struct, gc=False, omit_defaults=True):
    """Fields that every line has. `item` is the place in the frame; (session, frame_no, item) is the provenance."""

    symbol: str
    stream: str
    ts_event: int | None
    ts_publish: int | None
    ts_recv: int
    session: str
    frame_no: int
    item: int
    source: str


class Trade(Event, gc=False, omit_defaults=True):
    """One fill. `side` is the taker's; `seq` the venue's integer id, `trade_id` only where the id is no integer."""

    price: str
    qty: str
    side: str | None
    seq: int | None
    condition: str
    trade_id: str | None = None
    qty_unit: str | None = None
    multiplier: str | None = None


class AggTrade(Trade, gc=False, omit_defaults=True):
    """Fills of one taker order at one price; `first_id`..`last_id` are the trade ids inside."""

    first_id: int | None = None
    last_id: int | None = None


class Quote(Event, gc=False, omit_defaults=True):
    """Best bid and ask. Without a venue time `ts_event` is null and `skew_us` (us) is what to take off ts_recv."""

    bid: str
    bid_qty: str
    ask: str
    ask_qty: str
    update_id: int | None
    skew_us: int | None = None


class BookDelta(Event, gc=False, omit_defaults=True):
    """One update message of an order book, or the snapshot it begins from (flag `snapshot`: only `last_id` is set).

    Levels are the venue's arrays verbatim. `gap_before`: the update before it did not come on its connection.
    """

    bids: msgspec.Raw
    asks: msgspec.Raw
    first_id: int | None
    last_id: int | None
    prev_id: int | None
    checksum: int | None = None
    flags: tuple[str, ...] = ()
    skew_us: int | None = None


class BookSnapshot(Event, gc=False, omit_defaults=True):
    """What the venue said the book is: partial depth or a REST answer."""

    bids: msgspec.Raw
    asks: msgspec.Raw
    last_id: int | None
    depth: int
    skew_us: int | None = None


class Liquidation(Event, gc=False, omit_defaults=True):
    """A forced order; `side` is the order's (sell = a long was liquidated)."""

    side: str
    price: str
    avg_price: str | None
    qty: str
    seq: int | None = None
    qty_unit: str | None = None
    multiplier: str | None = None


class MarkPrice(Event, gc=False, omit_defaults=True):
    """Mark and index price with the predicted funding rate."""

    mark: str
    index: str | None
    predicted_rate: str | None
    next_funding: int | None


class FundingRate(Event, gc=False, omit_defaults=True):
    """A settled funding rate; `known_at` is when it became public."""

    rate: str
    rate_kind: str
    interval_s: int | None
    known_at: int | None


class OpenInterest(Event, gc=False, omit_defaults=True):
    """Open interest; `sides` 1 counts a contract once, 2 counts both holders."""

    oi: str
    oi_unit: str
    sides: int
    oi_base: str | None = None
    oi_quote: str | None = None
    period: str | None = None


class Contract(Event, gc=False, omit_defaults=True):
    """What an instrument is, in force on [valid_from, valid_to), known to us on [known_from, known_to).

    A notice of a change that names no currencies leaves `unified`, `base` and `quote` null.
    """

    uid: str
    unified: str | None
    base: str | None
    quote: str | None
    settle: str | None
    tick: str | None
    lot: str | None
    multiplier: str | None
    contract_size: str | None
    status: str
    listed: int | None
    expiry: int | None
    funding_interval_s: int | None
    valid_from: int | None
    valid_to: int | None
    known_from: int
    known_to: int | None


class Kline(Event, gc=False, omit_defaults=True):
    """The venue's own closed candle; a changed value is a new `revision`. Some say one of the two volumes only."""

    interval: str
    open_time: int
    open: str
    high: str
    low: str
    close: str
    volume_base: str | None
    volume_quote: str | None
    trade_count: int | None
    taker_buy_base: str | None
    taker_buy_quote: str | None
    revision: int = 0


class Kind(msgspec.Struct, frozen=True):
    """One data kind. `key` identifies an event (all its ids null: its provenance does); `seq` is its ordering id;
    `keep` which of two equal keys stays; `cadence` how often its segments seal; `grain` what one daily file holds;
    `renumbered` that a venue begins its ids anew now and then, so that its time belongs to the key (`lake.identity`).
    """

    name: str
    struct: type[Event] | None
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    seq: str | None
    grain: Grain
    cadence: Cadence
    checks: tuple[Check, ...] = ()
    keep: Literal["first", "last"] = "first"
    renumbered: bool = False

    @property
    def derived(self) -> bool:
        """Whether we make it ourselves, so that it has no segments."""
        return self.struct is None

    @property
    def order(self) -> tuple[str, ...]:
        """Row order inside a symbol, the same everywhere: most real quotes share their millisecond with another."""
        time = "window_start" if self.name in BARS else "ts_event"
        return (time,) + ((self.seq,) if self.seq else ()) + PROVENANCE


PROVENANCE = ("session", "frame_no", "item")
BARS = ("bar_1s", "bar_1m")
CONDITIONS = (
    "market", "insurance_fund", "adl", "block", "rfq", "auction", "liquidation", "rpi", "void", "history",
)  # fmt: skip
COUNTED_CONDITIONS = ("market", "rpi", "liquidation")
"""Conditions that a bar counts, as the venues' own candles do."""

COMMON = (
    Column("exchange", "dict", required=True),
    Column("market_type", "dict", required=True),
    Column("symbol", "dict", required=True),
    Column("date", "date", required=True),
    Column("ts_event", "time", required=True),
    Column("ts_estimated", "bool", required=True),
    Column("ts_publish", "time"),
    Column("ts_recv", "time"),
    Column("session", "dict"),
    Column("frame_no", "int"),
    Column("item", "int"),
    Column("source", "dict", required=True),
)
"""Columns of every table. Observed rows always have ts_recv and provenance; derived rows may not."""


def _required(kind: ColumnType, *names: str) -> tuple[Column, ...]:
    return tuple(Column(name, kind, required=True) for name in names)


def _optional(kind: ColumnType, *names: str) -> tuple[Column, ...]:
    return tuple(Column(name, kind) for name in names)


_TRADE = (
    *_optional("text", "trade_id"),
    *_optional("int", "seq"),
    *_required("decimal", "price", "qty"),
    *_required("dict", "qty_unit"),
    *_required("decimal", "multiplier"),
    *_optional("dict", "side"),
    *_required("dict", "condition"),
)
_BAR = (
    *_required("time", "window_start"),
    *_optional("float", "open", "high", "low", "close"),
    *_required("decimal", "volume_base", "volume_quote"),
    *_required("int", "trade_count"),
    *_optional("float", "vwap", "bid", "ask", "spread", "bid_qty", "ask_qty"),
    *_required("decimal", "taker_buy_base", "taker_buy_quote"),
    *_optional("int", "first_seq", "last_seq"),
    *_optional("time", "ts_first", "ts_last", "ts_quote"),
    *_required("bool", "partial", "gap"),
    *_required("int", "late", "revision"),
)

_ALL = (
    Kind("trade", Trade, _TRADE, ("seq", "trade_id"), "seq", "symbol", "fast",
         (Positive("price"), Positive("qty"), Contiguous("seq"))),
    Kind("agg_trade", AggTrade, (*_TRADE, *_optional("int", "first_id", "last_id")), ("seq", "trade_id"), "seq",
         "symbol", "fast", (Positive("price"), Positive("qty"), Contiguous("seq"))),
    Kind("quote", Quote,
         (*_required("decimal", "bid"), *_optional("decimal", "bid_qty"), *_required("decimal", "ask"),
          *_optional("decimal", "ask_qty"), *_optional("int", "update_id")),
         ("update_id",), "update_id", "symbol", "fast", (NotCrossed("bid", "ask"),), renumbered=True),
    Kind("book_delta", BookDelta,
         (*_required("levels", "bids", "asks"), *_optional("int", "first_id", "last_id", "prev_id", "checksum"),
          *_required("dict", "flags")),
         ("last_id", "source"), "last_id", "symbol", "slow", renumbered=True),
    Kind("book_snapshot", BookSnapshot,
         (*_required("levels", "bids", "asks"), *_optional("int", "last_id"), *_required("int", "depth")),
         ("last_id", "source"), "last_id", "symbol", "slow", renumbered=True),
    Kind("book_sample", None,
         (*_required("levels", "bids", "asks"), *_required("bool", "in_sync"),
          *_optional("float", "valid_low", "valid_high")),
         ("ts_event",), None, "symbol", "slow"),
    Kind("liquidation", Liquidation,
         (*_required("dict", "side"), *_required("decimal", "price"), *_optional("decimal", "avg_price"),
          *_required("decimal", "qty"), *_required("dict", "qty_unit"), *_required("decimal", "multiplier"),
          *_optional("int", "seq")),
         ("seq",), "seq", "all", "slow", (Positive("qty"),)),
    Kind("mark_price", MarkPrice,
         (*_required("decimal", "mark"), *_optional("decimal", "index", "predicted_rate"),
          *_optional("time", "next_funding")),
         ("ts_event",), None, "all", "slow", (Positive("mark"),)),
    Kind("funding_rate", FundingRate,
         (*_required("decimal", "rate"), *_required("dict", "rate_kind"), *_optional("int", "interval_s"),
          *_optional("time", "known_at")),
         ("ts_event",), None, "all", "reference"),
    Kind("open_interest", OpenInterest,
         (*_required("decimal", "oi"), *_required("dict", "oi_unit"), *_required("int", "sides"),
          *_optional("decimal", "oi_base", "oi_quote"), *_optional("dict", "period")),
         ("period", "ts_event"), None, "all", "reference", keep="last"),
    Kind("contract", Contract,
         (*_required("text", "uid"), *_optional("text", "unified"), *_optional("dict", "base", "quote", "settle"),
          *_optional("decimal", "tick", "lot", "multiplier", "contract_size"), *_required("dict", "status"),
          *_optional("time", "listed", "expiry"), *_optional("int", "funding_interval_s"),
          *_optional("time", "valid_from", "valid_to"), Column("known_from", "time", required=True),
          *_optional("time", "known_to")),
         ("uid", "valid_from", "known_from"), None, "all", "reference"),
    Kind("kline", Kline,
         (*_required("dict", "interval"), *_required("time", "open_time"),
          *_required("decimal", "open", "high", "low", "close"), *_optional("decimal", "volume_base", "volume_quote"),
          *_optional("int", "trade_count"), *_optional("decimal", "taker_buy_base", "taker_buy_quote"),
          *_required("int", "revision")),
         ("interval", "open_time", "source", "revision"), None, "all", "slow", (OhlcSane(),)),
    Kind("bar_1s", None, _BAR, ("window_start",), None, "symbol", "fast", (OhlcSane(),)),
    Kind("bar_1m", None, _BAR, ("window_start",), None, "symbol", "fast", (OhlcSane(),)),
)  # fmt: skip

KINDS: dict[str, Kind] = {kind.name: kind for kind in _ALL}
KIND_OF_EVENT: dict[type[Event], str] = {kind.struct: kind.name for kind in _ALL if kind.struct is not None}


def kind(name: str) -> Kind:
    """The declared kind of that name. Raises UnknownKind, which lists the known ones."""
    try:
        return KINDS[name]
    except KeyError:
        raise UnknownKind(name, tuple(KINDS)) from None
