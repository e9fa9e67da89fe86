"""Where everything in a lake is: names and paths, both ways. Nothing else builds or takes apart a path.

Paths are POSIX strings relative to the lake's root. Whatever a venue or user may name (symbols) goes through one
encoder, so that no name leaves the lake, meets a name that Windows reserves, or meets another that differs only in
case. Everything else in a path is checked against its alphabet. See docs/format/layout.md.
"""

from __future__ import annotations

import datetime as dt
import re
from functools import lru_cache
from hashlib import sha256 as _sha256
from typing import Final

import msgspec

from market import kinds, times
from market.errors import Malformed
from market.instruments import check_market_type

RAW: Final = "raw"
FRAMES: Final = "frames"
HOT: Final = "hot"
TABLES: Final = "tables"
VERSIONS: Final = "versions"
QUARANTINE: Final = "quarantine"
LEDGER: Final = "ledger"
FEATURES: Final = "features"
BACKUPS: Final = "backups"
CLOCKS: Final = "clocks"
ARCHIVES: Final = "archives"
LOGS: Final = "logs"
MANIFEST: Final = "manifest.db"
LOCK: Final = ".lock"
BALLAST: Final = ".ballast"
"""Room that is set aside for when the disk is full (`lake.ballast`)."""
OPEN: Final = ".open"
"""Suffix of a segment or frames file that is still written."""
ZST: Final = ".zst"
"""Suffix of a day's record of clocks that is compressed."""
META: Final = ".meta.json"
"""Suffix of the seal beside a sealed segment or frames file."""
TREES: Final = (RAW, FRAMES, HOT, TABLES, VERSIONS, FEATURES, QUARANTINE, LEDGER)

MAX_NAME: Final = 120
"""Bytes of an encoded name; a longer one is shortened and ends in a hash, since a file system stops at 255."""
_SHORT: Final = "%~"
_RESERVED = re.compile(r"(?:CON|PRN|AUX|NUL|COM[0-9]|LPT[0-9])(?:\..*)?")
_ENCODED = re.compile(r"(?:[A-Z0-9._-]|%[0-9A-F]{2})+")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NODE = re.compile(r"[a-z0-9]{1,32}")
_ARCHIVED = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,119}")
_HASH = re.compile(r"[0-9a-f]{8,64}")
_SAFE_BYTES = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")

_EXCHANGE = re.compile(r"[a-z][a-z0-9_-]{0,31}")
"""A venue's name; `ccxt-<id>` is one that has no adapter of ours."""
_STREAM = r"exchange=([a-z0-9_-]+)/market_type=([a-z]+)"
_OPENED = r"date=([0-9]{4}-[0-9]{2}-[0-9]{2})/([0-9]{6})-([a-z0-9]+)-([0-9]{6,})"
_RAW_PATH = re.compile(rf"raw/{_STREAM}/data_type=([a-z0-9_]+)/{_OPENED}\.jsonl(\.open)?")
_FRAMES_PATH = re.compile(rf"frames/{_STREAM}/{_OPENED}\.frames\.jsonl\.zst(\.open)?")
_FRAMES_NAME = re.compile(r"[0-9]{6}-([a-z0-9]+)-([0-9]{6,})\.frames\.jsonl")
_TABLE_PATH = re.compile(
    rf"(hot|tables|versions)/{_STREAM}/data_type=([a-z0-9_]+)(?:/symbol=([^/]+))?"
    r"/year=([0-9]{4})/month=([0-9]{2})/day=([0-9]{2})(?:/hour=([0-9]{2}))?"
    r"/([a-z0-9_]+)-([0-9]{9})-([0-9]{9})-g([0-9]+)-([0-9a-f]{8})\.parquet"
)
_BACKUP_PATH = re.compile(r"backups/manifest-([0-9]{4}-[0-9]{2}-[0-9]{2})-([0-9]{6})-([0-9]{6})\.db")
_CLOCKS_PATH = re.compile(r"clocks/([0-9]{4}-[0-9]{2}-[0-9]{2})-([a-z0-9]+)\.jsonl(\.zst)?")
_FEATURE_PATH = re.compile(
    rf"features/{_STREAM}/symbol=([^/]+)/feature_set=([a-z0-9_-]+)/([a-z0-9_-]+)-([0-9.]+)-([0-9a-f]{{8}})\.parquet"
)
_LEDGER_PATH = re.compile(r"ledger/([0-9]{4}-[0-9]{2}-[0-9]{2})-([a-z0-9]+)\.jsonl")


