"""Environment variables and `.env` over the YAML: `LAKE__COLLECTORS__WRITING__SYNC_MS=200`.

`__` separates the keys of the path, upper and lower case are the same, and the value is written as in YAML, so
`LAKE__LAKE=/data/lake` and `LAKE__COLLECTORS__SOURCES__0__SYMBOLS="[BTCUSDT, ETHUSDT]"` both work. The environment wins
over `.env` (beside the configuration file), which wins over the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from daemon import yaml_file
from daemon.yaml_file import KeyPath

PREFIX = "LAKE__"
MAX_BYTES = 64 * 1024
SECRET = 4
"""Characters of the shortest text that a message does not repeat."""
_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")


class Override(msgspec.Struct, frozen=True):
    """One value that replaces the file's; `origin` is what a message calls it."""

    path: KeyPath
    value: Any
    origin: str


def overrides(environ: Mapping[str, str], dotenv: Path) -> tuple[list[Override], list[str]]:
    """The overrides in the order in which they apply, and what is wrong with those that cannot be read."""
    found: list[Override] = []
    problems: list[str] = []
    for number, name, text in _dotenv(dotenv, problems):
        _add(found, problems, name, text, f"{dotenv.name}:{number} {name}")
    for name in sorted(environ):
        _add(found, problems, name, environ[name], f"environment {name}")
    return found, problems


def apply(values: dict[str, Any], override: Override) -> KeyPath:
    """Put one override into `values` (changed in place); the path as `values` spells it.

    Raises ValueError where its path leads through a plain value or beyond the end of a list.
    """
    target: Any = values
    path: list[str | int] = []
    for step in override.path:
        if path:
            if isinstance(target, dict) and target.get(path[-1]) is None:
                target[path[-1]] = {}
            target = target[path[-1]]
        key = _key_in(target, step)
        if key is None:
            raise ValueError(f"{override.origin} leads through something that has no {str(step)!r}")
        path.append(key)
    target[path[-1]] = override.value
    return tuple(path)


def texts(value: Any) -> list[str]:
    """The texts in a value, the longer ones first; those that are too short to hide anything are left out."""
    if isinstance(value, dict):
        found = [text for item in value.items() for text in texts(list(item))]
    elif isinstance(value, list):
        found = [text for item in value for text in texts(item)]
    else:
        found = [value] if isinstance(value, str) and len(value) >= SECRET else []
    return sorted(found, key=len, reverse=True)


def _key_in(target: Any, step: str | int) -> str | int | None:
    """The key of `target` that `step` means; None where `target` cannot have it."""
    if isinstance(target, dict):
        return next((key for key in target if str(key).lower() == str(step)), str(step))
    if isinstance(target, list) and str(step).isdigit() and int(step) < len(target):
        return int(step)
    return None


def _add(found: list[Override], problems: list[str], name: str, text: str, origin: str) -> None:
    if not name.upper().startswith(PREFIX):
        return
    path = tuple(part.lower() for part in name[len(PREFIX) :].split("__"))
    if not all(path):
        problems.append(f"{origin} names no setting")
        return
    try:
        found.append(Override(path, yaml_file.scalar(text), origin))
    except ValueError as error:
        problems.append(f"{origin} is not a YAML value: {error}")


def _dotenv(path: Path, problems: list[str]) -> list[tuple[int, str, str]]:
    """(line, name, text) of each assignment; comments and blank lines are skipped, quotes taken off."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return []
    except OSError as error:
        problems.append(f"{path.name} cannot be read: {error.strerror}")
        return []
    if len(data) > MAX_BYTES:
        problems.append(f"{path.name} is larger than {MAX_BYTES // 1024} KB")
        return []
    found: list[tuple[int, str, str]] = []
    for number, raw in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            problems.append(f"{path.name}:{number} is no NAME=value")
            continue
        name, text = match.groups()
        if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
            text = text[1:-1]
        found.append((number, name, text))
    return found
