"""Only `lake/durable.py` writes: no other module of the product opens for writing, syncs, renames, links or removes.

SQLite, loguru, the simulator's log, scripts and tests are apart, and so are folders outside of any lake for what is
thrown away (`lake/scratch.py`).
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    "market",
    "lake",
    "runtime",
    "collectors",
    "transformer",
    "compactor",
    "features",
    "api",
    "client",
    "daemon",
    "cli",
)
THE_WRITER = ("lake/durable.py", "lake/scratch.py")
OS_CALLS = {
    "write", "writev", "pwrite", "fsync", "fdatasync", "sync", "rename", "renames", "replace", "unlink", "remove",
    "rmdir", "removedirs", "link", "symlink", "truncate", "ftruncate", "mkdir", "makedirs", "sendfile", "mkfifo",
    "copy_file_range", "posix_fallocate", "chmod", "chown", "utime",
}  # fmt: skip
PATH_CALLS = {
    "write_text", "write_bytes", "touch", "unlink", "rmdir", "mkdir", "hardlink_to", "symlink_to", "chmod", "rename",
    "replace",
}  # fmt: skip
OTHER_WRITERS = {
    "write_table", "write_dataset", "write_parquet", "sink_parquet", "write_csv", "sink_csv", "write_ndjson",
    "sink_ndjson", "write_ipc", "sink_ipc", "write_metadata",
}  # fmt: skip
MODULES = {"shutil": {"rmtree", "move", "copy", "copy2", "copyfile", "copytree", "chown"}, "tempfile": None}


def modules() -> list[Path]:
    found = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return sorted(path for path in found if path.relative_to(ROOT).as_posix() not in THE_WRITER)


def may_be_path_method(call: ast.Call, name: str, has_paths: bool) -> bool:
    """`replace` and `rename` are words of strings, structs and frames too: a path's takes one path."""
    if name not in {"replace", "rename"}:
        return True
    if call.keywords or len(call.args) != 1 or not has_paths:
        return False
    return not isinstance(call.args[0], ast.Dict | ast.DictComp | ast.Constant | ast.JoinedStr)


def to_a_file(call: ast.Call, owner: str, name: str, buffers: set[str]) -> bool:
    """Whether a writer of tables is given a file: not without a target, into memory, or into an open sink."""
    if name == "write_table" and owner not in {"pq", "parquet", "pa.parquet", "pyarrow.parquet"}:
        return False
    target = call.args[1 if name in {"write_table", "write_dataset", "write_metadata"} else 0 :][:1]
    return bool(target) and ast.unparse(target[0]) not in buffers


def for_writing(call: ast.Call, mode_at: int) -> bool:
    """Whether the mode says so. A builtin `open` whose mode cannot be read here counts; a method's first argument may
    be anything, so that only text that is a mode counts there.
    """
    mode = next((word.value for word in call.keywords if word.arg == "mode"), None)
    if mode is None and len(call.args) > mode_at:
        mode = call.args[mode_at]
    if mode is None:
        return False
    if not isinstance(mode, ast.Constant):
        return mode_at == 1
    return bool(re.fullmatch("[rwaxbt+]+", str(mode.value)) and set("wax+") & set(str(mode.value)))


def writes(tree: ast.AST) -> Iterator[tuple[int, str]]:
    text = ast.unparse(tree)
    has_paths = "pathlib" in text or "import" not in text
    # what a module makes of its own to be written to could open no file here without being found
    sinks = [
        node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and "def write(" in ast.unparse(node)
    ]
    buffers = set(re.findall(rf"(\w+)(?:: Any)? = (?:(?:io\.)?BytesIO\(\)|(?:{'|'.join(sinks) or '(?!)'})\()", text))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in {"os", "shutil", "tempfile"}:
            taken = {alias.name for alias in node.names}
            forbidden = MODULES.get(node.module, OS_CALLS | {"open"})
            for name in sorted(taken if forbidden is None else taken & forbidden):
                yield node.lineno, f"from {node.module} import {name}"
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id == "open" and for_writing(node, 1):
            yield node.lineno, "open(..., for writing)"
        if not isinstance(node.func, ast.Attribute):
            continue
        owner, name = ast.unparse(node.func.value), node.func.attr
        if owner == "os":
            # O_RDWR is how a lock is asked for where nothing is written
            if name in OS_CALLS or (name == "open" and not re.search("O_RDONLY|O_RDWR", ast.unparse(node))):
                yield node.lineno, f"os.{name}"
        elif owner in MODULES:
            forbidden = MODULES[owner]
            if forbidden is None or name in forbidden:
                yield node.lineno, f"{owner}.{name}"
        elif owner == "durable" or owner.endswith(".durable"):
            continue
        elif name == "open" and for_writing(node, 0):
            yield node.lineno, f"{owner}.open(for writing)"
        elif (name in OTHER_WRITERS and to_a_file(node, owner, name, buffers)) or (
            name in PATH_CALLS and may_be_path_method(node, name, has_paths)
        ):
            yield node.lineno, f"{owner}.{name}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_other_module_writes_files(path: Path) -> None:
    found = [f"line {line}: {what}" for line, what in writes(ast.parse(path.read_text(encoding="utf-8")))]
    assert not found, f"{path.relative_to(ROOT)} must go through lake.durable: {'; '.join(found)}"


@pytest.mark.parametrize(
    "code",
    [
        "open('x', 'w')", "open('x', mode='ab')", "open('x', mode)", "p.open('r+b')", "p.write_text('x')",
        "os.fsync(1)", "os.open('x', os.O_WRONLY)", "os.replace(a, b)", "p.rename(q)", "p.replace(target)",
        "p.unlink()", "p.mkdir()",
        "shutil.rmtree(p)", "tempfile.NamedTemporaryFile()", "from os import rename", "from tempfile import mkstemp",
        "frame.write_parquet(p)", "pq.write_table(t, p)", "os.truncate(p, 1)", "p.hardlink_to(q)",
        "class S:\n def write(self, data): open(p, 'wb')\nheld = S()\nframe.write_csv(held)",
        "class S:\n pass\nheld = S()\nframe.write_csv(held)",
    ],
)  # fmt: skip
def test_the_test_finds_each_way_to_write(code: str) -> None:
    assert list(writes(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "open('x')", "open('x', 'rb')", "p.open('rb')", "text.replace('a', 'b')", "when.replace(tzinfo=UTC)",
        "structs.replace(row, state='x')", "frame.rename({'a': 'b'})", "durable.rename(a, b)", "durable.unlink(a)",
        "p.read_bytes()", "file.write(b'x')", "os.open(p, os.O_RDONLY)", "frame.dt.truncate('1m')",
        "writer.write_table(t)", "frame.write_csv()", "held = io.BytesIO(); frame.write_parquet(held)",
        "class S:\n def write(self, data): pass\nheld: Any = S(1)\nframe.write_csv(held)",
    ],
)  # fmt: skip
def test_the_test_leaves_reading_alone(code: str) -> None:
    assert not list(writes(ast.parse(code)))
