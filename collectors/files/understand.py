"""What a sample of a file means: dialect, columns, forms of time, zone, interval, scale. Pure.

Everything that decides rows is read from the file, known of its dialect, or said by its user: where none of them says
it, `Unclear` names the option that does. Nothing is taken for granted that another file of the same look would not
share.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

import msgspec
import polars as pl

from collectors.files import changes, dialects, own, texts
from collectors.files.archive import series
from collectors.files.dialects import ADJUSTED, CLOCK, COLUMNS, DATE, ID, MAPPED, NEEDED, TIME, Dialect
from collectors.files.reading import (
    INTERVALS,
    PRICES,
    Options,
    Reading,
    Refused,
    Sample,
    Unclear,
    check_kind,
    plain,
)
from collectors.files.stamping import Found, times_of
from lake import tables

_LEAN = re.compile(r"(?:(\d{4})(\d{2})(\d{2})_)([a-z0-9.]+)_(tick|second|minute)_(trade|quote)\.csv", re.IGNORECASE)
_LEAN_BARS = {"second": "1s", "minute": "1m"}
_LARGE = 10_000
"""Whole prices from here on are no prices of a currency, and of few shares: they may be scaled."""
_ASKED_OF = ("fx", "equity")
_NEAR = 0.9
_GUESSED = ("kline", "quote", "trade")
"""Kinds that the names of columns may tell."""


def understand(sample: Sample, options: Options, *, numbered: bool) -> Reading:
    """How rows are made of a file with this head. `numbered`: the ids of its exchange's trades follow by one.

    Raises Refused, Unclear, UnknownKind.
    """
    mine = own.kind_of(sample)
    if mine is not None and options.dialect in (None, own.DIALECT) and not options.columns:
        return own.reading(sample, mine, options)
    book = changes.dialect_of(sample)
    if book is not None and options.dialect in (None, book) and not options.columns:
        return changes.reading(sample, book, options)
    names = sample.header or tuple(str(place + 1) for place in range(len(sample.rows[0])))
    found = _found(sample, names, options)
    _check_needed(sample.name, found, names)
    fields = dict(found.fields)
    times = times_of(sample, names, found, options, fields)
    symbol = _symbol(sample.name, found, options)
    if fields.pop(ADJUSTED, None) is not None and not options.raw_prices and not options.columns:
        raise Unclear(
            f"{sample.name} has adjusted closes beside its closes, and adjusted prices are another series",
            "--raw-prices", hint="to take open to close as they are and leave the adjusted ones out, or --map",
        )  # fmt: skip
    _identify(sample, found, fields, numbered=numbered)
    scale = _scale(sample, found, fields, options)
    known = set(_offered(found.kind))
    if unknown := sorted(set(fields) - known):
        raise Refused(
            f"{found.kind} has no {', '.join(unknown)}", f"fields of --map: {', '.join(_offered(found.kind))}"
        )
    reading = Reading(
        dialect=found.dialect, kind=found.kind, format=sample.format, names=names, fields=fields, times=times,
        symbol=symbol, delimiter=sample.delimiter, skip=sample.skip, encoding=sample.encoding, comma=sample.comma,
        scale=scale,
    )  # fmt: skip
    return _candles(sample, found, options, reading) if found.kind == "kline" else reading


# --- dialect, kind and columns ---


def _found(sample: Sample, names: Sequence[str], options: Options) -> Found:
    lean = _LEAN.search(sample.name) if sample.header is None else None
    if options.columns:
        fields = _mapped(names, options.columns)
        kind = _kind(sample, options, fields)
        if lean is None:
            return Found(dialect=MAPPED, kind=kind, fields=fields)
        return Found(
            dialect=MAPPED, kind=kind, fields=fields, zone=_lean_zone(options), base=_lean_date(lean),
            interval=_LEAN_BARS.get(lean[5].lower()),
        )  # fmt: skip
    if options.dialect == "lean" or (options.dialect is None and lean is not None):
        return _lean(sample, lean, options)
    chosen = _dialect(sample, options)
    if chosen is not None:
        return _of_dialect(sample, names, chosen, options)
    if sample.header is None:
        raise _unknown(sample)
    fields = dialects.named(sample.header)
    if not any(all(name in fields for name in NEEDED[each]) for each in _GUESSED):
        _check_not_published(sample, sample.header, options)
    kind = _kind(sample, options, fields)
    used = {TIME, DATE, CLOCK, "symbol", ADJUSTED, *([ID] if "trade" in kind else []), *_offered(kind)}
    return Found(dialect=COLUMNS, kind=kind, fields={name: place for name, place in fields.items() if name in used})


def _check_not_published(sample: Sample, header: Sequence[str], options: Options) -> None:
    """Raises Refused where these columns are those of a venue's archive: its files become rows by another command."""
    for exchange in sorted(series.names(), key=lambda name: name != options.exchange):
        for each in series.load(exchange).datasets:
            markets = [market for market, names in each.header.items() if names == ",".join(header)]
            if not markets or each.lines != "csv":
                continue
            market = options.market_type if options.market_type in markets else markets[0]
            path = next(iter(each.paths[market].values()))
            raise Refused(
                f"{sample.name} is a file of {each.kind} of {exchange}'s archive",
                f"dl archive --exchange {exchange} --market {market} --kind {each.kind} --symbol … --from … --source"
                f" FOLDER takes it in, where it lies in FOLDER as {path}",
            )


