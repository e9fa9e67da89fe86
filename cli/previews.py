"""What a file was understood as, on the screen: before `dl import` writes anything of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cli.output import OUT, counted
from market import times

if TYPE_CHECKING:
    from collections.abc import Mapping

    from collectors.files.preview import Preview
    from lake.overlaps import Spans

OWN = "lake"
SHOWN = 10
"""Parts of a bought book that are named one by one."""


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


def say_filled(filled: Mapping[str, Any]) -> None:
    """Which parts of a bought book became rows beside what the lake has, and which did not."""
    for one in filled["parts"][:SHOWN]:
        how = "what its messages before that came to" if one["folded"] else "a whole book of its own"
        OUT.print(
            f"  taken: {times.text(one['ts_from'])} to {times.text(one['ts_to'])}, {counted(one['rows'], 'message')},"
            f" begun with {how}"
            + (f": {one['same']:,} of {one['levels']:,} levels as the lake had them then" if one["levels"] else ""),
            markup=False,
        )
    if not filled["parts"]:
        OUT.print("  taken: nothing, the lake leaves none of that time open", markup=False)
    for told in filled["not_taken"][:SHOWN]:
        OUT.print(f"  not taken: {told}", markup=False)
    for name, several in (("parts", "parts taken"), ("not_taken", "not taken")):
        if len(filled[name]) > SHOWN:
            OUT.print(f"  and {len(filled[name]) - SHOWN:,} more {several} (--json has all)", markup=False)


def _long(length: int) -> str:
    for unit, name in ((times.HOUR, "h"), (times.MINUTE, "min")):
        if length >= unit:
            return f"{length / unit:,.1f} {name}"
    return f"{length / times.SECOND:,.3f} s"


def _short(value: object) -> object:
    return f"({counted(len(value), 'level')})" if isinstance(value, list) else value
