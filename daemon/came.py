"""What a call brought for one part of a job, told from what the call gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

PASSING: Final = frozenset({"address", "missing"})
"""Rules by which a file is refused that may hold another time: its host does not answer, or does not have it yet."""


class Came(msgspec.Struct, frozen=True):
    """What a call brought for one part; `error` is why not all of it, `permanent` that asking again changes nothing."""

    rows: int = 0
    requests: int = 0
    error: str | None = None
    permanent: bool = False


def files_came(files: Sequence[Mapping[str, Any]], missing: Sequence[str]) -> Came:
    """Of what became of files (`dl archive`), and the dates that are not published."""
    rows = sum(one["rows"] for one in files if one["state"] in ("taken", "replaced"))
    refused = [one for one in files if one["state"] == "refused"]
    if refused:
        one = refused[0]
        why = f"{len(refused):,} files are refused: {one['name']}: {one['rule']}: {one['what']}"
        return Came(rows, len(files), why, all(each["rule"] not in PASSING for each in refused))
    if missing:
        return Came(rows, len(files), f"{len(missing):,} dates are not published: {missing[0]}, …", permanent=False)
    return Came(rows, len(files))