def _unknown(sample: Sample) -> Refused:
    """What to say of a file without names whose rows nobody knows, or that looks like those of one exchange."""
    alike = [one for one in dialects.DIALECTS if one.only and one.fits(sample)]
    hint = "say what the columns are, e.g. " + (
        "--kind kline --map 1=time --map 2=open --map 3=high --map 4=low --map 5=close --map 6=volume"
        if len(sample.rows[0]) > 4
        else "--kind trade --map 1=time --map 2=price --map 3=qty"
    )
    if alike:
        hint = f"if it is {alike[0].what.partition(':')[0]}, say --dialect {alike[0].name}; else {hint}"
    return Refused(
        f"{sample.name} has no header, and its first row is in no known dialect: {_shown(sample.rows[0])}", hint
    )


def _dialect(sample: Sample, options: Options) -> Dialect | None:
    if options.dialect in (None, COLUMNS):
        told = (one for one in dialects.DIALECTS if one.only in ("", options.exchange) and one.of(options.market_type))
        return next((one for one in told if one.fits(sample)), None) if options.dialect is None else None
    chosen = dialects.dialect(str(options.dialect))
    if chosen is None:
        raise Refused(f"no dialect {options.dialect!r} is known", f"dialects: {', '.join(dialects.names())}")
    if not chosen.fits(sample):
        seen = _shown(sample.header or sample.rows[0])
        raise Refused(f"{sample.name} is not in the dialect {chosen.name}: it begins {seen}", "leave out --dialect")
    if not chosen.of(options.market_type):
        raise Refused(
            f"{chosen.name} is of {' and '.join(chosen.markets)}: {options.market_type} counts contracts there",
            f"say --market {' or '.join(chosen.markets)}; the archive's files of {options.market_type} are taken in by"
            " dl archive --source FOLDER",
        )
    return chosen


def _of_dialect(sample: Sample, names: Sequence[str], chosen: Dialect, options: Options) -> Found:
    offered = tuple(chosen.fields)
    kind = options.kind
    if kind is None and chosen.aggregated:
        kind = "agg_trade" if options.exchange == chosen.aggregated else "trade"
    if kind is None and len(offered) > 1:
        raise Unclear(f"{sample.name} ({chosen.name}) may be of several kinds", "--kind", offered)
    if kind is not None and kind in chosen.never:
        why, cure = chosen.never[kind]
        raise Refused(f"{sample.name} ({chosen.name}) gives no {kind}: {why}", cure)
    kind = check_kind(kind or offered[0])
    if kind == "trade" and chosen.aggregated and chosen.aggregated == options.exchange:
        raise Refused(f"{chosen.name} asks {chosen.aggregated} for aggregated trades", "say --kind agg_trade")
    if kind not in chosen.fields:
        raise Refused(f"{sample.name} ({chosen.name}) holds no {kind}", f"it holds {' or '.join(offered)}")
    header = [plain(name) for name in names]
    fields = {field: header.index(column) for field, column in chosen.fields[kind].items()}
    return Found(
        dialect=chosen.name, kind=kind, fields=fields, zone=chosen.zone, interval=chosen.interval, label=chosen.label
    )


