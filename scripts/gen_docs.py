"""Make docs/{cli,config,kinds,metrics,redundancy,reliability}.md; a test fails where they differ from the code.

    python scripts/gen_docs.py [--check]

Exit code 0, or 1 where `--check` finds a page that is not what the code says (nothing is written then).
"""

from __future__ import annotations

import argparse
import ast
import enum
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file: the packages are one folder up

import typer
from pydantic import BaseModel

from cli import app as dl
from collectors import exchanges
from collectors.config import host_node
from daemon import arguments, explain, problems
from daemon.config import Config
from lake.identity import has_wholes
from market import kinds
from runtime import (
    auditing,
    caring,
    changing,
    drifting,
    guarding,
    health,
    mending,
    metrics,
    polled,
    pressing,
    probed,
    reproducing,
    telemetry,
)
from scripts import gen_redundancy, gen_reliability

SAYING = (
    telemetry,
    changing,
    polled,
    probed,
    health,
    guarding,
    caring,
    pressing,
    reproducing,
    auditing,
    drifting,
    mending,
)
"""The modules whose functions are the events."""
DOCS = Path(__file__).resolve().parent.parent / "docs"
MADE = "<!-- made by scripts/gen_docs.py from the code: change it there -->\n"
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; bars inside cells are escaped."""
    head = list(head)
    lines = [head, ["---"] * len(head), *(list(row) for row in rows)]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def flowing(text: str) -> str:
    """A docstring as paragraphs of one line each."""
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n"))


# --- docs/cli.md -------------------------------------------------------------------------------------------------


def cli_page() -> str:
    """Every command, argument and option of `python -m daemon` and `dl`, with the exit codes."""
    return "\n".join([MADE, "# Commands\n", *_daemon(), *_dl()])


def _daemon() -> Iterator[str]:
    made = arguments.parser()
    yield f"## `python -m daemon`\n\n{made.description}\n"
    rows = []
    for action in made._actions:  # noqa: SLF001 -- argparse has no other way to ask
        value = f" {action.metavar}" if action.metavar and action.nargs != 0 else ""
        rows.append((f"`{', '.join(action.option_strings)}{value}`", action.help or ""))
    yield table(("option", "meaning"), rows)
    codes = re.findall(r"(\d+) {2}(.+?)(?= {3,}\d|\n)", made.epilog or "")
    yield "Exit codes:\n"
    yield table(("code", "meaning"), sorted(codes, key=lambda found: int(found[0])))
    yield " ".join((made.epilog or "").split("\n\n")[-1].split()) + "\n"


def _dl() -> Iterator[str]:
    group: Any = typer.main.get_command(dl.app)
    yield f"## `dl`\n\n{flowing(group.help)}\n"
    yield "Exit codes (what 1 means of a command is said with it):\n"
    yield table(("code", "meaning"), re.findall(r"(\d+) (.+?)(?=, \d|\.$)", dl.EXIT_CODES))
    for name, command in commands_of(group):
        named = [param for param in command.params if param.opts[0].startswith("-")]
        given = [param for param in command.params if param not in named]
        usage = " ".join([f"dl {name}", *(_metavar(param) for param in given), "[OPTIONS]"])
        yield f"### `{usage}`\n\n{flowing(command.help)}\n"
        rows = [(f"`{_metavar(param)}`", param.help or "") for param in given]
        rows += [(f"`{', '.join(param.opts)}`", _meaning(param)) for param in named]
        yield table(("option", "meaning"), rows)
    yield "### Names of other lakes\n\nThey work as well: their options are those that `--help` shows.\n"
    older = [(f"`dl {name}`", flowing(group.commands[name].help)) for name in dl.OLDER]
    yield table(("command", "what it does"), older)


def commands_of(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """The commands of a group that are shown, with their names; those of groups inside it by both names."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands_of(command, f"{before}{name} ")
        elif not command.hidden:
            yield f"{before}{name}", command


def _metavar(param: Any) -> str:
    return param.metavar or param.name.upper()


def _meaning(param: Any) -> str:
    default = param.default
    if isinstance(default, enum.Enum):
        choices = ", ".join(f"`{member.value}`" for member in type(default))
        return f"{param.help} One of {choices}; default `{default.value}`."
    if param.required:
        return f"{param.help} Required."
    said = isinstance(default, bool) or default is None or "default" in (param.help or "")
    return param.help if said else f"{param.help} Default `{default}`."


# --- docs/config.md ----------------------------------------------------------------------------------------------

HEAD = """\
# Configuration

`config.yml` in the root is a working example. `python -m daemon --config FILE --check` names every mistake with its
place, `--explain` prints what follows together with the values in force and where each comes from.

Environment variables win over a file `.env` beside the configuration, which wins over the file, which wins over the
defaults: `LAKE__COLLECTORS__WRITING__SYNC_MS=200` (`__` between the keys, any case). Unknown keys are refused.
"""


