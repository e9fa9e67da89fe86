"""The sans-I/O contracts: what an exchange adapter is given, what it answers, and what a merger decides.

A Session is the protocol state of one connection or polling job: its driver feeds it frames and time and carries out
what it returns. A Merger is the memory of one kind of one market: it drops copies and names what is missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import msgspec

from market.kinds import Contract, Event

EVERY_SYMBOL = "*"
"""The symbol of a stream that carries a whole market, and of what is known of the market and no symbol."""
GapState = Literal["open", "repaired", "empty", "void", "unrepairable"]


class Stream(msgspec.Struct, frozen=True):
    """One channel of one symbol, as the venue names it. `max_silence` in us, None where silence says nothing."""

    name: str
    channel: str
    symbol: str
    kind: str
    contiguous: bool
    """Whether the venue's ids of this channel follow each other by one, so that a jump is a proven loss."""
    max_silence: int | None = None
    sparse: bool = False
    """Whether hours without an event are ordinary (forced orders, listings): its silence is no alarm."""


class Connection(msgspec.Struct, frozen=True):
    """What one connection is asked to carry. `url` is complete; `name` is stable across restarts (logs, metrics)."""

    exchange: str
    market_type: str
    name: str
    url: str
    streams: tuple[Stream, ...]
    fallbacks: tuple[str, ...] = ()  # complete addresses to try in turn where nothing at all comes on `url`
    rest: str = ""  # base address of the REST routes; without it nothing is asked for, as in a replay
    book_levels: int = 1000  # levels a side to ask for where a book begins from a REST snapshot
    book_refresh: int = 0  # how often (us) a book in sync is asked for again, 0 for never
    age: int = 0
    """By how much (us) its first life ends before the venue would cut it, so that twins change over in turns."""
    ping_every: int = 0  # us between the pings that the venue wants, where it said so beforehand (market.admission)
    life: int = 0  # us after which a successor takes over, if that is sooner than the venue wants it; 0 for the venue's


class Gap(msgspec.Struct):
    """A hole inside a desired interval, half-open in venue time and, where the venue numbers events, in ids.

    `ts_to` is None while the hole still grows. `gap_id` is stable: the same hole always has the same one, so that
    writing it twice is writing it once. Times in us; `source` names what a repair came from.
    """

    gap_id: str
    exchange: str
    market_type: str
    kind: str
    symbol: str
    ts_from: int
    ts_to: int | None
    id_from: int | None
    id_to: int | None
    cause: str
    proof: str
    state: GapState
    session: str | None
    detected_at: int
    closed_at: int | None = None
    source: str | None = None
    detail: str | None = None

    @property
    def missing(self) -> int | None:
        """Number of missing ids, None where the venue does not number."""
        return None if self.id_from is None or self.id_to is None else self.id_to - self.id_from


class Coverage(msgspec.Struct, frozen=True):
    """[ts_from, ts_to) of venue time in which `session` was asked for this stream and was producing."""

    exchange: str
    market_type: str
    kind: str
    symbol: str
    session: str
    ts_from: int
    ts_to: int


class Send(msgspec.Struct, frozen=True):
    """A text frame to send."""

    text: str


class Fetch(msgspec.Struct, frozen=True):
    """An HTTP request; the answer comes back through `respond(tag, …)`. `weight` is what the venue's budget pays."""

    tag: str
    method: str
    url: str
    weight: int = 1


class Acknowledged(msgspec.Struct, frozen=True):
    """The venue accepted these streams (which, on some venues, proves nothing yet)."""

    streams: tuple[Stream, ...]


class Refused(msgspec.Struct, frozen=True):
    """The venue refused these streams, with its reason; the others of the connection go on."""

    streams: tuple[Stream, ...]
    reason: str


class Renewal(msgspec.Struct, frozen=True):
    """These are asked for anew: the venue is told to end their subscriptions, or (`done`) has answered the request to
    begin them again, or did not. What happens in between may be told or not.
    """

    streams: tuple[Stream, ...]
    done: bool = False


class Rejected(msgspec.Struct, frozen=True):
    """A frame, or an item of it, that is not what the venue's documentation says: goes to quarantine, counted."""

    reason: str
    frame_no: int
    stream: str | None = None


class Leave(msgspec.Struct, frozen=True):
    """The connection is to be given up and opened again, with the reason that its gaps will carry as cause."""

    cause: str
    detail: str


class ServerTime(msgspec.Struct, frozen=True):
    """What the venue's clock said (us) while it made the answer: no row, but a measure of our own clock."""

    venue_time: int


Action: TypeAlias = Send | Fetch | Acknowledged | Refused | Renewal | Rejected | Leave | ServerTime
Output: TypeAlias = Event | Action


