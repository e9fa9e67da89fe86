"""The shapes of answers, for OpenAPI: models made of our own structs, and those that other systems' clients know."""

from __future__ import annotations

import typing
from functools import cache
from typing import Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, create_model


class Problem(BaseModel):
    """Why a request was not answered."""

    detail: str = Field(examples=["unknown kind 'trades'; known kinds: trade, agg_trade, quote"])
    error: str = Field(description="A word that programs go by.", examples=["UnknownKind"])


class Health(BaseModel):
    """The server answers."""

    status: str = Field(examples=["ok"])


class DatasetEntry(BaseModel):
    """One kind of one symbol. `symbol` is null for files that hold all symbols of a market; times are ISO 8601."""

    id: str = Field(examples=["binance:spot:trade:BTCUSDT"])
    exchange: str = Field(examples=["binance"])
    symbol: str | None = Field(examples=["BTCUSDT"])
    market: str = Field(examples=["spot"])
    timeframe: str | None = Field(description="Of bars: their width.", examples=["1m"])
    data_type: str = Field(description="The kind.", examples=["trade"])
    file_path: str = Field(description="The folder of its closed days, in the lake.")
    file_size_bytes: int = Field(examples=[73400320])
    last_modified: str | None = Field(examples=["2026-11-20T00:16:02Z"])
    time_from: str | None = Field(examples=["2026-11-19T00:00:00.102Z"])
    time_to: str | None = Field(examples=["2026-11-19T23:59:59.981Z"])
    files: int
    rows: int = Field(examples=[1204331])
    days: int = Field(description="Closed days.")
    verified_days: int = Field(description="Closed days that the venue's own data confirm.")
    hot: bool = Field(description="Whether rows of its market are in files of all symbols still.")
    open_gaps: int


class Datasets(BaseModel):
    """One page of the datasets that answer to the filters, and how many there are."""

    datasets: list[DatasetEntry]
    total: int = Field(examples=[1])


class Preview(BaseModel):
    """The first rows of a dataset."""

    columns: list[str] = Field(examples=[["ts_event", "price", "qty", "side"]])
    rows: list[dict[str, Any]]
    total_rows: int
    metadata: dict[str, Any]


class Rows(BaseModel):
    """Rows in the order of the lake. `count` is how many there are here."""

    model_config = ConfigDict(extra="allow")

    kind: str = Field(examples=["trade"])
    rows: list[dict[str, Any]]
    count: int = Field(examples=[1])


class Candle(BaseModel):
    """One candle by the names that other lakes use; `ts` in ms."""

    ts: int = Field(examples=[1763596800000])
    open: float | None
    high: float | None
    low: float | None
    close: float | None
    volume: float | None


class ListEntry(BaseModel):
    """One dataset by the names that other lakes use."""

    id: str = Field(examples=["binance:spot:bar_1m:BTCUSDT"])
    symbol: str | None = Field(examples=["BTCUSDT"])
    exchange: str = Field(examples=["binance"])
    market: str = Field(examples=["spot"])
    path: str
    type: str = Field(examples=["bar_1m"])


class VenueEntry(BaseModel):
    """One venue."""

    id: str = Field(examples=["binance"])
    guarantees: str = Field(examples=["full"])


class Exchanges(BaseModel):
    """Venues that can be collected from."""

    exchanges: list[VenueEntry]


class MarketEntry(BaseModel):
    """One market: kinds that are streamed or polled, and kinds whose past can be asked for."""

    market: str = Field(examples=["spot"])
    kinds: list[str] = Field(examples=[["trade", "quote"]])
    history: list[str] = Field(examples=[["trade", "kline"]])


class Markets(BaseModel):
    """The markets of a venue."""

    exchange: str
    markets: list[MarketEntry]


class SymbolEntry(BaseModel):
    """One instrument, as far as it is known."""

    symbol: str = Field(examples=["BTCUSDT"])
    unified: str | None = Field(examples=["BTC/USDT"])
    status: str | None = Field(examples=["TRADING"])
    tick: str | None = Field(examples=["0.01"])
    lot: str | None = Field(examples=["0.00001"])


class Symbols(BaseModel):
    """The symbols of a market."""

    exchange: str
    market: str
    source: str
    symbols: list[SymbolEntry]
    failed: str | None = Field(description="Why the venue did not tell all of them.")


class Writer(BaseModel):
    """The process that writes the lake."""

    pid: int
    takes_jobs: bool = Field(description="Whether it is a daemon that is ready for jobs.")


class Status(BaseModel):
    """The lake in numbers."""

    model_config = ConfigDict(extra="allow")

    writer: Writer | None
    writer_unknown: str | None = Field(description="Why it is not known who writes the lake; null where it is.")
    lake_id: str
    simulated: bool
    version: int = Field(description="Of the manifest: grows with every change.")
    raw_bytes: int
    gaps: dict[str, int] = Field(examples=[{"open": 2, "repaired": 14}])


class LiveStatus(BaseModel):
    """What the running daemon says of itself, as on its /status."""

    running: bool
    status: dict[str, Any] | None


class NewJob(BaseModel):
    """A work of the daemon, with the arguments that its command has."""

    model_config = ConfigDict(extra="forbid")

    work: str = Field(max_length=40, examples=["backfill"])
    arguments: dict[str, Any] = Field(
        examples=[{
            "exchange": "binance", "market_type": "spot", "kinds": ["kline"], "symbols": ["BTCUSDT"],
            "start": 1763596800000000, "end": 1763683200000000,
        }]
    )  # fmt: skip


