"""Configuration of the collectors: what is collected, over how many connections, and how soon it is durable.

Composed into the daemon's configuration; the descriptions below are its user documentation. Names carry their unit.
"""

from __future__ import annotations

import platform
import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from collectors import patterns, transports
from market.instruments import MARKET_TYPES
from market.kinds import KINDS
from market.session import SERVER_TIME, Endpoint
from market.times import MS, SECOND

_NODE = re.compile(r"[a-z0-9]{1,32}")
_MB = 1024 * 1024


def host_node() -> str:
    """The host's name as a node name: lower case letters and digits only, `node` where nothing is left."""
    return re.sub(r"[^a-z0-9]", "", platform.node().split(".")[0].lower())[:32] or "node"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EndpointConfig(_Section):
    """Other addresses of one market: a proxy, a regional host, a simulator. What is not given stays the venue's own."""

    rest: str | None = Field(
        default=None,
        description="Base address of the REST routes, `https://host`. Certificates are always verified, here and of"
        " `wss://`: by the system's authorities, or by those in the file that the environment's `SSL_CERT_FILE` names.",
    )
    ws: str | dict[str, str] = Field(
        default_factory=dict,
        description="One base address in place of the venue's own, `wss://host`, before the paths that the venue has;"
        " or complete addresses by name, e.g. `public: wss://host/public/stream`.",
    )

    @field_validator("rest")
    @classmethod
    def _http(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError(f"{value!r} is no http:// or https:// address")
        return _without_user(value)

    @field_validator("ws")
    @classmethod
    def _websocket(cls, value: str | dict[str, str]) -> str | dict[str, str]:
        for url in [value] if isinstance(value, str) else value.values():
            if not url.startswith(("ws://", "wss://")):
                raise ValueError(f"{url!r} is no ws:// or wss:// address")
            _without_user(url)
        return value

    def over(self, default: Endpoint) -> Endpoint:
        """The venue's endpoint with these addresses in place of its own."""
        if isinstance(self.ws, str):
            base = self.ws.rstrip("/")
            ws = {name: base + _behind_host(url) for name, url in default.ws.items()}
        else:
            ws = {**default.ws, **self.ws}
        return Endpoint(rest=self.rest or default.rest, ws=ws)


def _without_user(url: str | None) -> str | None:
    """An address is written to frames, sessions and logs: it may hold no secret."""
    if url is not None and "@" in urlsplit(url).netloc:
        raise ValueError("an address with a user or password is refused: public data need none")
    return url


def _behind_host(url: str) -> str:
    """Path and query of an address."""
    parts = urlsplit(url)
    return parts.path + (f"?{parts.query}" if parts.query else "")


class PollsConfig(_Section):
    """How often the venue is asked for what no stream carries, within half of the weight that it allows. The requests
    of many symbols are spread over the interval.
    """

    open_interest_seconds: float = Field(
        default=60, ge=1, le=86_400, description="Open interest of each symbol, where `kinds` has `open_interest`."
    )
    funding_seconds: float = Field(
        default=3600,
        ge=1,
        le=86_400,
        description="Settled funding rates, where `kinds` has `funding_rate`: all since the last that is stored.",
    )
    candle_seconds: float = Field(
        default=60,
        ge=10,
        le=86_400,
        description="The venue's closed candles of one minute, where `kinds` has `kline` and no stream carries them:"
        " all since the last that is stored.",
    )
    depth_seconds: float | None = Field(
        default=None,
        ge=1,
        le=86_400,
        description="A snapshot of each symbol's order book of `book_levels`, stored as `book_snapshot`, whether or not"
        " `book_delta` is collected; never if not given.",
    )
    instruments_seconds: float = Field(
        default=3600, ge=10, le=86_400, description="The venue's list of instruments; what changed is a `contract` row."
    )
    server_time_seconds: float | None = Field(
        default=60,
        ge=1,
        le=86_400,
        description="The venue's clock, with which ours is compared: a warning from one second on; null for never.",
    )

    def seconds(self, kind: str) -> float | None:
        """The interval of a kind's poll; None for what is not polled."""
        value: float | None = getattr(self, SETTINGS[kind]) if kind in SETTINGS else None
        return value


SETTINGS = {
    "open_interest": "open_interest_seconds",
    "funding_rate": "funding_seconds",
    "kline": "candle_seconds",
    "book_snapshot": "depth_seconds",
    "contract": "instruments_seconds",
    SERVER_TIME: "server_time_seconds",
}
"""Kind (or SERVER_TIME) -> the setting of PollsConfig that says how often it is polled."""


class SourceConfig(_Section):
    """One market of one exchange: which symbols and which kinds of data to collect there."""

    exchange: str = Field(
        description="Name of the exchange, e.g. `binance`; or `ccxt:<id>` for any other venue that ccxt streams from,"
        " which is `ccxt-<id>` in columns and paths. Its guarantees are weaker, and its certificates say so: without"
        " acknowledgements and numbering a loss inside a connection is not seen (the end of one is a gap); rows are"
        " what ccxt understood, with the venue's digits where it sends texts. It has `trade`, `quote`, `book_snapshot`"
        " (sampled; no `book_delta`), spot `kline`, and of contracts `liquidation`, `mark_price`, `funding_rate` and"
        " `open_interest`, as far as the venue does. Symbols are ccxt's (`BTC/USDT`, `BTC/USDT:USDT`)."
    )
    market_type: str = Field(description=f"One of {', '.join(MARKET_TYPES)}.")
    symbols: Annotated[list[str], Field(min_length=1)] = Field(
        description="Symbols in the venue's own spelling, e.g. `BTCUSDT`; with `*` (any text) or `?` (any character) a"
        " pattern, e.g. `*USDT`, that means every instrument that trades and follows listings; `!USDCUSDT` excludes."
    )
    kinds: Annotated[list[str], Field(min_length=1)] = Field(
        default=["trade", "quote"], description="Kinds of data, e.g. `trade`, `agg_trade`, `quote`."
    )
    channels: dict[str, str] = Field(
        default={},
        description="Kind to the venue's channel for it, in place of the default: `book_delta: depth` is one update a"
        " second on Binance spot, `kline: kline_5m` candles of five minutes.",
    )
    book_levels: Literal[100, 500, 1000, 5000] = Field(
        default=1000,
        description="Levels a side of the snapshot that an order book begins from. A venue gives what it has if that is"
        " less (Binance futures: 1000); 5000 costs Binance spot five times the weight, so books are known later.",
    )
    redundancy: Literal[1, 2] = Field(
        default=1,
        description="Connections that carry each stream: with 2, what one of them misses the other one has. Both count"
        " for collectors.connections.max_connections.",
    )
    polls: PollsConfig = Field(default=PollsConfig(), description="How often the venue is asked over REST.")
    book_refresh_seconds: Annotated[float, Field(ge=60, le=86_400)] | None = Field(
        default=3600,
        description="A book that is in sync is asked for again this often, since its updates say nothing of the levels"
        " beyond its snapshot; null for never.",
    )
    max_life_seconds: Annotated[float, Field(ge=5, le=2_592_000)] | None = Field(
        default=None,
        description="Each connection is handed over after this long to a successor, which has to produce before the old"
        " one is closed. Where it is not given, and at the latest: an hour before the venue's cut where one is known"
        " (Binance and KuCoin after 24 h), elsewhere never.",
    )
    endpoint: EndpointConfig = Field(default=EndpointConfig(), description="Addresses in place of the venue's own.")

    @field_validator("exchange")
    @classmethod
    def _exchange(cls, value: str) -> str:
        return f"ccxt-{value.removeprefix('ccxt:')}" if value.startswith("ccxt:") else value

    @field_validator("market_type")
    @classmethod
    def _market_type(cls, value: str) -> str:
        if value not in MARKET_TYPES:
            raise ValueError(f"unknown market type {value!r}; known: {', '.join(MARKET_TYPES)}")
        return value

    @field_validator("kinds")
    @classmethod
    def _kinds(cls, value: list[str]) -> list[str]:
        collected = [name for name, kind in KINDS.items() if not kind.derived]
        for name in value:
            if name not in collected:
                raise ValueError(f"unknown kind {name!r}; kinds that are collected: {', '.join(collected)}")
        return _distinct(value, "kind")

    @model_validator(mode="after")
    def _channels(self) -> SourceConfig:
        for kind in self.channels:
            if kind not in self.kinds:
                raise ValueError(f"a channel is given for {kind!r}, which is not among the kinds to collect")
        return self

    @field_validator("symbols")
    @classmethod
    def _symbols(cls, value: list[str]) -> list[str]:
        for symbol in value:
            if not symbol or len(symbol) > 64 or any(ord(c) <= 32 or ord(c) == 127 for c in symbol):
                raise ValueError(f"{symbol!r} is no symbol (1 to 64 characters, no blanks or control characters)")
        if (problem := patterns.problem(value)) is not None:
            raise ValueError(problem)
        return _distinct(value, "symbol")


class WritingConfig(_Section):
    """How received data becomes durable: while the disk keeps up, the defaults lose at most 100 ms to a crash and
    750 ms to a power cut.
    """

    write_ms: int = Field(default=50, ge=5, le=10_000, description="Buffered data are written this often.")
    sync_ms: int = Field(default=500, ge=5, le=60_000, description="Written data are forced to the disk this often.")
    seal_seconds: int = Field(
        default=60, ge=1, le=3600, description="A segment of trades or quotes is sealed at this age."
    )
    slow_seal_seconds: int = Field(
        default=600, ge=1, le=7200, description="A segment of the slower kinds (books, funding) is sealed at this age."
    )
    reference_seal_seconds: int = Field(
        default=3600, ge=1, le=86_400, description="A segment of reference kinds (contracts) is sealed at this age."
    )
    seal_mb: int = Field(default=64, ge=1, le=4096, description="A segment is sealed at this size, whatever its age.")
    frames: bool = Field(
        default=True,
        description="Keep every received frame as it came: what `dl replay` and `dl trace` read. Off saves disk.",
    )
    queue_mb: int = Field(
        default=16,
        ge=1,
        le=1024,
        description="Received data that may wait for a slow disk, per market. Quotes and books are shed (as recorded"
        " gaps) when it is full; trades never are, their connections stop reading instead.",
    )
    queue_total_mb: int = Field(
        default=128,
        ge=8,
        le=8192,
        description="Received data of all markets that may wait together: one half is for the kinds that are shed, the"
        " other for frames and trades. Books are shed from half of theirs on, quotes a little later.",
    )
    lag_warning_ms: int = Field(
        default=2000,
        ge=50,
        description="What a write pass brought and is not durable after this is reported as `durable_lag`.",
    )

    @property
    def write(self) -> int:
        return self.write_ms * MS

    @property
    def sync(self) -> int:
        return self.sync_ms * MS

    @property
    def seal_bytes(self) -> int:
        return self.seal_mb * _MB

    @property
    def queue_bytes(self) -> int:
        return self.queue_mb * _MB

    @property
    def queue_total_bytes(self) -> int:
        return self.queue_total_mb * _MB

    def seal_age(self, kind: str) -> int:
        """Age (us) at which a segment of `kind` is sealed; what is no kind (frames) is as fast as trades."""
        cadence = KINDS[kind].cadence if kind in KINDS else "fast"
        seconds = {"fast": self.seal_seconds, "slow": self.slow_seal_seconds, "reference": self.reference_seal_seconds}
        return seconds[cadence] * SECOND


class ConnectionConfig(_Section):
    """How connections are made, watched, and made again."""

    transport: str = Field(
        default=transports.DEFAULT,
        description="WebSocket library: `picows`, or `websockets`, which is also used where picows is missing.",
    )
    compression: transports.Compression = Field(
        default="off",
        description="`deflate` offers permessage-deflate to the venue, which may decline: a fraction of the traffic for"
        " several times the CPU a frame. Such connections are those of `websockets`, whatever `transport` says.",
    )
    max_connections: int = Field(
        default=64, ge=1, le=1000, description="More WebSocket connections than this are refused."
    )
    connect_timeout_seconds: float = Field(
        default=10.0, gt=0, le=120, description="A handshake that takes longer is given up and tried again."
    )
    silent_socket_seconds: float | None = Field(
        default=None, gt=0, description="A socket without any data for this long is replaced; per venue if not given."
    )
    silent_stream_seconds: float = Field(
        default=45.0,
        gt=0,
        description="A stream that was acknowledged and has sent nothing for this long is reported as silent.",
    )
    backoff_first_seconds: float = Field(
        default=1.0,
        gt=0,
        le=60,
        description="Longest wait before the first new attempt; it doubles from there. Ten times this, and at least"
        " half of that, where a venue turns us away: close codes 1008 and 4xxx, HTTP 403, 418, 429 and 451.",
    )
    backoff_max_seconds: float = Field(
        default=60.0,
        gt=0,
        le=600,
        description="Longest wait between attempts, which never end. Five times this where a venue turns us away; what"
        " it asks for in Retry-After is waited in any case.",
    )
    max_frame_mb: int | None = Field(
        default=None, ge=1, le=256, description="Largest frame accepted, inflated; the venue's own limit if not given."
    )


class CollectorsConfig(_Section):
    """What is collected from which markets, and how it is written."""

    node: str = Field(
        default_factory=host_node,
        validate_default=True,
        description="Name of this box in session ids and file names: a-z and 0-9. The host's name if not given.",
    )
    sources: list[SourceConfig] = Field(default_factory=list, description="The markets to collect.")
    writing: WritingConfig = Field(default=WritingConfig(), description="How data become durable.")
    connections: ConnectionConfig = Field(default=ConnectionConfig(), description="How connections are kept.")

    @field_validator("node")
    @classmethod
    def _node(cls, value: str) -> str:
        if _NODE.fullmatch(value) is None:
            raise ValueError(f"{value!r} is no node name (1 to 32 of a-z and 0-9)")
        return value

    @model_validator(mode="after")
    def _no_stream_twice(self) -> CollectorsConfig:
        seen: set[tuple[str, str, str, str]] = set()
        for source in self.sources:
            for kind in source.kinds:
                for symbol in (s for s in source.symbols if not s.startswith(patterns.EXCLUDING)):
                    key = (source.exchange, source.market_type, kind, symbol)
                    if key in seen:
                        raise ValueError(f"{source.exchange} {source.market_type} {symbol} {kind} is listed twice")
                    seen.add(key)
        return self


def _distinct(values: list[str], what: str) -> list[str]:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{what} {value!r} is listed twice")
    return values
