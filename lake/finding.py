"""One thing that is not as it should be, as `dl verify` and `dl rebuild` say it."""

from __future__ import annotations

from typing import Literal

import msgspec

LOST = (
    "dl scrub makes it again while its twin in tables/ or its segments in raw/ are whole;"
    " else bring the file back from a copy, or replay the frames kept in frames/ into a new lake"
)
AGAIN = "dl compact makes it again while its segments are kept in raw/; else bring it back from a copy"


class Finding(msgspec.Struct, frozen=True):
    """`error`: data or proof is lost; `warning`: untidy, nothing lost. `path` names a file or a stream."""

    severity: Literal["error", "warning"]
    path: str
    problem: str
    hint: str = ""