def encode_name(name: str) -> str:
    """A foreign name as one path component: capitals verbatim, the rest percent-encoded (`BTC/USD` -> `BTC%2FUSD`).

    Two names never become the same, not even on a file system that ignores case. One that would be longer than
    MAX_NAME becomes its beginning, `%~` and a hash. Raises Malformed for the empty name.
    """
    if not name:
        raise Malformed("name", name)
    return _encode(name)


@lru_cache(maxsize=8192)
def _encode(name: str) -> str:
    raw = name.encode("utf-8", "surrogatepass")
    last = len(raw) - 1
    reserved = _RESERVED.fullmatch(name) is not None
    parts = [
        chr(byte) if byte in _SAFE_BYTES and not _exposed(byte, place, last, reserved) else f"%{byte:02X}"
        for place, byte in enumerate(raw)
    ]
    encoded = "".join(parts)
    if len(encoded) <= MAX_NAME:
        return encoded
    head = re.sub(r"%[0-9A-F]?$", "", encoded[: MAX_NAME - 34])
    return f"{head}{_SHORT}{_sha256(raw).hexdigest()[:32].upper()}"


def _exposed(byte: int, place: int, last: int, reserved: bool) -> bool:
    """Whether a harmless byte is not harmless here: first in a hidden or reserved name, or a dot at the end."""
    if place == 0:
        return reserved or byte in b"._-"
    return place == last and byte == ord(".")


def decode_name(encoded: str) -> str:
    """The name that `encode_name` encoded. Raises Malformed for what it would not have written.

    A shortened name is not in the path: read it from the file.
    """
    if _SHORT in encoded:
        raise Malformed("encoded name (shortened: the name is in the file's symbol column)", encoded)
    if not _ENCODED.fullmatch(encoded):
        raise Malformed("encoded name", encoded)
    raw = re.sub(rb"%([0-9A-F]{2})", lambda match: bytes((int(match[1], 16),)), encoded.encode())
    try:
        name = raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise Malformed("encoded name", encoded) from error
    if encode_name(name) != encoded:
        raise Malformed("encoded name", encoded)
    return name


def _check(pattern: re.Pattern[str], what: str, value: str) -> str:
    if not pattern.fullmatch(value):
        raise Malformed(what, value)
    return value


def check_node(node: str) -> str:
    """`node` if it may name a writer: [a-z0-9]+, at most 32 characters. Raises Malformed."""
    return _check(_NODE, "node (use a-z and 0-9)", node)


def _stream(exchange: str, market_type: str) -> str:
    return f"exchange={_check(_EXCHANGE, 'exchange', exchange)}/market_type={check_market_type(market_type)}"


def _opened(opened_at: int, node: str, number: int) -> str:
    if number < 0:
        raise Malformed("file number", number)
    when = times.to_datetime(opened_at)
    return f"date={when:%Y-%m-%d}/{when:%H%M%S}-{check_node(node)}-{number:06d}"


def raw_path(exchange: str, market_type: str, kind: str, opened_at: int, node: str, number: int) -> str:
    """A sealed segment's path; while it is written its name has OPEN behind it. `opened_at` us, receive time."""
    name = kinds.kind(kind).name
    return f"{RAW}/{_stream(exchange, market_type)}/data_type={name}/{_opened(opened_at, node, number)}.jsonl"


def frames_path(exchange: str, market_type: str, opened_at: int, node: str, number: int) -> str:
    """A sealed frames file's path; while it is written its name has OPEN behind it."""
    return f"{FRAMES}/{_stream(exchange, market_type)}/{_opened(opened_at, node, number)}.frames.jsonl.zst"


def meta_path(path: str) -> str:
    """The seal of a segment or frames file, open or sealed."""
    return path.removesuffix(OPEN) + META


def parquet_name(kind: str, first: int, last: int, generation: int, sha256: str) -> str:
    """`<kind>-<first>-<last>-g<gen>-<sha8>.parquet`; first and last are ts_event (us) of the rows in it."""
    _check(_HASH, "SHA-256", sha256)
    return f"{kind}-{times.clock_text(first)}-{times.clock_text(last)}-g{generation}-{sha256[:8]}.parquet"