def _lean(sample: Sample, named: re.Match[str] | None, options: Options) -> Found:
    if named is None:
        raise Refused(
            f"{sample.name} is not named as Lean names its files", "e.g. 20161007_btcusd_minute_trade.csv in a zip"
        )
    symbol, width, what = (part.lower() for part in named.groups()[3:])
    columns = len(sample.rows[0])
    shapes: Mapping[tuple[str, str, int], tuple[str, tuple[str, ...]]] = {
        ("tick", "quote", 3): ("quote", (TIME, "bid", "ask")),
        ("tick", "quote", 5): ("quote", (TIME, "bid", "bid_qty", "ask", "ask_qty")),
        ("tick", "trade", 3): ("trade", (TIME, "price", "qty")),
        ("bar", "trade", 6): ("kline", (TIME, "open", "high", "low", "close", "volume_base")),
    }
    shape = shapes.get(("tick" if width == "tick" else "bar", what, columns))
    if shape is None:
        raise Refused(
            f"{sample.name} holds Lean's bars of bids and asks ({width} {what}, {columns} columns), no kind here",
            "import its tick file, or the bars of one side, e.g. bids: --kind kline --map 1=time --map 2=open"
            " --map 3=high --map 4=low --map 5=close --symbol …",
        )
    kind, order = shape
    if options.kind not in (None, kind):
        raise Refused(f"{sample.name} (lean) holds no {options.kind}", f"it holds {kind}")
    return Found(
        dialect="lean", kind=kind, fields={field: place for place, field in enumerate(order)},
        zone=_lean_zone(options), interval=_LEAN_BARS.get(width),
        scale=4 if options.market_type == "equity" else 0, symbol=symbol.upper(), base=_lean_date(named),
    )  # fmt: skip


def _lean_date(named: re.Match[str]) -> str:
    return "-".join(named.groups()[:3])


def _lean_zone(options: Options) -> str | None:
    return {"equity": "America/New_York", "fx": None}.get(options.market_type, texts.UTC)


def _mapped(names: Sequence[str], columns: Mapping[str, str]) -> dict[str, int]:
    """Field -> column of --map COL=FIELD; a column by its name or its number from 1."""
    found: dict[str, int] = {}
    aliases = {"volume": "volume_base", "amount": "qty", "size": "qty", "ts_event": TIME, "open_time": TIME}
    for column, said in columns.items():
        exact = [place for place, name in enumerate(names) if name == column]
        places = exact or [place for place, name in enumerate(names) if plain(name) == plain(column)]
        if not places and column.isdigit() and 0 < int(column) <= len(names):
            places = [int(column) - 1]
        if len(places) != 1:
            raise Refused(
                f"--map {column}={said}: {'several columns have' if places else 'no column has'} that name",
                f"columns: {', '.join(f'{n} {name}' for n, name in enumerate(names, 1))}",
            )
        field = aliases.get(said, said)
        if field in found:
            raise Refused(f"--map names {field} twice", "one column a field")
        found[field] = places[0]
    return found


def _kind(sample: Sample, options: Options, fields: Mapping[str, int]) -> str:
    if options.kind is not None:
        return check_kind(options.kind)
    whole = [kind for kind in _GUESSED if all(name in fields for name in NEEDED[kind])]
    if len(whole) != 1:
        raise Unclear(f"what {sample.name} holds is not clear from its columns", "--kind", ("trade", "quote", "kline"))
    return whole[0]


def _offered(kind: str) -> tuple[str, ...]:
    """Fields of --map for a kind: its columns that a file may give."""
    hidden = ("open_time", "interval", "revision", "condition", "qty_unit", "multiplier")
    named = tuple(column.name for column in tables.columns(kind) if column.name not in hidden)
    first = named.index("source") + 1
    return (TIME, DATE, CLOCK, "symbol", *named[first:])


