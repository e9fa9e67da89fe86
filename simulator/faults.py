"""What can go wrong on command: the faults, whom they concern, how long, and the schedule they may come by.

A fault is asked for by `POST /sim/faults` with its fields as JSON, or by `--fault` on a schedule:
`30s:cut`, `45s:drop_ids:symbol=BTCUSDT,count=3`, `every 20s:silence:venue=okx,kind=trade,seconds=5`. Each venue has
a port of its own: what is posted there is its fault.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from simulator.events import KIND_OF, KINDS, Event
from simulator.instruments import MARKETS
from simulator.market import Book

__all__ = ["FORMS", "KINDS", "KIND_OF", "ON_EVENTS", "ON_REQUESTS", "Fault", "Scheduled", "parse_schedule"]

FaultName = Literal[
    "cut", "reset", "freeze", "flap", "refuse", "mute", "shutdown", "silence", "drop_ids", "duplicate_ids",
    "reorder_ids", "restart_ids", "replay", "acks", "bad_price", "bad_time", "drift", "garbage", "half_frame",
    "huge_frame", "html_200", "http_status", "empty_body", "short_body", "gzip_cut", "gzip_bomb", "endless_body",
    "slow_body",
]  # fmt: skip
ON_EVENTS = ("silence", "drop_ids", "duplicate_ids", "reorder_ids", "half_frame", "bad_price", "bad_time", "drift")
ON_REQUESTS = (
    "html_200", "http_status", "empty_body", "short_body", "gzip_cut", "gzip_bomb", "endless_body", "slow_body",
)  # fmt: skip
LASTING = ("silence", "refuse", "mute", "freeze", "flap", "replay")
"""These are in force for `seconds`; the others end with their `count` or at once."""
FORMS: dict[str, tuple[str, ...]] = {
    "refuse": ("reset", "status"),
    "acks": ("none", "partial", "error"),
    "http_status": ("json", "html", "empty"),
    "bad_price": (
        "nan", "bare_nan", "inf", "underscore", "arabic", "exponent", "negative", "zero", "digits",
    ),
    "drift": ("added", "renamed", "removed", "scaled"),
    "bad_time": ("zero", "epoch", "year_3000", "seconds", "micro", "nano", "negative"),
}  # fmt: skip
"""What `form` may say; where it says nothing the first is meant, and events get all in turn."""


class Fault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One fault. Scope: `market, symbol, kind, connection`, each any where null; `path` is a part of a REST path.

    - cut: connections end without a word (FIN), or are closed with the WebSocket `code`.
    - reset: connections end by RST; what their sockets still held is lost.
    - freeze: connections are neither read nor written for `seconds`, then end; no FIN, no pong, no ping before.
    - flap: for `seconds` every connection, old and new, is cut `after` seconds.
    - refuse: for `seconds` upgrades are reset without an answer, or (form status) answered with `status`.
    - mute: connections opened within `seconds` are never sent a frame, nor an answer, nor a ping.
    - shutdown: the venue announces its shutdown where its protocol has words for it, and cuts after `seconds`.
    - silence: matching events are not sent for `seconds`; with neither symbol nor kind, pings stop too.
    - drop_ids: the next `count` matching events are sent to nobody in scope; of kind book_delta these are lost updates.
    - duplicate_ids: the next `count` matching events are sent twice.
    - reorder_ids: the next `count` matching events change places with the one after them in their stream.
    - restart_ids: trades and aggregates are numbered from 1 again.
    - replay: for `seconds`, a subscription is followed by the last `count` trades or aggregates of each of its streams.
    - acks: the next `count` subscriptions get no answer, are taken on by half (partial), or are refused (error).
    - bad_price, bad_time: the next `count` matching events leave with a price or times in a wrong `form`.
    - drift: the next `count` matching events leave as if the venue had changed its messages: a field is added, or the
      one that `text` names is renamed, removed, or scaled by 1000.
    - garbage: `count` frames that are no message of the venue; `text` sends that text instead.
    - half_frame: of the next matching event only half a frame leaves, then the connection is reset.
    - huge_frame: one text frame of `size` bytes.
    - html_200: the next `count` REST answers are a web page with status 200.
    - http_status: the next `count` answers (path "ws" means WebSocket upgrades) have `status` and, with `retry_after`,
      that header in seconds or as a date (`retry_date`); the body has a `form`.
    - empty_body: the next `count` REST answers are nothing, with status 200.
    - short_body: the next `count` REST answers end before their Content-Length.
    - gzip_cut, gzip_bomb: they are compressed, and cut short or `size` bytes of blanks inside.
    - endless_body: they go on for `seconds`. slow_body: they come byte by byte, for `seconds`.
    """

    fault: FaultName
    market: str | None = None
    symbol: str | None = None
    kind: str | None = None
    connection: int | None = None
    path: str | None = None
    count: int = 1
    seconds: float = 10.0
    after: float = 1.0
    code: int | None = None
    status: int = 503
    retry_after: int | None = None
    retry_date: bool = False
    form: str | None = None
    size: int = 20 * 1024 * 1024
    text: str | None = None
    id: int = 0
    until: float = 0.0
    """Loop time at which it ends; 0 where only `count` ends it."""

    def __post_init__(self) -> None:
        if self.market not in (None, *MARKETS):
            raise ValueError(f"market must be one of {', '.join(MARKETS)}")
        if self.kind not in (None, *KINDS):
            raise ValueError(f"kind must be one of {', '.join(KINDS)}")
        if self.form is not None and self.form not in FORMS.get(self.fault, ()):
            raise ValueError(f"form of {self.fault} must be one of {', '.join(FORMS.get(self.fault, ('none',)))}")
        if self.count < 1 or self.seconds < 0 or self.after < 0 or not 100 <= self.status <= 599:
            raise ValueError("count must be at least 1, seconds and after not negative, status between 100 and 599")

    def meets(self, event: Event) -> bool:
        """Whether the event is in scope, whoever it goes to."""
        return (
            self.of_book(event.book)
            and (self.kind is None or self.kind == KIND_OF[type(event)])
            and (self.fault == "silence" or self.count > 0)
        )

    def of_book(self, book: Book) -> bool:
        return self.market in (None, book.market) and self.symbol in (None, book.symbol)

    def spares(self, connection: int, market: str) -> bool:
        """Whether that connection is out of scope."""
        return self.connection not in (None, connection) or self.market not in (None, market)

    def next_form(self) -> str:
        """The form of the next event: the one asked for, or each in turn."""
        forms = FORMS[self.fault]
        return self.form or forms[self.count % len(forms)]

    def parameters(self) -> dict[str, Any]:
        """The fields that differ from their defaults, for the log and the control route."""
        plain = Fault(fault=self.fault)
        skipped = ("fault", "id", "until")
        return {
            name: getattr(self, name)
            for name in self.__struct_fields__
            if name not in skipped and getattr(self, name) != getattr(plain, name)
        }