def _day(date: str) -> str:
    try:
        day = dt.date.fromisoformat(_check(_DATE, "date", date))  # which alone would take 20261120 as well
    except ValueError as error:
        raise Malformed("date", date) from error
    return f"year={day:%Y}/month={day:%m}/day={day:%d}"


def hot_dir(exchange: str, market_type: str, kind: str, date: str, hour: int) -> str:
    """Folder of the hot parts and hour files of one hour of event time: all symbols together."""
    name = kinds.kind(kind).name
    return f"{HOT}/{_stream(exchange, market_type)}/data_type={name}/{_day(date)}/hour={_hour(hour)}"


def _hour(hour: int) -> str:
    if not 0 <= hour <= 23:
        raise Malformed("hour", hour)
    return f"{hour:02d}"


def dataset_dir(exchange: str, market_type: str, kind: str, symbol: str | None) -> str:
    """Folder of all daily files in tables/; `symbol` is None for kinds whose daily file holds all symbols."""
    folder = f"{TABLES}/{_stream(exchange, market_type)}/data_type={kinds.kind(kind).name}"
    return folder + (f"/symbol={encode_name(symbol)}" if symbol is not None else "")


def table_dir(
    exchange: str, market_type: str, kind: str, symbol: str | None, date: str, hour: int | None = None
) -> str:
    """Folder of a daily file in tables/."""
    folder = dataset_dir(exchange, market_type, kind, symbol)
    return f"{folder}/{_day(date)}" + (f"/hour={_hour(hour)}" if hour is not None else "")


def version_dir(
    exchange: str, market_type: str, kind: str, symbol: str | None, date: str, hour: int | None = None
) -> str:
    """Folder of every revision of a daily file, where the manifest's paths point."""
    return VERSIONS + table_dir(exchange, market_type, kind, symbol, date, hour).removeprefix(TABLES)


def quarantine_path(origin: str, what: str) -> str:
    """Where bytes of `origin` (a path in the lake, or a session id) are set aside; `what` tells which of them.

    The same bytes always go to the same place, so that setting them aside twice is setting them aside once.
    """
    parts = origin.removesuffix(OPEN).split("/")
    if not all(re.fullmatch(r"[A-Za-z0-9_=%~-][A-Za-z0-9._=%~-]*", part) for part in parts):
        raise Malformed("origin of quarantined bytes", origin)
    return f"{QUARANTINE}/{'/'.join(parts)}.{_check(re.compile(r'[a-z0-9-]{1,40}'), 'what is quarantined', what)}"


def ledger_path(date: str, node: str) -> str:
    """One day's ledger of one writer. `date` is YYYY-MM-DD."""
    _day(date)
    return f"{LEDGER}/{date}-{check_node(node)}.jsonl"


def clocks_path(date: str, node: str) -> str:
    """One day's record of clocks and latencies of one writer; ZST is behind it once it is packed."""
    _day(date)
    return f"{CLOCKS}/{date}-{check_node(node)}.jsonl"


def parse_clocks(path: str) -> tuple[str, str, bool]:
    """(date, node, packed) of a day's record of clocks. Raises Malformed."""
    match = _CLOCKS_PATH.fullmatch(path)
    if match is None:
        raise Malformed("path of a record of clocks", path)
    _day(match[1])
    return match[1], match[2], match[3] is not None


def feature_path(exchange: str, market_type: str, symbol: str, feature_set: str, version: str, sha256: str) -> str:
    """One version of a feature set (names as `lake.feature_rows` checks them)."""
    folder = f"{FEATURES}/{_stream(exchange, market_type)}/symbol={encode_name(symbol)}/feature_set={feature_set}"
    path = f"{folder}/{feature_set}-{version}-{_check(_HASH, 'SHA-256', sha256)[:8]}.parquet"
    return _check(_FEATURE_PATH, "path of a feature set", path)


def is_feature(path: str) -> bool:
    """Whether that is the path of a version of a feature set; what it holds is said by its footer."""
    match = _FEATURE_PATH.fullmatch(path)
    return match is not None and match[4] == match[5]


def archive_path(exchange: str, path: str) -> str:
    """What is known of a file of a venue's archive, and its bytes while they are needed; `path` is its own."""
    parts = path.split("/")
    if not all(_ARCHIVED.fullmatch(part) for part in parts):
        raise Malformed("path in an archive", path)
    return f"{ARCHIVES}/{_check(_EXCHANGE, 'exchange', exchange)}/{'/'.join(parts)}"


