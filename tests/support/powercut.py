"""What a power cut may leave behind: the states of a disk that honours syncs and nothing else.

A recorded sequence of `lake.durable` steps is played on a model of a disk. After every step the model says which states
the real disk may be found in: names and bytes that no sync has promised may be there or not, in any of several ways.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from lake import durable

Bytes = Literal["all", "synced", "half", "zeros"]
STATES: tuple[tuple[bool, Bytes], ...] = (
    (True, "all"), (True, "synced"), (True, "half"), (True, "zeros"), (False, "all"), (False, "synced"),
)  # fmt: skip
"""(unsynced names are there, what is there of unsynced bytes)."""


class _File:
    def __init__(self) -> None:
        self.now = b""
        self.synced = b""

    def found(self, what: Bytes) -> bytes:
        if what == "all":
            return self.now
        more = len(self.now) - len(self.synced)
        if what == "synced" or more <= 0:
            return self.synced
        return self.now[: len(self.synced) + more // 2] if what == "half" else self.synced + b"\0" * more


class Disk:
    """Files and names as they are now, and as they would be found after a power cut."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now: dict[str, _File] = {}
        self.kept: dict[str, _File] = {}
        self.folders = {str(root)}
        self.kept_folders = {str(root)}

    def apply(self, op: durable.Op) -> None:
        match op.name:
            case "create":
                self.now[op.path] = _File()
            case "write":
                file = self.now[op.path]
                file.now = file.now[: op.size] + op.data
            case "sync" | "fsync":
                self.now[op.path].synced = self.now[op.path].now
            case "truncate":
                self.now[op.path].now = self.now[op.path].now[: op.size]
            case "rename":
                self.now[op.target] = self.now.pop(op.path)
            case "link":
                self.now[op.target] = self.now[op.path]
            case "unlink":
                self.now.pop(op.path, None)
            case "mkdir":
                self.folders.add(op.path)
            case "fsync_dir":
                self._keep(op.path)

    def _keep(self, folder: str) -> None:
        for name in {*self.now, *self.kept}:
            if str(Path(name).parent) == folder:
                if name in self.now:
                    self.kept[name] = self.now[name]
                else:
                    del self.kept[name]
        self.kept_folders |= {name for name in self.folders if str(Path(name).parent) == folder}

    def build(self, root: Path, names: bool, what: Bytes) -> None:
        """Make the state real below `root`. A name in a folder that is gone is gone with it."""
        folders = self.folders if names else self.kept_folders
        for folder in sorted(folders):
            if all(str(parent) in folders for parent in Path(folder).parents if parent.is_relative_to(self.root)):
                (root / Path(folder).relative_to(self.root)).mkdir(parents=True, exist_ok=True)
        for name, file in (self.now if names else self.kept).items():
            place = root / Path(name).relative_to(self.root)
            if place.parent.is_dir():
                place.write_bytes(file.found(what))


def record(work: Callable[[Callable[[int], None]], object]) -> tuple[list[durable.Op], list[int]]:
    """Run `work(promise)`; its steps, and what had been promised as durable after each of them."""
    ops: list[durable.Op] = []
    promised: list[int] = []
    latest = 0

    def promise(amount: int) -> None:
        nonlocal latest
        latest = amount
        if promised:
            promised[-1] = amount

    def step(op: durable.Op) -> None:
        ops.append(op)
        promised.append(latest)

    with durable.observe(step):
        work(promise)
    return ops, promised


def states(
    tmp_path: Path, root: Path, ops: Sequence[durable.Op], promised: Sequence[int]
) -> Iterator[tuple[str, Path, int]]:
    """(what it is, where it was made, what must be in it) of each state that a power cut during `ops` may leave."""
    disk = Disk(root)
    for number, (op, amount) in enumerate(zip(ops, promised, strict=True), start=1):
        disk.apply(op)
        for names, what in STATES:
            place = tmp_path / f"cut-{number}-{names}-{what}"
            place.mkdir()
            disk.build(place, names, what)
            yield f"after step {number} ({op.name} {Path(op.path).name}), names {names}, bytes {what}", place, amount