class Session(Protocol):
    """The protocol state of one connection or poller. The driver calls `start` once, then `receive` for each frame with
    the time read on the line after the socket read, `respond` for each answer to a Fetch, and `tick` no later than
    `next_deadline`. No call raises for what the venue sent: a defect of the peer is data (Rejected) or a reason to
    Leave. `frame_no` counts received frames and answers from 1; a replayer sets it forward where frames are missing.
    `venue_time` is the newest time the venue has shown (us, 0 before any), `ignored` counts frames of channels that
    were received but belong to no collected kind.
    """

    session_id: str
    frame_no: int
    venue_time: int
    ignored: Counter[str]

    def start(self, now: int) -> Sequence[Output]: ...
    def receive(self, frame: bytes, ts_recv: int) -> Sequence[Output]: ...
    def respond(
        self, tag: str, status: int, headers: Mapping[str, str], body: bytes, ts_recv: int
    ) -> Sequence[Output]: ...
    def tick(self, now: int) -> Sequence[Output]: ...
    def next_deadline(self) -> int | None: ...
    def streams(self) -> Iterable[StreamState]: ...


@dataclass(slots=True)
class StreamState:
    """What a session knows of one stream, for liveness and coverage: receive times in us, 0 before it happened."""

    stream: Stream
    desired_at: int = 0
    acknowledged_at: int = 0
    first_recv: int = 0
    last_recv: int = 0
    events: int = 0
    at_once: int = 0  # of these how many more came at the moment of the first: what a venue tells who subscribes
    first_event: int = 0  # the venue's time of it, perhaps estimated
    since: int = 0  # the venue's time that was first known since it was acknowledged
    excused: int = 0  # until when its silence is no alarm: it is asked about, or nothing newer exists (`suspects`)
    ordinary: int = 0  # until when its silence is no more than is usual for it (`rhythm`), whichever connection has it
    proven: int = 0  # when its silence was found to be a fault; an event after that ends it


@runtime_checkable
class Batching(Protocol):
    """A session that takes frames together, at less cost each than `receive`, and says the same."""

    def receive_all(
        self, frames: Sequence[bytes], times: Sequence[int], puts: Mapping[type, Callable[[Event], None]]
    ) -> tuple[int, Sequence[Output]]:
        """Take frames up to the first that says something else than one event whose class has a place in `puts`; the
        events go there. Returns how many frames were taken, and what the last of them said where it was that one.
        """
        ...


@runtime_checkable
class Informed(Protocol):
    """A session that wants to know its market's instruments: told of each contract that the reference data gives."""

    def know(self, contract: Contract) -> None: ...


@runtime_checkable
class Booked(Protocol):
    """A session that joins order books to snapshots. Books are of the stored rows, not of each session: one whose
    updates go on from what is stored needs no snapshot of its own.
    """

    def books_out_of_sync(self) -> list[str]:
        """Symbols whose book is not known."""
        ...

    def books_asked(self) -> list[str]:
        """Symbols whose snapshot is under way."""
        ...

    def book_known(self, symbol: str, last_id: int) -> None:
        """What is stored tells this book up to `last_id`; said before each `tick` of books out of sync."""
        ...

    def books_awaited(self, symbols: Iterable[str], now: int) -> None:
        """Another session has asked for these."""
        ...

    def books_given_up(self, symbols: Iterable[str]) -> None:
        """Updates of these are not stored: their books are not known, and asking for them is of no use yet."""
        ...

    def books_stored_again(self, symbols: Iterable[str]) -> None:
        """Updates of these are stored again: their books begin anew, from a snapshot that is asked for at once."""
        ...


@runtime_checkable
class Heeding(Protocol):
    """A session that, in a replay, learns from what was sent which streams were desired."""

    def sent(self, text: str, now: int) -> None: ...


class Merger(Protocol):
    """The memory of one (exchange, market_type, kind) across connections.

    `merge` says whether an event is new, `merge_all` which of several in a row are; equal ids after the first are
    duplicates. Missing ids are held for a moment, since a venue may reorder, then come out of `tick` as gaps.
    `interrupt` tells that a session's streams stopped, and the newest venue time that the session has `shown`,
    `acknowledged` that the venue took on streams that are silent by nature, its clock saying something `around` these
    two, `joined` asks whether a session is shown to overlap with what was there before it, `begun` whether there was
    anything of a symbol before, `forget` says that symbols are wanted no more since `now`, and until when all was
    `told`, `resume` seeds the last id stored before a restart. Gaps come out once when found and again when closed.
    """

    duplicates: int
    out_of_order: int

    def merge(self, event: Event) -> bool: ...
    def merge_all(self, events: Sequence[Event]) -> Sequence[Event]: ...
    def interrupt(self, session: str, symbols: Iterable[str], cause: str, now: int, shown: int = 0) -> list[Gap]: ...
    def acknowledged(self, session: str, symbols: Iterable[str], now: int, around: Sequence[int] = ()) -> list[Gap]: ...
    def joined(self, session: str, symbol: str) -> bool: ...
    def begun(self, symbol: str) -> bool: ...
    def forget(self, symbols: Iterable[str], now: int, told: int = 0) -> list[Gap]: ...
    def resume(self, last: Mapping[str, Resume]) -> None: ...
    def tick(self, now: int) -> list[Gap]: ...


