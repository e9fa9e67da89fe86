"""Messages as a venue would send them after a change of its protocol that nobody announced."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

NEW = "drifted"
"""Name of a field that is added, and what a renamed one's name ends with."""


def drifted(text: str, form: str, field: str | None) -> str:
    """The message with a field added to each of its innermost objects, or `field` renamed, removed or scaled by 1000,
    wherever it stands. Texts stay as they are; a number may lose zeros at its end.
    """
    return json.dumps(_changed(json.loads(text), form, field or NEW), separators=(",", ":"))


def _changed(value: Any, form: str, field: str) -> Any:
    if isinstance(value, list):
        return [_changed(held, form, field) for held in value]
    if not isinstance(value, dict):
        return value
    found = {key: _changed(held, form, field) for key, held in value.items()}
    if form == "added" and not any(_has_object(held) for held in value.values()):
        found[NEW] = "1"
    if field in found:
        if form == "scaled":
            found[field] = _scaled(found[field])
        elif form == "renamed":
            found = {f"{key}_{NEW}" if key == field else key: held for key, held in found.items()}
        elif form == "removed":
            del found[field]
    return found


def _has_object(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(held, dict) for held in value))


def _scaled(value: Any) -> Any:
    """1000 times as much, as text where it was text."""
    return f"{Decimal(value) * 1000:f}" if isinstance(value, str) else value * 1000
