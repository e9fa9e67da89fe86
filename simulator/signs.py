"""By what an event of the simulator's log and a row of a lake are known to be the same.

Some venues number what they tell, some name it, some only say when: a twin says of each kind and market which, and
`simulator.witness` and who reads the lake make the same numbers of both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from simulator.instruments import MARKETS
from simulator.truth import FIELDS

ID, EVENT = 3, -4
"""Where an event's line has its id and its time."""
Line: TypeAlias = list[Any]


class Sign(msgspec.Struct, frozen=True):
    """One kind of one market. A number is an integer of 64 bits."""

    column: str
    """Where the row has its number: an integer, a time, or a text that `read` takes."""
    told: Callable[[Line], int] | None = None
    """The number of an event of the log, as the row has it; its id where this is None."""
    read: Callable[[str], int] | None = None
    content: tuple[str, ...] = ()
    """In place of a number, what the columns and the log's fields of these names say (all numbers)."""
    rising: bool = False
    """Whether the number of one that is not above the number before it is one more than that."""
    shows: bool = True
    """Whether the loss of one event shows in those around it, so that a gap has to name it."""
    repeats: bool = False
    """Whether what is in force is told again to who subscribes: nothing new, so that nobody has to have it twice."""
    stream: str = ""
    """How the names of its streams begin, where others tell events of the kind too."""
    of: str = ""
    """The kind in the log, where it is another: of these `only` some are events of this kind."""
    only: Callable[[Line], bool] | None = None
    values: tuple[str, ...] | None = None
    """The numbers that are compared; None: those of its kind (`simulator.witness.VALUES`)."""
    where: str = ""
    """Rows without a value in this column are of another stream."""

    @property
    def named(self) -> bool:
        """Whether the venue gives it something by which a repetition is known."""
        return not self.content


Signs: TypeAlias = Mapping[str, Mapping[str, Sign]]
"""Market -> kind -> sign. What is not in it is not compared."""


def time(line: Line) -> int:
    """When the event happened, us."""
    return int(line[EVENT])


def field(name: str) -> Callable[[Line], int]:
    """One of the line's fields, an integer."""

    def read(line: Line) -> int:
        return int(line[ID + 1 + FIELDS[line[0]].index(name)])

    return read


def times(step: int, first: int = 0) -> Callable[[Line], int]:
    """The venue counts by leaps."""

    def read(line: Line) -> int:
        return int(line[ID]) * step + first

    return read


def digest(*numbers: str | float | None) -> int:
    """The same for the venue's text and for the table's float."""
    return hash(tuple(0.0 if number is None else float(number) for number in numbers))


def content(line: Line, names: Sequence[str]) -> int:
    """The number of an event that has none."""
    fields = FIELDS[line[0]]
    return digest(*(line[EVENT] if name == "ts_event" else line[ID + 1 + fields.index(name)] for name in names))


MARK = LIQUIDATION = Sign("ts_event", told=time, shows=False)
KLINE = Sign("open_time", shows=False)
NUMBERED: Mapping[str, Sign] = {
    "trade": Sign("seq"),
    "agg_trade": Sign("seq"),
    "quote": Sign("update_id", shows=False),
    "book_delta": Sign("last_id"),
    "book_snapshot": Sign("last_id", shows=False),
    "mark_price": MARK,
    "liquidation": LIQUIDATION,
    "kline": KLINE,
}
"""A venue with ids for everything."""
PLAIN: Signs = dict.fromkeys(MARKETS, NUMBERED)