class Resume(msgspec.Struct, frozen=True):
    """A stored stream's last event, `ahead` (us) of its receipt, `asked` for or sent; no cause: nothing was missed."""

    ts_event: int
    seq: int | None
    session: str
    cause: str
    detail: str | None = None
    ahead: int = 0
    asked: bool = False
    since: int = 0  # when (us) its trades began to be covered; 0: nobody knows


class Limits(msgspec.Struct, frozen=True):
    """A venue's connection rules, as its documentation says. Times in us."""

    streams_per_connection: int
    streams_per_request: int
    requests_per_second: float
    connects_per_host: int
    connects_window: int
    max_life: int | None
    silent_socket: int
    first_message: int
    max_frame: int = 16 * 1024 * 1024
    weight_per_minute: int = 0  # what its REST routes allow, in the weights of `Fetch`; 0 where the venue counts none
    weight_pool: str = ""  # markets of one pool share what is allowed
    weight_header: str = ""
    """Header, in lower case, of every answer that says what of it is used in this minute from this address."""
    weight_unsaid: tuple[str, ...] = ()
    """Ends of the paths whose answers carry that header with a wrong number."""
    silences: Mapping[int, int] = {}
    """Statuses beside 429 and 418 by which the venue asks for silence, and for how long (us) at least."""


class Endpoint(msgspec.Struct, frozen=True):
    """Base addresses of one market; every one of them is configuration."""

    rest: str
    ws: Mapping[str, str]  # named bases of WebSocket: one venue serves different channels on different paths


class Poll(msgspec.Struct, frozen=True):
    """A REST route that is asked at an interval. `route` is the venue's name for it."""

    route: str
    each: bool = True  # whether every symbol is a request of its own


class Polled(msgspec.Struct, frozen=True):
    """What a session that only fetches is asked for: a source's symbols of one kind, each `every` us.

    `kind` is a kind of data or SERVER_TIME. `every` 0 is a replay, which asks nothing.
    """

    kind: str
    symbols: tuple[str, ...]
    every: int = 0
    levels: int = 1000  # a side of a book
    since: Mapping[str, int] = {}
    """Symbol -> time (us) of the newest row that is stored: what a history goes on from."""
    known: tuple[Contract, ...] = ()  # instruments of earlier sessions, as they were last said to be
    span: tuple[int, int] | None = None  # of history, [from, to) us: it is asked for once


SERVER_TIME = "server_time"  # what is polled beside the kinds: the venue's clock


class Evidence(msgspec.Struct, frozen=True):
    """What an adapter's reading of one kind of one market rests on, best first: `live` (checked against the venue, with
    the date as `source`), `recorded` (real frames or answers, which `source` names), `documentation` (`source` says of
    whom and when); or that the venue has no such thing (`absent`, and `note` says why).
    """

    basis: Literal["live", "recorded", "documentation", "absent"]
    source: str
    note: str = ""


class Exchange(Protocol):
    """One venue's adapter: the module `collectors.exchanges.<name>` offers these names."""

    NAME: str
    ENDPOINTS: Mapping[str, Endpoint]
    """market_type -> default endpoint."""
    LIMITS: Mapping[str, Limits]
    OFFERS: Mapping[str, Mapping[str, str]]
    """market_type -> kind -> venue channel; of a kind that is polled only, the REST route."""
    POLLS: Mapping[str, Mapping[str, Poll]]
    """market_type -> kind (or SERVER_TIME) -> the route to poll."""
    TRADING: frozenset[str]  # statuses of an instrument at which a pattern of symbols begins with it
    ENDED: frozenset[str]
    """Statuses after which nothing comes of it any more; those in neither are a pause."""
    EVIDENCE: Mapping[str, Mapping[str, Evidence]]
    """market_type -> every kind that is collected anywhere -> what stands behind it, or that the venue lacks it."""
    PARSERS: Mapping[str, Mapping[str, Mapping[str, tuple[str, ...]]]]
    """market_type -> kind -> channel -> dates (UTC) from which on another parser reads it (`adapters.dated`)."""

    def streams(
        self, market_type: str, kinds: Sequence[str], symbols: Sequence[str], channels: Mapping[str, str] | None = None
    ) -> list[Stream]:
        """`channels` names for a kind the venue's channel that is to be used in place of the one in OFFERS. A kind that
        is polled only has no stream.
        """
        ...

    def connections(self, market_type: str, streams: Sequence[Stream], endpoint: Endpoint) -> list[Connection]:
        """Named `<venue>-<market>-<path>-<number>`; those of one path and endpoint can carry each other's streams."""
        ...

    def session(self, connection: Connection, session_id: str, learn: bool = False) -> Session: ...
    def poller(self, market_type: str, session_id: str, polled: Polled, endpoint: Endpoint) -> Session:
        """A session that only fetches."""
        ...