def config_page() -> str:
    """Every setting with its type, range, default and meaning, a table a section."""
    return "\n".join([MADE, HEAD, *_section(Config, "", "")])


def _section(model: type[BaseModel], path: str, about: str) -> Iterator[str]:
    rows, inner = [], []
    for name, field in model.model_fields.items():
        below = problems.section_of(field.annotation)
        dotted = f"{path}.{name}".removeprefix(".")
        if below is None:
            facts = explain.facts(field)
            if field.default_factory is host_node:
                facts = facts.replace(f"default {host_node()}", "default the host's name")
            rows.append((f"`{dotted}`", facts, field.description or ""))
        else:
            many = "[]" if isinstance(field.get_default(call_default_factory=True), list) else ""
            inner.append((below, dotted + many, field.description or ""))
    if path:
        yield f"## `{path}`\n\n{about}\n"
    yield table(("setting", "value", "meaning"), rows)
    for section in inner:
        yield from _section(*section)


# --- docs/kinds.md -----------------------------------------------------------------------------------------------

KINDS_HEAD = """\
# Kinds

Each sort of data is declared once, in `market/kinds.py`; segments, tables, merges, digests and readers follow the
declaration. How a type lies in Parquet is in [tables](format/tables.md), what a JSON line holds in
[segment](format/segment.md). A kind without a market beside it is declared and understood by the formats, but nothing
collects it yet.
"""
DERIVED = {
    "book_sample": (
        "Ours, where `compactor.book_sample_ms` asks for it: the best levels of the book every so often, made from"
        " `book_delta` when the day is closed. Where the book is not known only the first sample is there, with"
        " `in_sync` false and no levels. Levels below `valid_low` and above `valid_high` are unknown."
    ),
    "bar_1s": (
        "Ours, from `trade` (from `agg_trade` of symbols whose trades are not collected): one row a second with a"
        " counted trade (conditions "
        + ", ".join(f"`{name}`" for name in kinds.COUNTED_CONDITIONS)
        + "). `bid` and `ask` are the last quote inside the window. `partial`: the window was not covered whole; `gap`:"
        " an open gap lies in it; `late`: trades that were received live, more than 5 s after their second had ended;"
        " what archives, imports and repairs brought is not."
    ),
    "bar_1m": "Ours: the same of a minute; folding `bar_1s` gives it bit for bit.",
}


def kinds_page() -> str:
    """Every kind with its columns, identity, order, grain, checks, and where it comes from."""
    offers: dict[str, list[str]] = {name: ["ours"] for name in (*kinds.BARS, "book_sample")}
    for venue in exchanges.names():
        for market_type, offered in exchanges.load(venue).OFFERS.items():
            for name in offered:
                offers.setdefault(name, []).append(f"{venue} {market_type}")
    rows = [
        (
            f"`{kind.name}`",
            ", ".join(offers.get(kind.name, ["-"])),
            ", ".join(f"`{name}`" for name in kind.key)
            + (", the venue's time" if kind.renumbered else "")
            + (", whether it is a whole book" if has_wholes(kind.name) else ""),
            "a symbol" if kind.grain == "symbol" else "all symbols",
            kind.cadence,
            ", ".join(_check(check) for check in kind.checks) or "-",
        )
        for kind in kinds.KINDS.values()
    ]
    return "\n".join([MADE, KINDS_HEAD, table(KIND_COLUMNS, rows), *_columns()])


KIND_COLUMNS = ("kind", "from", "identity", "a daily file holds", "segments seal as", "checks")


def _columns() -> Iterator[str]:
    yield "## Columns of every kind\n"
    yield "Columns in bold are never null. Times are microseconds UTC.\n"
    yield _listed(kinds.COMMON)
    for kind in kinds.KINDS.values():
        yield f"## `{kind.name}`\n"
        yield flowing(inspect.getdoc(kind.struct) or "" if kind.struct is not None else DERIVED[kind.name]) + "\n"
        yield _listed(kind.columns)


def _listed(columns: Iterable[kinds.Column]) -> str:
    shown = (f"**`{one.name}`** {one.type}" if one.required else f"`{one.name}` {one.type}" for one in columns)
    return ", ".join(shown) + ".\n"


def _check(check: kinds.Check) -> str:
    what = ", ".join(f"`{getattr(check, name)}`" for name in check.__struct_fields__)
    return re.sub(r"(?<=[a-z])([A-Z])", lambda found: f" {found[0].lower()}", type(check).__name__).lower() + (
        f" {what}" if what else ""
    )


# --- docs/metrics.md ---------------------------------------------------------------------------------------------

METRICS_HEAD = """\
# What the process says

Metrics are served at `http://<http.host>:<http.port>/metrics`, the log is on the console and, as JSON lines, in `logs/`
of the lake (a new file at 00:00 UTC, kept 14 days). Each event below is one log line and one count in
`lake_log_events_total{event, level}`.

Levels are by consequence. `DEBUG`: too frequent to read. `INFO`: as intended. `WARNING`: not as intended, nothing lost.
`ERROR`: data lost, or a person is needed. What repeats is said once in ten seconds (gaps: ten times), but
always counted.
"""


