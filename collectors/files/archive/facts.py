"""What a file of an archive may be, and what it turned out to be. Pure."""

from __future__ import annotations

import msgspec


class Allowed(msgspec.Struct, frozen=True):
    """What is taken although it is not as documented: `holes` in the ids, times in `any_unit`."""

    holes: bool = False
    any_unit: bool = False
    contract_size: str | None = None
    """What one contract is worth, where the files count contracts."""


NOTHING = Allowed()


class Hole(msgspec.Struct, frozen=True):
    """Ids [id_from, id_to) that are not there, between two rows' times."""

    id_from: int
    id_to: int
    ts_from: int
    ts_to: int


class Facts(msgspec.Struct):
    """What the lines of a file were. `unit` is s, ms, us or seconds; ids where the kind has them; times in us."""

    rows: int = 0
    lines: int = 0
    header: bool = False
    unit: str = ""
    first_id: int | None = None
    last_id: int | None = None
    first: int = 0
    last: int = 0
    repeated: int = 0
    """Lines that the publisher wrote twice, each counted once (forced orders)."""
    others: int = 0
    """Lines of other symbols, where one file holds all of a family."""
    holes: list[Hole] = []