class _Downloaded(BaseModel):
    """What another lake's downloads say. Without a beginning: the last 30 days."""

    model_config = ConfigDict(extra="forbid")

    exchange: str = Field(min_length=1, max_length=60, examples=["binance", "ccxt:bitget"])
    market: str = Field(default="spot", min_length=1, max_length=20, examples=["spot"])
    timeframe: str = Field(
        default="1m", max_length=10, description="Candles of a minute are stored; wider ones fold from them."
    )
    data_type: Literal["raw", "funding", "both"] = Field(default="raw", description="Candles, settled rates, or both.")
    kinds: list[str] = Field(
        default_factory=list, max_length=20, description="In place of data_type: kinds by their names.",
        examples=[["trade"]],
    )  # fmt: skip
    start_date: str | None = Field(default=None, max_length=40, examples=["2026-11-01"])
    end_date: str | None = Field(default=None, max_length=40, description="Before this; now if not said.")
    full_history: bool = Field(default=False, description="As far back as the venue goes.")
    deleted: bool = Field(default=False, description="Also what was deleted from this lake: ask for it again.")


class Download(_Downloaded):
    """One symbol's past."""

    symbol: str = Field(min_length=1, max_length=100, examples=["BTCUSDT"])


class BulkDownload(_Downloaded):
    """Many symbols' past."""

    symbols: list[str] = Field(min_length=1, max_length=2000, examples=[["BTCUSDT", "ETHUSDT"]])


class Task(BaseModel):
    """A download that was taken."""

    task_id: str | None = Field(description="The job; null where nothing is left to ask for.")
    status: str = Field(examples=["queued"])
    message: str


class Tasks(BaseModel):
    """Downloads that are under way."""

    tasks: list[dict[str, Any]]


class Started(BaseModel):
    """A job, and what is planned of it."""

    job: dict[str, Any] | None
    planned: Any


class JobDetail(BaseModel):
    """A job with its parts."""

    job: dict[str, Any]
    progress: dict[str, Any]
    chunks: list[dict[str, Any]]
    attempts: list[dict[str, Any]]


class Gone(BaseModel):
    """What was deleted."""

    model_config = ConfigDict(extra="allow")

    status: str = Field(examples=["deleted"])
    deleted_entries: int
    deleted_files: int
    message: str


class Confirmation(BaseModel):
    """What would be deleted; `confirm` is what the header X-Confirm has to say."""

    model_config = ConfigDict(extra="allow")

    detail: str
    error: str = Field(examples=["ConfirmFirst"])
    confirm: str
    deleted_entries: int
    deleted_files: int


class Imported(BaseModel):
    """What a file was understood as, and what came of it: `result` as `dl import` tells it."""

    dry_run: bool
    understood: dict[str, Any]
    result: dict[str, Any]


class Feature(BaseModel):
    """One version of a feature set, by the names that other lakes use."""

    model_config = ConfigDict(extra="allow")

    id: str
    exchange: str
    symbol: str
    market: str
    feature_set: str = Field(examples=["momentum"])
    version: str = Field(examples=["1.0.0"])
    path: str
    checksum: str = Field(description="SHA-256 of the file.")
    created_at: str


class FeatureSetEntry(BaseModel):
    """One feature set of one symbol."""

    name: str
    exchange: str
    symbol: str
    market: str
    versions: list[str]
    latest: str = Field(description="What `latest` means.", examples=["1.0.0"])


class FeatureSets(BaseModel):
    """The feature sets of a lake."""

    feature_sets: list[FeatureSetEntry]


class Features(BaseModel):
    """One page of versions."""

    features: list[Feature]
    total: int


class Query(BaseModel):
    """One SELECT."""

    model_config = ConfigDict(extra="forbid")

    query: str = Field(
        min_length=1, max_length=100_000, examples=["SELECT symbol, count(*) AS n FROM trade GROUP BY ALL"]
    )


class SqlRows(BaseModel):
    """The answer to a query; `capped` says that there are more rows than are given."""

    columns: list[str]
    rows: list[dict[str, Any]]
    count: int
    capped: str | None


def page_of(name: str, struct: Any) -> type[BaseModel]:
    """A page of structs under `name`."""
    fields: dict[str, Any] = {name: (list[model_of(struct)], ...), "total": (int, ...)}  # type: ignore[misc] # at run time
    made: type[BaseModel] = create_model(
        f"{struct.__name__}Page", __doc__="One page, and how many there are.", **fields
    )
    return made


@cache
def model_of(struct: type[msgspec.Struct]) -> type[BaseModel]:
    """A struct of ours as the model of its JSON."""
    hints = typing.get_type_hints(struct)
    fields: dict[str, Any] = {}
    for field in msgspec.structs.fields(struct):
        fields[field.encode_name] = (_shown(hints[field.name]), ...)
    return create_model(struct.__name__, __doc__=struct.__doc__, **fields)


def _shown(hint: Any) -> Any:
    """A type with every struct in it as its model."""
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return model_of(hint)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is None or not inner or origin is typing.Literal:
        return hint
    shown = tuple(_shown(one) for one in inner)
    if origin in (list, tuple, dict, set):
        return list[shown[0]] if origin is tuple and inner[-1] is Ellipsis else origin[shown]  # type: ignore[valid-type]
    return typing.Union[shown]  # noqa: UP007 # of types that are known when it runs only