class Scheduled(msgspec.Struct, frozen=True):
    """A fault of the command line: first `after` seconds from the start, then again as often if `repeat`."""

    after: float
    repeat: bool
    fields: dict[str, Any]
    venue: str = ""
    """Whose it is; all venues' where empty."""

    def fault(self) -> Fault:
        """A fresh fault of these fields."""
        return msgspec.convert(self.fields, Fault, strict=False)


_SCHEDULE = re.compile(r"(every )?(\d+(?:\.\d+)?)s:([a-z_0-9]+)(?::(.*))?")


def parse_schedule(text: str) -> Scheduled:
    """`[every ]<seconds>s:<fault>[:name=value,...]`. Raises ValueError with what is wrong."""
    match = _SCHEDULE.fullmatch(text)
    if match is None:
        raise ValueError(f"fault {text!r} is not like 30s:cut or every 20s:drop_ids:symbol=BTCUSDT,count=3")
    every, seconds, name, rest = match.groups()
    fields = {"fault": name} | dict(pair.split("=", 1) for pair in (rest or "").split(",") if "=" in pair)
    if rest and len(fields) != 1 + len(rest.split(",")):
        raise ValueError(f"fault {text!r}: parameters are name=value, separated by commas, each once")
    if every and float(seconds) <= 0:
        raise ValueError(f"fault {text!r}: a repeated fault needs a time above zero")
    venue = fields.pop("venue", "")
    scheduled = Scheduled(float(seconds), bool(every), fields, venue)
    try:
        scheduled.fault()
    except msgspec.ValidationError as error:
        raise ValueError(f"fault {text!r}: {error}") from error
    return scheduled
