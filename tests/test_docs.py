"""What can be used is documented, what is documented exists, and generated pages are what the code says."""

import ast
import re
import shlex
import tomllib
import typing
from pathlib import Path
from typing import get_args

import pytest
import typer
from typer.testing import CliRunner

from cli.app import app
from collectors import exchanges
from collectors.liveness import Status
from daemon import arguments
from daemon.config import Config
from daemon.problems import section_of
from lake import checks
from lake.layout import TREES
from lake.rows import CertificateRow, SegmentState
from lake.schema import METADATA
from market.kinds import KINDS
from market.session import GapState
from runtime import service
from scripts import gen_docs
from simulator.instruments import listing

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    "market", "lake", "runtime", "collectors", "transformer", "compactor", "features", "api", "client", "daemon", "cli",
    "simulator",
)  # fmt: skip
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
EXITS = {name: code for name, code in vars(service).items() if name.startswith("EXIT_")}


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def all_pages() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in PAGES)


@pytest.mark.parametrize("name", sorted(gen_docs.PAGES))
def test_a_generated_page_is_what_the_code_says(name):
    assert page(f"docs/{name}") == gen_docs.PAGES[name](), "run: python scripts/gen_docs.py"


def test_every_event_says_what_it_means():
    assert [event.name for event in gen_docs.events_said() if not event.meaning] == []


def test_the_trade_that_the_readme_traces_is_one_of_the_demo():
    ((symbol, market, number),) = re.findall(
        r"dl trace trade --symbol (\w+) --market-type (\w+) --id (\d+)", page("README.md")
    )
    seed = Config.model_validate({}).simulate.seed
    (made,) = listing([market], [symbol], f"{seed}/binance")
    assert 500 <= int(number) - made.first_id <= 1_000, "it came within the day that the demo closes"


def test_links_between_documents_resolve():
    broken = []
    for path in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            if "://" not in target and not (path.parent / target).exists():
                broken.append(f"{path.relative_to(ROOT)}: {target}")
    assert broken == []


def test_files_that_documents_name_exist():
    named = re.compile(
        rf"`((?:{'|'.join(PACKAGES)}|tests|scripts|docs)/[A-Za-z0-9_./]*\.(?:py|md|yml)|(?:{'|'.join(PACKAGES)})/[a-z_/]+)`"
    )
    missing = []
    for path in PAGES:
        for target in named.findall(path.read_text(encoding="utf-8")):
            if not (ROOT / target).exists():
                missing.append(f"{path.relative_to(ROOT)}: {target}")
    assert missing == []


def test_documents_that_the_code_points_to_exist():
    for package in (*PACKAGES, "scripts"):
        for path in (ROOT / package).rglob("*.py"):
            for target in re.findall(r"\bdocs/[A-Za-z0-9_/.-]*[A-Za-z0-9]", path.read_text(encoding="utf-8")):
                assert (ROOT / target).exists(), f"{path.relative_to(ROOT)}: {target}"


def test_every_kind_is_documented():
    text = page("docs/kinds.md")
    for name, kind in KINDS.items():
        assert f"| `{name}` |" in text, name
        for column in kind.columns:
            assert f"`{column.name}`" in text, f"{name}.{column.name}"


def test_readme_names_what_is_collected():
    text = page("README.md")
    for name in exchanges.names():
        offered = exchanges.load(name).OFFERS
        for market, kinds in offered.items():
            line = next(
                (one for one in text.splitlines() if one.startswith("|") and name in one.lower() and market in one), ""
            )
            assert line, f"{name} {market}"
            assert set(re.findall(r"`([a-z_]+)`", line)) == {*kinds, "contract"}


def test_every_package_has_one_line_in_the_architecture_page():
    text = page("ARCHITECTURE.md")
    for name in PACKAGES:
        assert len(re.findall(rf"^\| `{name}` \|", text, re.MULTILINE)) == 1, name
    assert text.count("\n") <= 100, "one page"