def metrics_page() -> str:
    """Every metric and every event, with level, meaning and the metrics that it moves."""
    names = {id(held): attribute for attribute, held in vars(metrics).items()}
    rows = []
    shown: dict[str, str] = {}
    for collector in metrics.REGISTRY._collector_to_names:  # noqa: SLF001 -- the registry has no other way to ask
        metric: Any = collector
        name = metric._name + ("_total" if metric._type == "counter" else "")  # noqa: SLF001 -- as above
        shown[names[id(collector)]] = name
        labels = ", ".join(f"`{label}`" for label in metric._labelnames) or "-"  # noqa: SLF001 -- as above
        rows.append((f"`{name}`", metric._type, labels, metric._documentation))  # noqa: SLF001 -- as above
    events = [(f"`{e.name}`", e.level, e.meaning, e.metrics(shown)) for e in events_said()]
    return "\n".join(
        [
            MADE,
            METRICS_HEAD,
            "## Metrics\n",
            table(("metric", "type", "labels", "meaning"), rows),
            "## Events\n",
            f"In the order of `runtime/telemetry.py` and, beside it, {_beside()}.\n",
            table(("event", "level", "meaning", "also moves"), events),
        ]
    )


def _beside() -> str:
    *most, last = (f"`{module.__name__.rpartition('.')[2]}.py`" for module in SAYING[1:])
    return f"{', '.join(most)} and {last}"


class Event:
    """One function of `runtime.telemetry` or its neighbours, as its source says it."""

    def __init__(self, tree: ast.FunctionDef) -> None:
        self.name = tree.name
        self._tree = tree
        texts = {
            node.targets[0].id: node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
        call = next(node for node in ast.walk(tree) if isinstance(node, ast.Call) and _called(node) == "say")
        level, event = call.args[:2]
        if not (isinstance(event, ast.Constant) and event.value == tree.name):
            raise SystemExit(f"runtime: {tree.name} says the event {ast.unparse(event)}")
        self.level = ast.unparse(_resolved(level, texts)).replace("'", "")
        self.meaning = flowing(ast.get_docstring(tree) or "")

    def metrics(self, shown: dict[str, str]) -> str:
        """The metrics that it moves besides the count of events."""
        used = {
            node.attr: None
            for node in ast.walk(self._tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "metrics"
        }
        return ", ".join(f"`{shown[attribute]}`" for attribute in used if attribute in shown) or "-"


def events_said() -> list[Event]:
    """Every event that the process can say."""
    nodes = [node for module in SAYING for node in ast.parse(inspect.getsource(module)).body]
    return [Event(node) for node in nodes if isinstance(node, ast.FunctionDef) and _says(node)]


def _says(node: ast.FunctionDef) -> bool:
    """Whether a function is an event; others only move metrics."""
    return not node.name.startswith("_") and any(
        isinstance(inner, ast.Call) and _called(inner) == "say" for inner in ast.walk(node)
    )


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else ""


def _resolved(node: ast.expr, texts: dict[str, ast.expr]) -> ast.expr:
    return texts[node.id] if isinstance(node, ast.Name) and node.id in texts else node


BEGIN, END = "<!-- made by scripts/gen_docs.py -->\n", "<!-- until here -->\n"


def readme() -> str:
    """The README, with its table of what is collected: a row a market, with the venue's own page."""
    text = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    rows = []
    for venue in exchanges.names():
        title = (DOCS / "exchanges" / f"{venue}.md").read_text(encoding="utf-8").split("\n", 1)[0].removeprefix("# ")
        for market, offered in exchanges.load(venue).OFFERS.items():
            held = ", ".join(f"`{name}`" for name in kinds.KINDS if name in {*offered, "contract"})
            rows.append((f"[{title}](docs/exchanges/{venue}.md)", market, held))
    before, rest = text.split(BEGIN)
    return before + BEGIN + table(("exchange", "market", "kinds"), rows).rstrip("\n") + "\n" + END + rest.split(END)[1]


PAGES: dict[str, Callable[[], str]] = {
    "../README.md": readme,
    "cli.md": cli_page,
    "config.md": config_page,
    "kinds.md": kinds_page,
    "metrics.md": metrics_page,
    "redundancy.md": lambda: gen_redundancy.page(MADE, table),
    "reliability.md": gen_reliability.page,
}


def main(given: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where a page has drifted")
    check = parser.parse_args(given).check
    drifted = 0
    for name, make in PAGES.items():
        path, text = DOCS / name, make()
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        drifted += 1
        print(f"{path.resolve().relative_to(DOCS.parent)} {'is not what the code says' if check else 'written'}")
        if not check:
            path.write_text(text, encoding="utf-8")
    return 1 if check and drifted else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