def backup_path(at: int) -> str:
    """A copy of the manifest that was begun at `at` (us)."""
    return f"{BACKUPS}/manifest-{times.to_datetime(at):%Y-%m-%d-%H%M%S}-{at % times.SECOND:06d}.db"


def parse_backup(path: str) -> int:
    """When (us) the copy of the manifest of that path was begun. Raises Malformed."""
    match = _BACKUP_PATH.fullmatch(path)
    if match is None:
        raise Malformed("path of a manifest's copy", path)
    return _opened_at(match[1], match[2]) + int(match[3])


class OpenedPath(msgspec.Struct, frozen=True):
    """What a segment's or frames file's path says. `opened_at` is us, whole seconds; frames have the kind `frames`."""

    path: str
    exchange: str
    market_type: str
    kind: str
    opened_at: int
    node: str
    number: int
    open: bool


class ParquetPath(msgspec.Struct, frozen=True):
    """What a Parquet file's path says. `first`, `last` are HHMMSSmmm; `hour` None for a daily file."""

    tree: str
    exchange: str
    market_type: str
    kind: str
    symbol: str | None
    date: str
    hour: int | None
    first: str
    last: str
    generation: int
    sha8: str


def _opened_at(date: str, clock: str) -> int:
    try:
        when = dt.datetime.strptime(date + clock, "%Y-%m-%d%H%M%S").replace(tzinfo=dt.UTC)
    except ValueError as error:
        raise Malformed("time in a file name", f"{date} {clock}") from error
    return times.from_datetime(when)


def parse_raw(path: str) -> OpenedPath:
    """Take apart a segment's path, open or sealed. Raises Malformed, UnknownKind."""
    match = _RAW_PATH.fullmatch(path)
    if match is None:
        raise Malformed("segment path", path)
    exchange, market_type, kind, date, clock, node, number, still_open = match.groups()
    name = kinds.kind(kind).name
    return OpenedPath(
        path.removesuffix(OPEN), exchange, check_market_type(market_type), name, _opened_at(date, clock), node,
        int(number), still_open is not None,
    )  # fmt: skip


def number_of(path: str) -> int:
    """Which of its stream's files a segment is, open or sealed, by a path that is known to be one: the later it was
    begun the higher, whatever the clock says.
    """
    return int(path[path.rindex("-") + 1 : path.index(".", path.rindex("-"))])


def parse_frames(path: str) -> OpenedPath:
    """Take apart a frames file's path, open or sealed. Raises Malformed."""
    match = _FRAMES_PATH.fullmatch(path)
    if match is None:
        raise Malformed("frames path", path)
    exchange, market_type, date, clock, node, number, still_open = match.groups()
    return OpenedPath(
        path.removesuffix(OPEN), exchange, check_market_type(market_type), FRAMES, _opened_at(date, clock), node,
        int(number), still_open is not None,
    )  # fmt: skip


def frames_number(name: str) -> tuple[str, int] | None:
    """Who wrote a frames file of that name, wherever it lies now, and as which of his files; None for another name."""
    match = _FRAMES_NAME.match(name)
    return None if match is None else (match[1], int(match[2]))


def parse_parquet(path: str) -> ParquetPath:
    """Take apart the path of a file under hot/, tables/ or versions/. Raises Malformed, UnknownKind."""
    match = _TABLE_PATH.fullmatch(path)
    if match is None or match[4] != match[10]:
        raise Malformed("table path", path)
    tree, exchange, market_type, kind, symbol, year, month, day, hour, _, first, last, generation, sha8 = match.groups()
    date = f"{year}-{month}-{day}"
    _day(date)
    return ParquetPath(
        tree, exchange, check_market_type(market_type), kinds.kind(kind).name,
        decode_name(symbol) if symbol is not None else None, date, int(_hour(int(hour))) if hour else None,
        first, last, int(generation), sha8,
    )  # fmt: skip


def parse_ledger(path: str) -> tuple[str, str]:
    """(date, node) of a ledger file's path. Raises Malformed."""
    match = _LEDGER_PATH.fullmatch(path)
    if match is None:
        raise Malformed("ledger path", path)
    _day(match[1])
    return match[1], match[2]