def test_the_architecture_page_names_what_is_pure():
    contracts = tomllib.loads(page("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    (pure,) = (one["source_modules"] for one in contracts if one["name"] == "The pure core does no I/O")
    text = re.split(r"\bPure\b", page("ARCHITECTURE.md"))[1].split("\n\n")[0]
    for module in pure:
        package, _, name = module.rpartition(".")
        braces = "".join(re.findall(rf"`{package}/\{{([a-z_,]+)\}}`", text)).split(",")
        assert name in ("market", "plan") or name in braces or f"`{package}/{name}" in text, module


def test_every_command_and_option_of_dl_is_documented_with_help():
    group = typer.main.get_command(app)
    text = page("docs/cli.md")
    for name, command in group.commands.items():
        assert command.help, name
        assert not command.hidden or f"| `dl {name}` |" in text, name
    for name, command in gen_docs.commands_of(group):
        assert command.help, name
        section = text.split(f"### `dl {name} ")[1].split("\n### ")[0]
        for param in command.params:
            assert param.help, f"{name} {param.name}"
            word = param.opts[0] if param.opts[0].startswith("-") else (param.metavar or param.name.upper())
            assert f"| `{word}` |" in section or f"| `{word}, " in section, f"dl {name} {word}"
    shown = {name for name, command in group.commands.items() if not command.hidden}
    assert {f"dl {name}" for name in shown} <= set(re.findall(r"dl [a-z]+", page("README.md")))


def settings(model, path=()):
    for name, field in model.model_fields.items():
        inner = section_of(field.annotation)
        if inner is None:
            yield ".".join((*path, name)), field
        else:
            many = "[]" if typing.get_origin(field.annotation) is list else ""
            yield from settings(inner, (*path, name + many))


def test_every_setting_is_documented_with_a_description():
    text = page("docs/config.md")
    for name, field in settings(Config):
        assert field.description, name
        assert f"| `{name}` |" in text, name


def test_every_exit_code_is_documented():
    for name in ("README.md", "docs/cli.md"):
        for constant, code in EXITS.items():
            assert re.search(rf"^\| {code} \|", page(name), re.MULTILINE), f"{constant} in {name}"
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", page("README.md"), re.MULTILINE)}
    assert listed == {*EXITS.values(), 1, 2}


def commands_of(name):
    """(program, arguments) of every command line in the plain code blocks of a page."""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", page(name), re.DOTALL | re.MULTILINE):
        for line in block.splitlines() if not language else ():
            words = shlex.split(line, comments=True) if re.match(r"(\.venv/bin/|make |python3? )", line) else []
            if words:
                yield words[0].removeprefix(".venv/bin/"), words[1:]


def test_readmes_commands_exist():
    targets = set(re.findall(r"^([a-z]+):", page("Makefile"), re.MULTILINE))
    group = typer.main.get_command(app)
    seen = set()
    for program, words in commands_of("README.md"):
        if program == "make":
            assert words[0] in targets
        elif program == "dl":
            known = {option for param in group.commands[words[0]].params for option in param.opts}
            assert {word for word in words if word.startswith("--")} <= known, words
            assert CliRunner().invoke(app, [words[0], "--help"]).exit_code == 0
        elif program.startswith("python") and words[:2] == ["-m", "daemon"]:
            arguments.parse(words[2:])
        elif program.startswith("python") and words[0].startswith("scripts/"):
            assert (ROOT / words[0]).is_file()
        seen.add(program)
    assert {"make", "dl", "python"} <= seen


CAUSES = ("CRASH", "STALLED", "JUMP", "RESET", "SHED", "STOPPED", "HANDOVER", "RETIRED", "DISCONNECT", "cause")
"""Names that modules give to a cause."""


def words(tree):
    """String constants that a module gives as a cause or proof, wherever it makes an end or a gap."""
    makers = {"Leave": 0, "Ending": 0, "_end": 0, "wind_down": 0, "gap_of": 2}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            place = makers.get(name)
            if place is not None and len(node.args) > place:
                yield from literals(node.args[place])
            if name == "gap_of":
                yield from literals(node.args[place + 1])
            if name == "Gap":
                for given in node.args[9:11]:
                    yield from literals(given)
            for keyword in node.keywords:
                if keyword.arg in ("cause", "close_cause", "proof"):
                    yield from literals(keyword.value)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield from literals(node.value) if node.targets[0].id in CAUSES else ()


def literals(node):
    """The words that an expression may be: not those that it compares with."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from (*literals(node.body), *literals(node.orelse))
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            yield from literals(value)


def test_every_cause_and_proof_is_in_the_vocabulary():
    text = page("docs/format/manifest.md")
    known = set(re.findall(r"^\| `([a-z_]+)` \|", text.split("## Words")[1], re.MULTILINE))
    used = set()
    for package in ("lake", "collectors", "transformer", "compactor"):
        for path in (ROOT / package).rglob("*.py"):
            used |= set(words(ast.parse(path.read_text(encoding="utf-8"))))
    used -= {""}
    assert {"jump", "crash", "disconnect", "altered_segment", "handover", "interval", "counted"} <= used
    assert used <= known, used - known
    for state in (*get_args(GapState), *get_args(SegmentState), *get_args(Status)):
        assert f"`{state}`" in text, state


def test_every_field_of_a_certificate_and_every_check_is_documented():
    text = page("docs/format/manifest.md").split("## The certificate")[1]
    for name in CertificateRow.__struct_fields__:
        assert f"`{name}`" in text, name
    for name in (
        checks.OUT_OF_ORDER,
        checks.CROSSED,
        checks.CONTIGUOUS,
        checks.DUPLICATE,
        checks.SEAL,
        checks.BOOK_CROSSED,
    ):
        assert f"`{name}`" in text, name


def test_every_table_and_tree_is_documented():
    for name in METADATA.tables:
        assert re.search(rf"^\| `{name}` \|", page("docs/format/manifest.md"), re.MULTILINE), name
    for tree in TREES:
        assert f"`{tree}`" in page("docs/format/layout.md"), tree


def test_every_decision_is_listed_and_ends_with_what_nothing_would_have_meant():
    index = page("docs/decisions/README.md")
    for path in sorted((ROOT / "docs/decisions").glob("0*.md")):
        assert f"({path.name})" in index, path.name
        paragraphs = path.read_text(encoding="utf-8").strip().split("\n\n")
        assert paragraphs[-1].startswith("**If we did nothing.**"), path.name


def test_the_shipped_configuration_says_only_what_is_known():
    known = {name.replace("[]", "") for name, _ in settings(Config)}
    text = page("config.yml")
    for key in re.findall(r"^ *(?:- )?([a-z_]+):", text, re.MULTILINE):
        assert any(key in name.split(".") for name in known), key


def test_first_lines_fit_one_line_and_say_more_than_the_name():
    for package in (*PACKAGES, "scripts", "tests"):
        for path in (ROOT / package).rglob("*.py"):
            first = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n", 1)[0]
            assert len(first.split()) >= 4, f"{path.relative_to(ROOT)}: {first}"
            assert first.endswith((".", ":")), f"{path.relative_to(ROOT)}: {first}"
