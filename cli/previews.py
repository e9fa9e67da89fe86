"""What a file was understood as, on the screen: before `dl import` writes anything of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.output import OUT
from market import times

if TYPE_CHECKING:
    from collectors.files.preview import Preview
    from lake.overlaps import Spans

OWN = "lake"


def show(look: Preview) -> None:
    """Dialect, columns, times, the first rows and how far it goes."""
    written = f"'{look.delimiter}' between columns, " if look.format == "csv" else ""
    OUT.print(f"{look.path}", markup=False)
    OUT.print(f"  {look.kind} in the dialect {look.dialect} ({look.format}, {written}{look.encoding})", markup=False)
    taken = [f"{column} -> {field}" for column, field in look.columns.items() if field]
    left = [column for column, field in look.columns.items() if not field]
    told = ", ".join(taken) + (f"; left out: {', '.join(left)}" if left else "")
    OUT.print(f"  columns: {'those of our own table' if look.dialect == OWN else told}", markup=False)
    for field, form in look.times.items():
        OUT.print(f"  {field}: {form}", markup=False)
    said = [f"symbol {look.symbol}" if look.symbol else "symbols of the file"]
    said += [f"candles of {look.interval}, named by their {look.label}"] if look.interval else []
    said += [f"prices divided by {look.scale}"] if look.scale != 1 else []
    OUT.print(f"  {'; '.join(said)}", markup=False)
    OUT.print(f"  from {times.text(look.ts_first)} to {times.text(look.ts_last)}", markup=False)
    for row in look.rows:
        told = " ".join(f"{name}={_short(value)}" for name, value in row.items() if value not in (None, ""))
        OUT.print(f"  {told}", markup=False)


def show_held(look: Preview, held: Spans) -> None:
    """Whose rows go first where the lake has that time already."""
    from lake.overlaps import of_symbol

    if look.ts_first is None or look.ts_last is None:
        return
    whole = times.Interval(look.ts_first, look.ts_last + 1)
    for symbol in [look.symbol] if look.symbol else dict.fromkeys(str(row["symbol"]) for row in look.rows):
        inside = [times.Interval(*span).clip(whole) for span in of_symbol(held, symbol)]
        length = sum(span.length for span in inside if not span.empty)
        if length:
            OUT.print(
                f"  the lake covers {_long(length)} of that time of {symbol}, and its rows go first: what is the same"
                " by its id is one row; rows without an id are left out there, and taken in its gaps and outside",
                markup=False,
            )


def _long(length: int) -> str:
    for unit, name in ((times.HOUR, "h"), (times.MINUTE, "min")):
        if length >= unit:
            return f"{length / unit:,.1f} {name}"
    return f"{length / times.SECOND:,.3f} s"


def _short(value: object) -> object:
    return f"({counted(len(value), 'level')})" if isinstance(value, list) else value


def counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
