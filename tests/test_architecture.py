"""Budgets and habits that a machine can check: sizes, docstrings, one home for each thing, nothing left behind."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    "market", "lake", "runtime", "collectors", "transformer", "compactor", "features", "api", "client", "daemon", "cli",
    "simulator",
)  # fmt: skip
MODULE_LINES = 400
FUNCTION_LINES = 60
ENTRY_LINES = 60
WIRING_LINES = 200
ADDRESS = re.compile(r"://|--index-url|--extra-index-url|--find-links")


def modules() -> list[Path]:
    return sorted(path for folder in (*PACKAGES, "scripts") for path in (ROOT / folder).rglob("*.py"))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", modules(), ids=name)
def test_a_module_says_what_it_is_for_and_stays_within_its_budget(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    lines = text.count("\n")
    limit = {"__main__.py": ENTRY_LINES, "wiring.py": WIRING_LINES}.get(path.name, MODULE_LINES)
    assert ast.get_docstring(tree), f"{name(path)} has no docstring"
    assert lines <= limit, f"{name(path)}: {lines} lines, budget {limit}"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or 0) - node.lineno + 1
            documented = ast.get_docstring(node, clean=False)
            size -= documented.count("\n") + 1 if documented else 0
            assert size <= FUNCTION_LINES, f"{name(path)}: {node.name} has {size} lines, budget {FUNCTION_LINES}"


@pytest.mark.parametrize("path", modules(), ids=name)
def test_no_module_holds_a_stub(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\bNotImplementedError|\bTODO\b|\bFIXME\b|\bXXX\b", text), name(path)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ExceptHandler):
            only = node.body[0] if len(node.body) == 1 else None
            silent = isinstance(only, ast.Pass) and (node.type is None or ast.unparse(node.type) == "Exception")
            assert not silent, f"{name(path)}:{node.lineno} swallows every error"


def test_every_package_is_named_in_the_architecture_page() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    for package in PACKAGES:
        assert re.search(rf"^\| `{package}` \|", page, re.MULTILINE), package


def test_requirements_are_pinned_by_hash_and_name_no_host() -> None:
    for entry in ("requirements.txt", "requirements-dev.txt"):
        text = (ROOT / entry).read_text(encoding="utf-8")
        assert not ADDRESS.search(text), entry
        pins = re.split(r"\n(?=\S)", text.strip())
        assert all("==" in pin and "--hash=sha256:" in pin for pin in pins), entry


def test_no_tracked_file_names_the_folder_it_was_written_in() -> None:
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    for entry in filter(None, listing.stdout.split("\n")):
        path = ROOT / entry
        if path.is_file():
            assert str(ROOT) + "/" not in path.read_text(encoding="utf-8", errors="replace"), entry


def test_names_that_say_nothing_are_not_used() -> None:
    vague = {"utils", "common", "helpers", "core", "base", "manager", "misc"}
    assert [name(p) for p in modules() if p.stem in vague] == []


@pytest.mark.parametrize("path", sorted((ROOT / "scripts").glob("*.py")), ids=name)
def test_a_script_that_is_run_as_a_file_finds_its_siblings(path: Path) -> None:
    """What is installed is the packages: `scripts` is found only by who puts the checkout on the path first."""
    text = path.read_text(encoding="utf-8")
    begun = text.partition("\nfrom scripts")[0]
    assert begun == text or '__name__ == "__main__"' not in text or "sys.path.insert(0, " in begun
