"""A table as lines of text that fit where they are read, with no cell cut: what does not fit beside stands below."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rich.cells import cell_len

BETWEEN = "  "
_NUMBER = re.compile(r"-|nan|[+-]?(inf|\d[\d,]*(\.\d+)?(e[+-]\d+| [kMGT]?B| [kM])?)")


def blocks(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Iterator[list[str]]:
    """The lines of one table, its heads first; of several below each other where `width` is too small for all columns.

    Each of these begins with the columns that say which row it is: so many of the first ones of text as it takes, and
    as leave half of the width. Numbers and sizes stand to the right. A cell wider than `width` is left to the terminal.
    """
    heads = [_on_a_line(name) for name in columns]
    cells = [[_on_a_line(text) for text in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(heads, *cells, strict=True)]
    to_right = [all(_NUMBER.fullmatch(row[at]) for row in cells) for at in range(len(heads))]

    def lines(shown: Sequence[int]) -> list[str]:
        made = []
        for row in (heads, *cells):
            padded = (" " * (widths[at] - cell_len(row[at])) for at in shown)
            parts = (
                f"{blank}{row[at]}" if to_right[at] else f"{row[at]}{blank}"
                for at, blank in zip(shown, padded, strict=True)
            )
            made.append(BETWEEN.join(parts).rstrip())
        return made

    names: list[int] = []
    while len(names) < len(heads) - 1 and len({tuple(row[at] for at in names) for row in cells}) < len(cells):
        if to_right[len(names)] or _taken(widths, range(len(names) + 1)) > width // 2:
            break
        names.append(len(names))
    for shown in _fitting(widths, names, width):
        yield lines(shown)


def _fitting(widths: Sequence[int], names: Sequence[int], width: int) -> Iterator[list[int]]:
    """The columns of each block: the names, then as many of the others as there is room for, and one at least."""
    shown = list(names)
    for at in range(len(names), len(widths)):
        if len(shown) > len(names) and _taken(widths, [*shown, at]) > width:
            yield shown
            shown = list(names)
        shown.append(at)
    yield shown


def _taken(widths: Sequence[int], shown: Sequence[int]) -> int:
    return sum(widths[at] for at in shown) + len(BETWEEN) * (len(shown) - 1)


def _on_a_line(text: str) -> str:
    """What a terminal would take for more than a character (a new line, an escape) is spelt out."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
