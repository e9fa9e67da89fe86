"""What the client asks, as plain values: requests from the arguments of a verb, answers from status and body. Pure.

Times are what `Lake` takes: int us, ISO text, date or datetime. Rows are asked for as the Arrow stream.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeAlias, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec
import pyarrow as pa

from client.errors import AnswerBroken, ClientError, WrongQuestion, kind_of
from client.wire import Request
from market import times
from market.errors import Malformed
from market.session import Gap

T = TypeVar("T")
Time: TypeAlias = int | str | dt.datetime | dt.date
Symbols: TypeAlias = str | Sequence[str] | None
Duration: TypeAlias = int | str | dt.timedelta
"""us, `15m`, or a timedelta."""
V1 = "/api/v1"
PAGE = 10_000
"""Rows of a page of gaps, coverage or versions."""
SHORT = 1000
"""Rows of a page of datasets, feature sets or jobs."""
ATTEMPTS = 4
AGAIN = frozenset({429, 503})
"""Statuses after which a question is asked again."""
LONGEST_WAIT = 30.0
_SEVERAL = frozenset({"symbol", "set", "state", "computed_on", "kinds"})
_NAMES = _SEVERAL | {
    "exchange", "market", "market_type", "kind", "data_type", "feature_set", "fill", "min_state", "q", "source",
}  # fmt: skip
"""What is a text, or of `_SEVERAL` some of them."""
_LAST = 8_000 * 365 * times.DAY
_IDENTITY = ("id", "gap_id", "exchange", "market_type", "market", "kind", "symbol", "date", "revision")
CONFIRM = 428
"""The status of an answer that asks to be asked again with what it says."""


class Server(msgspec.Struct, frozen=True):
    """Where the server is."""

    scheme: str
    host: str
    port: int

    @property
    def base(self) -> str:
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{shown}:{self.port}"


def server(address: str) -> Server:
    """`http://127.0.0.1:8572`. Raises ClientError for what is no such address."""
    if not isinstance(address, str):
        raise ClientError(f"{address!r} is no address of a server: it looks like http://127.0.0.1:8572")
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise ClientError(f"{address!r} is no address of a server: {error}") from error
    plain = parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username or parts.password)
    if parts.scheme not in ("http", "https") or not parts.hostname or not plain:
        raise ClientError(f"{address!r} is no address of a server: it looks like http://127.0.0.1:8572")
    return Server(parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80))


def headers(token: str | None) -> dict[str, str]:
    """Of every request."""
    held = {"Accept-Encoding": "identity", "User-Agent": "market-data-lake client"}
    return held if token is None else {**held, "Authorization": f"Bearer {_line('token', token)}"}


def _line(name: str, value: object) -> str:
    """What a header can carry. Raises WrongQuestion, which does not show it."""
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        raise WrongQuestion(f"{name} is no text of printable ASCII characters")
    return value


def get(path: str, **query: Any) -> Request:
    """A question; what is None is not said, times as microseconds. No symbol at all is one without a name, which
    nothing answers to: left out, it would ask for every symbol.
    """
    said = {name: said_of(name, value) for name, value in query.items() if value is not None}
    if said.get("symbol") == []:
        said["symbol"] = ""
    asked = urlencode({name: value for name, value in said.items() if value != []}, doseq=True)
    return Request("GET", V1 + path + (f"?{asked}" if asked else ""))


def post(path: str, body: object = None) -> Request:
    """Something to be done. Raises WrongQuestion for what cannot be said in JSON."""
    try:
        return Request("POST", V1 + path, b"" if body is None else msgspec.json.encode(body))
    except (TypeError, ValueError, OverflowError) as error:
        raise WrongQuestion(f"{body!r} cannot be sent: {error}") from error


def delete(path: str, *, confirm: str | None = None, **query: Any) -> Request:
    """Something to be taken away, and the word that confirms it."""
    said = () if confirm is None else (("X-Confirm", _line("confirm", confirm)),)
    return Request("DELETE", get(path, **query).target, headers=said, also=(CONFIRM,))


def part(**named: str) -> str:
    """A name as one part of a path. Raises WrongQuestion for what is no text."""
    ((name, value),) = named.items()
    return quote(text(name, value), safe="")


def text(name: str, value: object) -> str:
    """Raises WrongQuestion for what is no text."""
    if not isinstance(value, str):
        raise WrongQuestion(f"{name}={value!r} is no name: a name is a text")
    return value


def columns_of(value: object) -> str:
    """Columns as one text. Raises WrongQuestion for what is no list of names."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise WrongQuestion(f"columns={value!r} is no list: use columns=['price']")
    names = [text("columns", one) for one in value]
    if not names:
        raise WrongQuestion("columns=[] names no column: leave it out for all of them")
    return ",".join(names)


def said_of(name: str, value: Any) -> Any:
    """A value as an address has it. Raises WrongQuestion for what is none of its kind."""
    if name in _SEVERAL and not isinstance(value, str | bytes | Mapping) and isinstance(value, Iterable):
        return [text(name, one) for one in value]
    if name in _NAMES:
        return text(name, value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dt.timedelta):
        return value // dt.timedelta(microseconds=1)
    if isinstance(value, dt.datetime | dt.date):
        return times.parse(value)
    if isinstance(value, str | int | float):
        return value
    raise WrongQuestion(f"{name}={value!r} cannot be asked for: it is a text, a number or a time")


