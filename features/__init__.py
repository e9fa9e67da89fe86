"""Values that somebody else computed, kept beside the data they came from: versions that never change, with lineage.

`put`, `rollback` and `delete` change a lake and need its writer; reading is `Lake.features`.
"""

from __future__ import annotations

from features.requests import Done, Put
from features.store import delete, put, rollback

__all__ = ["Done", "Put", "delete", "put", "rollback"]
