"""Messages of real venues with what another program makes of them, out of that program's own tests.

`messages` and `expected` read two files of `$LAKE_SAMPLES/multi`: a test in TypeScript, whose literals are near enough
to JSON, and its snapshot.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

_TOKEN = re.compile(
    r"""//[^\n]* | /\*.*?\*/ | (?P<single>'(?:[^'\\]|\\.)*') | (?P<double>"(?:[^"\\]|\\.)*")
    | (?P<word>[A-Za-z_$][\w$]*) | (?P<number>-?\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?) | (?P<mark>[\[\]{}:,]) | \s+""",
    re.VERBOSE | re.DOTALL,
)
_WORDS = {"true": "true", "false": "false", "null": "null", "undefined": "null", "NaN": "null"}
_TEST = re.compile(r"^ *test\('map ([^']+)', (?:async )?\(\) => \{\n(.*?)^ *\}\)$", re.MULTILINE | re.DOTALL)
_EXPORT = re.compile(r"^exports\[`(?:mappers > )?map (.+?) (\d+)`\] = `\n(.*?)\n`;$", re.MULTILINE | re.DOTALL)


def literal(text: str, start: int = 0) -> Any:
    """The array or object of JavaScript that begins at `start`. Raises ValueError for what is no plain literal."""
    out: list[str] = []
    depth, at = 0, start
    while True:
        found = _TOKEN.match(text, at)
        if found is None:
            raise ValueError(f"no literal at {text[at : at + 40]!r}")
        at = found.end()
        kind, said = found.lastgroup, found[0]
        match kind:
            case "single":
                out.append(json.dumps(said[1:-1].replace("\\'", "'")))
            case "double":
                out.append(said)
            case "number":
                out.append(said.replace("_", ""))
            case "word":
                keyed = text[at : at + 20].lstrip().startswith(":")
                if not keyed and said not in _WORDS:
                    raise ValueError(f"{said} is no literal")
                out.append(json.dumps(said) if keyed else _WORDS[said])
            case "mark":
                if said in "]}" and out[-1] == ",":
                    out.pop()  # a comma that nothing follows
                if said == "," and out[-1] == ",":
                    out.append("null")  # a place that is left out
                out.append(said)
                depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(said, 0)
                if depth == 0 and said in "]}":
                    return json.loads("".join(out))


def messages(folder: Path, names: Collection[str]) -> dict[str, list[Any]]:
    """Name of a test, of those wanted -> the messages that it maps, in order."""
    text = gzip.decompress((folder / "tardis_mappers.test.ts.gz").read_bytes()).decode()
    found: dict[str, list[Any]] = {}
    for name, body in _TEST.findall(text):
        for array in re.findall(r"for \(const message of (\w+)\) \{", body) if name in names else ():
            begins = re.search(rf"(?:const|let) {array}\b[^=]*=\s*(?=\[)", body)
            if begins is None:
                raise ValueError(f"{array} of {name!r} is nowhere")
            found.setdefault(name, []).extend(literal(body, begins.end()))
    return found


def expected(folder: Path, names: Collection[str]) -> dict[str, dict[int, list[Any]]]:
    """Name of a test, of those wanted -> number of a message, from 1 -> what it is mapped to."""
    text = gzip.decompress((folder / "tardis_mappers.snapshot.gz").read_bytes()).decode()
    found: dict[str, dict[int, list[Any]]] = {}
    for name, number, body in _EXPORT.findall(text):
        if name in names:
            found.setdefault(name, {})[int(number)] = literal(body)
    return found
