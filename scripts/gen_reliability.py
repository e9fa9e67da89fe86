"""docs/reliability.md: each promise, how it is kept, the tests that prove it, the faults, and what was measured last.

The words are in scripts/promises.toml, the figures in docs/reliability-figures.json, the tests in tests/: a test whose
name has `_fNN_` in it belongs to that fault. scripts/gen_docs.py writes the page, and tests/test_reliability.py fails
where a test that is named is not there, or where a fault has neither a test nor a reason.
"""

from __future__ import annotations

import ast
import fnmatch
import functools
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from scripts import figures

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
STATES = ("kept", "partly", "later")
_FAULTS = re.compile(r"test_((?:f\d\d_)+)")
_PROMISES = re.compile(r"test_((?:p\d\d?b?_)+)")
HEAD = """\
# Reliability

What the daemon promises about the data, how it is kept, which tests prove it, and what was measured last. The tests are
run by `make test`, a part of the catalogue of faults in another sample each time; `make test-faults` runs all of it.

**kept**: there, and proven by the tests named. **partly**: what is missing is said. **later**: it comes with the part
named.
"""


def promises() -> dict[str, Any]:
    """scripts/promises.toml."""
    return tomllib.loads(figures.PROMISES.read_text(encoding="utf-8"))


@functools.cache
def nodes() -> tuple[str, ...]:
    """Every test there is, as `tests/file.py::name`."""
    found = []
    for path in sorted(TESTS.rglob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found += [
            f"{path.relative_to(ROOT).as_posix()}::{node.name}"
            for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        ]
    return tuple(found)


def matching(patterns: Iterable[str]) -> dict[str, list[str]]:
    """Each pattern (a node id, `*` for any characters) with the tests that it means."""
    return {pattern: [node for node in nodes() if fnmatch.fnmatchcase(node, pattern)] for pattern in patterns}


def faults_of(node: str) -> list[str]:
    """The faults that a test says it is of: `test_f21_f22_…` is of F21 and F22."""
    match = _FAULTS.match(node.partition("::")[2])
    return [name.upper() for name in match[1].rstrip("_").split("_")] if match else []


def promises_of(node: str) -> list[str]:
    """The promises that a test says it is of: `test_p29_…`."""
    match = _PROMISES.match(node.partition("::")[2])
    return [f"P{name[1:]}" for name in match[1].rstrip("_").split("_")] if match else []


def promise_tests(promise: dict[str, Any]) -> list[str]:
    """Node ids of a promise's tests: those that it names, and those with its name in theirs."""
    named = [node for found in matching(promise["tests"]).values() for node in found]
    return list(dict.fromkeys([*named, *(node for node in nodes() if promise["id"] in promises_of(node))]))


def fault_tests(name: str, more: Iterable[str] = ()) -> list[str]:
    """Node ids of a fault's tests: those with its name in theirs, and those that `more` adds."""
    own = [node for node in nodes() if name in faults_of(node)]
    return own + [node for found in matching(more).values() for node in found if node not in own]


def page() -> str:
    """The page."""
    told = promises()
    return "\n".join([HEAD, *_overview(told), *_promises(told), *_faults(told), *_figures(told)])


def _overview(told: dict[str, Any]) -> Iterator[str]:
    by_state: dict[str, list[str]] = {state: [] for state in STATES}
    for promise in told["promises"]:
        by_state[promise["state"]].append(f"[{promise['id']}](#{promise['id'].lower()})")
    yield "| state | promises |\n|---|---|"
    yield from (f"| {state} | {', '.join(found) or 'none'} |" for state, found in by_state.items())
    yield ""


def _promises(told: dict[str, Any]) -> Iterator[str]:
    measured = figures.held()
    yield "## Promises\n"
    for promise in told["promises"]:
        yield f'<a id="{promise["id"].lower()}"></a>\n\n### {promise["id"]} {promise["title"]}: {promise["state"]}\n'
        yield f"{promise['says']}\n"
        if promise["state"] != "kept":
            yield f"{'Missing' if promise['state'] == 'partly' else 'Comes with'}: {promise['missing']}\n"
        yield f"- by {', '.join(f'`{path}`' for path in promise['mechanism'])}"
        yield from _tests(promise_tests(promise))
        for name in promise.get("figures", ()):
            entry = measured.get(name)
            shown = f"{_number(entry['value'])} {entry['unit']} ({entry['date']})" if entry else "not measured yet"
            yield f"- {name}: {shown}; demanded: {told['figures'][name]['demand']}"
        yield ""


def _tests(found: Iterable[str]) -> Iterator[str]:
    by_file: dict[str, list[str]] = {}
    for node in dict.fromkeys(found):
        file, _, name = node.partition("::")
        by_file.setdefault(file, []).append(name.removeprefix("test_"))
    for file, names in by_file.items():
        yield f"- shown by `{file}`: {', '.join(names)}"


def _faults(told: dict[str, Any]) -> Iterator[str]:
    yield "## Faults\n"
    yield "| fault | what happens | tests |\n|---|---|---|"
    for name, fault in told["faults"].items():
        found = fault_tests(name, fault.get("tests", ()))
        by_file: dict[str, int] = {}
        for node in found:
            file = node.partition("::")[0]
            by_file[file] = by_file.get(file, 0) + 1
        shown = ", ".join(f"`{file}`: {count}" for file, count in by_file.items())
        without = f"later: {fault['later']}" if "later" in fault else ""
        yield f"| {name} | {fault['title']} | {shown or without} |"
    yield ""


def _figures(told: dict[str, Any]) -> Iterator[str]:
    measured = figures.held()
    yield "## Figures\n"
    yield "Written by the commands themselves into `docs/reliability-figures.json` (`scripts/figures.py`).\n"
    yield "| figure | measured | demanded | by | when | where |\n|---|---|---|---|---|---|"
    for name, asked in told["figures"].items():
        entry = measured.get(name)
        if entry is None:
            yield f"| {name} | not yet | {asked['demand']} | `{asked['command']}` | | |"
        else:
            value = f"{_number(entry['value'])} {entry['unit']}"
            how = f"`{entry['command']}` | {entry['date']} | {entry['machine']}"
            yield f"| {name} | {value} | {asked['demand']} | {how} |"
    yield ""


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