def time_of(name: str, value: Time | None) -> int | None:
    """Microseconds. Raises Malformed."""
    try:
        return None if value is None else times.parse(value)
    except Malformed as error:
        raise Malformed(f"{error.what} for {name}", value) from error


def date_of(value: Time) -> str:
    """The UTC day that holds a time, as YYYY-MM-DD. Raises Malformed, WrongQuestion."""
    time = time_of("date", value)
    if time is None or not 0 <= time < _LAST:
        raise WrongQuestion(f"date={value!r} is no day: use for example 2026-11-20")
    return times.date_of(time).isoformat()


# --- answers ---


def error_of(status: int, body: bytes, retry_after: str | None = None) -> ClientError:
    """What the server says went wrong, and how long it asks to wait."""
    try:
        said = msgspec.json.decode(body, type=dict[str, Any])
        error = kind_of(status)(str(said["detail"]), str(said.get("error", "")), status)
    except (msgspec.MsgspecError, KeyError):
        return AnswerBroken(f"the answer has status {status} and is none of this API's", status=status)
    error.retry_after = retry_after
    return error


def json_of(body: bytes) -> Any:
    """Raises AnswerBroken."""
    try:
        return msgspec.json.decode(body)
    except msgspec.MsgspecError as error:
        raise AnswerBroken(f"the answer is no JSON: {error}") from error


def table_of(body: bytes) -> pa.Table:
    """Rows; their schema says how complete they are, as that of `Lake`. Raises AnswerBroken."""
    try:
        return pa.ipc.open_stream(pa.BufferReader(body)).read_all()
    except pa.ArrowInvalid as error:
        raise AnswerBroken(f"the answer is no Arrow stream: {error}") from error


def page_of(body: bytes, name: str) -> tuple[list[dict[str, Any]], int]:
    """The rows of a page, and how many there are on all. Raises AnswerBroken."""
    said = json_of(body)
    if not isinstance(said, dict) or not isinstance(said.get(name), list) or not isinstance(said.get("total"), int):
        raise AnswerBroken(f"the answer is no page of {name}")
    return said[name], said["total"]


class Pages(Generic[T]):
    """A list that is read in pages, each from the last row of the one before: where that is another one by then, a row
    came or went on a page already read, and reading begins anew.
    """

    def __init__(self) -> None:
        self.found: list[T] = []
        self.whole = False
        self._attempts = ATTEMPTS

    @property
    def offset(self) -> int:
        """Where the next page begins."""
        return max(0, len(self.found) - 1)

    def take(self, rows: Sequence[T], total: int) -> None:
        """The next page, and how many rows there are. Raises AnswerBroken where they keep changing."""
        if self.found and (not rows or _which(rows[0]) != _which(self.found[-1])):
            self._attempts -= 1
            if not self._attempts:
                raise AnswerBroken("it kept changing while its pages were read: ask for less of it")
            self.found = []
            return
        more = rows[1:] if self.found else rows
        self.found += more
        self.whole = not more or len(self.found) >= total


def _which(row: object) -> object:
    """What a row is of: times, sizes and states of it change while it is the same."""
    said = row if isinstance(row, Mapping) else msgspec.structs.asdict(row) if isinstance(row, msgspec.Struct) else {}
    inside = ((said.get(name), key) for name, key in (("file", "path"), ("job", "job")))
    held = [one.get(key) if isinstance(one, Mapping) else None for one, key in inside]
    return [*held, *(said.get(name) for name in _IDENTITY)]


def gaps_of(rows: Sequence[Mapping[str, Any]]) -> list[Gap]:
    """Raises AnswerBroken."""
    try:
        return [msgspec.convert(row, Gap) for row in rows]
    except msgspec.ValidationError as error:
        raise AnswerBroken(f"the answer holds no gaps: {error}") from error


def events(lines: Iterable[bytes]) -> Iterator[tuple[str, Any]]:
    """Server-sent events, line by line: the name of each, and its JSON. Raises AnswerBroken."""
    name, data = "", b""
    for line in lines:
        word, _, rest = line.rstrip(b"\r\n").partition(b":")
        if word == b"event":
            name = rest.strip().decode(errors="replace")
        elif word == b"data":
            data += rest.strip()
        elif not word and not rest and data:
            yield name, json_of(data)
            name, data = "", b""


def waits(jitter: float) -> Iterator[float]:
    """Seconds before each further attempt; `jitter` in [0, 1) keeps clients that failed together apart."""
    for attempt in range(ATTEMPTS - 1):
        yield min(LONGEST_WAIT, 0.25 * 4**attempt * (1 + jitter))


def wait_of(said: str | None, own: float) -> float:
    """How long to wait: what the server asks for (Retry-After), or longer where we would."""
    asked = float(said) if said is not None and said.isascii() and said.isdigit() else 0.0
    return min(LONGEST_WAIT, max(asked, own))