def _check_needed(name: str, found: Found, names: Sequence[str]) -> None:
    timed = TIME in found.fields or (DATE in found.fields and CLOCK in found.fields)
    missing = [*([] if timed else [TIME]), *(name for name in NEEDED[found.kind] if name not in found.fields)]
    if missing:
        raise Refused(
            f"{name}: no column is known to be {', '.join(missing)} of a {found.kind}; columns: {', '.join(names)}",
            f"say it with --map COL=FIELD, e.g. --map {names[0]}={missing[0]}",
        )


def _symbol(name: str, found: Found, options: Options) -> str:
    if "symbol" in found.fields:
        if options.symbol is not None:
            raise Refused(f"{name} names the symbol of each row", "leave out --symbol")
        return ""
    symbol = options.symbol or found.symbol
    if not symbol:
        raise Unclear(f"{name} does not say whose prices these are", "--symbol", hint="as its exchange spells it")
    return symbol


def _identify(sample: Sample, found: Found, fields: dict[str, int], *, numbered: bool) -> None:
    """The id of a trade is `seq` where ids follow by one at its exchange, else `trade_id` (decision 0018)."""
    place = fields.pop(ID, None)
    if place is None or "trade" not in found.kind:
        return
    name = "seq" if numbered else "trade_id"
    if numbered and (odd := next((text for text in sample.column(place) if not text.isdigit()), None)):
        raise Refused(f"the id {odd!r} is no number, as the ids of this exchange are", "check --exchange and --kind")
    fields[name] = place


# --- candles and prices ---


def _candles(sample: Sample, found: Found, options: Options, reading: Reading) -> Reading:
    stamp = reading.times["open_time"]
    columns = [pl.Series([row[place] if place < len(row) else "" for row in sample.rows]) for place in stamp.columns]
    held = texts.times(columns, stamp).drop_nulls().unique().sort()
    interval = options.interval or found.interval or _interval(sample.name, held.to_list())
    if interval not in INTERVALS:
        raise Refused(f"no interval {interval!r} is known", f"intervals: {', '.join(INTERVALS)}")
    label = options.label or found.label or "open"
    if options.label is None and interval == "1M" and held.len() and _ends_months(held, stamp.zone):
        label = "close"
    return msgspec.structs.replace(reading, interval=interval, label="close" if label == "close" else "open")


def _interval(name: str, held: Sequence[int]) -> str:
    """The step that most candles have, and none is below."""
    steps = Counter((after - before) // 1_000_000 for before, after in pairwise(held))
    if steps:
        step, times = steps.most_common(1)[0]
        months = sum(count for one, count in steps.items() if 28 * 86400 <= one <= 31 * 86400)
        if 2 * months > steps.total():
            return "1M"
        known = {seconds: text for text, seconds in INTERVALS.items()}
        if step in known and 2 * times >= steps.total() and min(steps) >= _NEAR * step:
            return known[step]
    raise Unclear(
        f"{name}: the times of its rows have no common step, so that the width of its candles is not known",
        "--interval", hint="e.g. 1m or 1d; what are no candles but ticks is --kind trade with --map",
    )  # fmt: skip


def _ends_months(held: pl.Series, zone: str) -> bool:
    """Whether every time lies on the last day of a month: then it is the candle's end."""
    next_day = texts.shifted(held, "1d", zone)
    return bool((texts.month_of(next_day, zone) == texts.month_of(held, zone)).not_().all())


def _scale(sample: Sample, found: Found, fields: Mapping[str, int], options: Options) -> int:
    if options.scale is not None:
        exponent = round(math.log10(options.scale)) if options.scale > 0 else -1
        if exponent < 0 or 10**exponent != options.scale:
            raise Refused(f"--scale {options.scale} is no power of ten", "1, 10000, 100000: what prices are divided by")
        return exponent
    if found.scale is not None:
        return found.scale
    prices = [text for name in PRICES if name in fields for text in sample.column(fields[name])]
    whole = [int(text) for text in prices if text.isdigit()]
    if options.market_type in _ASKED_OF and prices and len(whole) == len(prices) and min(whole) >= _LARGE:
        raise Unclear(
            f"{sample.name}: all prices are whole and large ({prices[0]}): they may be scaled",
            "--scale",
            ("10000", "100000", "1"),
        )
    return 0


def _shown(row: Sequence[str]) -> str:
    return ",".join(row)[:80]
