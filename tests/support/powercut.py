"""What a power cut may leave behind: the states of a disk that honours syncs and nothing else.

A recorded sequence of `lake.durable` steps is played on a model of a disk. After every step the model says which states
the real disk may be found in. Of bytes that no sync has promised any prefix may be there, or their length with zeros
instead of them, or all but one page. Names that no sync of their folder has promised (created, removed, renamed) may
be there or not, each by itself; only what happens to one name happens in order, and what is renamed is never lost
between its names. The manifest is SQLite's: a transaction whose commit has returned is durable, and one whose commit
is under way is there or not.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from sqlalchemy import Engine, event

from lake import durable
from lake.layout import LOCK, MANIFEST

PAGE = 4096
P = TypeVar("P")


class File:
    """An inode: what is in it, and what of that a sync has promised."""

    __slots__ = ("now", "synced")

    def __init__(self, now: bytes = b"", synced: bytes = b"") -> None:
        self.now = now
        self.synced = synced


class _Folder:
    """Marks a name as a folder's."""


FOLDER = _Folder()
Node = File | _Folder | None


class Change:
    """Names of one folder that change in one step, and the changes without which this one cannot be seen."""

    __slots__ = ("folder", "names", "needs")

    def __init__(self, folder: str, names: dict[str, Node], needs: list[Change]) -> None:
        self.folder = folder
        self.names = names
        self.needs = needs


def parent(path: str) -> str:
    return path.rpartition("/")[0]


class State(NamedTuple):
    """One disk as it may be found. Paths are relative to the lake's root."""

    label: str
    folders: frozenset[str]
    files: dict[str, bytes]
    floor: bool
    """Whether nothing that was not promised is there."""

    @property
    def key(self) -> int:
        """Equal for equal states of one process."""
        return hash((self.folders, frozenset(self.files.items())))

    def build(self, root: Path) -> None:
        """Make it real below `root`, which exists."""
        for folder in sorted(self.folders):
            (root / folder).mkdir()
        for path, data in self.files.items():
            with (root / path).open("wb", buffering=0) as file:
                file.write(data)


class Disk:
    """Files and names as they are now, and as they may be found after a power cut."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.kept: dict[str, Node] = {}
        self.now: dict[str, Node] = {}
        self.pending: list[Change] = []
        self.manifest: list[bytes | None] = [None]
        """The image that is durable, and the one whose commit is under way."""

    @classmethod
    def of(cls, root: Path) -> Disk:
        """With what lies below `root` now, all of it durable; nobody has its manifest open."""
        disk = cls(root)
        for path in sorted(root.rglob("*")) if root.exists() else ():
            name = path.relative_to(root).as_posix()
            if path.is_dir():
                disk.kept[name] = FOLDER
            elif name == MANIFEST:
                disk.manifest = [path.read_bytes()]
            elif name != LOCK:
                data = path.read_bytes()
                disk.kept[name] = File(data, data)
        disk.now = dict(disk.kept)
        return disk

    def copy(self) -> Disk:
        """The same disk, for another play; nothing may be pending."""
        assert not self.pending
        made = Disk(Path(self.root))
        same = {id(node): File(node.now, node.synced) for node in self.now.values() if isinstance(node, File)}
        made.kept = {name: same.get(id(node), node) for name, node in self.kept.items()}
        made.now = dict(made.kept)
        made.manifest = list(self.manifest)
        return made

    def _name(self, path: str) -> str:
        assert path.startswith(self.root), path
        return path[len(self.root) + 1 :]

    def apply(self, op: durable.Op) -> None:
        path = self._name(op.path)
        if path == LOCK:
            return
        match op.name:
            case "create":
                self._change({path: File()})
            case "write":
                file = self._file(path)
                file.now = file.now[: op.size] + op.data
            case "sync" | "fsync":
                file = self._file(path)
                file.synced = file.now
            case "truncate":
                file = self._file(path)
                file.now = file.now[: op.size]
            case "rename":
                self._rename(path, self._name(op.target))
            case "link":
                self._change({self._name(op.target): self.now[path]})
            case "unlink":
                if path in self.now:
                    self._change({path: None})
            case "mkdir":
                self._change({path: FOLDER})
            case "fsync_dir":
                self._keep(path)

    def _file(self, path: str) -> File:
        found = self.now[path]
        assert isinstance(found, File)
        return found

    def _rename(self, source: str, target: str) -> None:
        node = self.now[source]
        if parent(source) == parent(target):
            self._change({source: None, target: node})
        else:
            self._change({target: node})
            self._change({source: None}, self.pending[-1])

    def _change(self, names: dict[str, Node], *needs: Change) -> None:
        before = [change for change in self.pending if change.names.keys() & names.keys()]
        self.pending.append(Change(parent(next(iter(names))), names, [*before, *needs]))
        self._set(self.now, names)

    def _keep(self, folder: str) -> None:
        """What is promised of one folder brings what it cannot be without."""
        ahead = [change for change in self.pending if change.folder == folder]
        promised: set[int] = set()
        while ahead:
            change = ahead.pop()
            promised.add(id(change))
            ahead += change.needs
        for change in self.pending:
            if id(change) in promised:
                self._set(self.kept, change.names)
        self.pending = [change for change in self.pending if id(change) not in promised]
        for change in self.pending:
            change.needs = [other for other in change.needs if id(other) not in promised]

    @staticmethod
    def _set(names: dict[str, Node], changed: dict[str, Node]) -> None:
        for name, node in changed.items():
            if node is None:
                names.pop(name, None)
            else:
                names[name] = node

    # --- what may be found ---

    def subsets(self, chance: random.Random, most: int) -> Iterator[tuple[str, list[Change]]]:
        """Sets of unpromised changes that may be found together: all, none, then every other, or some."""
        yield "every name", self.pending
        if not self.pending:
            return
        yield "no unsynced name", []
        count = len(self.pending)
        masks: Sequence[int] = range(1, 2**count - 1)
        if len(masks) > most:
            singles = [1 << n for n in range(count)] + [(2**count - 1) ^ (1 << n) for n in range(count)]
            masks = sorted({*singles, *(chance.getrandbits(count) for _ in range(most))})
        for mask in masks:
            chosen = [change for n, change in enumerate(self.pending) if mask >> n & 1]
            there = {id(change) for change in chosen}
            if len(chosen) not in (0, count) and all(id(o) in there for change in chosen for o in change.needs):
                yield f"names {mask:0{count}b}", chosen

    def contents(self, file: File, chance: random.Random, cuts: int) -> list[tuple[str, bytes]]:
        """What may be found in a file that has unsynced bytes, other than all of them or none; `cuts` < 0: nothing."""
        if cuts < 0:
            return []
        same = next((n for n, (a, b) in enumerate(zip(file.now, file.synced, strict=False)) if a != b), None)
        same = min(len(file.now), len(file.synced)) if same is None else same
        more = len(file.now) - same
        if more <= 0:
            return []
        ends = {same + chance.randrange(1, more + 1) for _ in range(cuts)} | {same + more - 1, same + more // 2}
        pages = range((same // PAGE + 1) * PAGE, len(file.now), PAGE)
        ends |= set(itertools.islice(pages, 8))
        found = [(f"{end} of {len(file.now)} bytes", file.now[:end]) for end in sorted(ends - {same, len(file.now)})]
        found.append(("zeros", file.now[:same] + bytes(more)))
        for page in itertools.islice(pages, 8):
            lost = file.now[page : page + PAGE]
            found.append((f"page {page // PAGE} lost", file.now[:page] + bytes(len(lost)) + file.now[page + PAGE :]))
        return found

    def states(self, chance: random.Random, *, cuts: int = 2, extra: int = 4) -> Iterator[State]:
        """The states that a power cut now may leave; `cuts` ends of each file, `extra` random mixtures of them."""
        most = 30 if cuts >= 0 else 4
        for image in self.manifest:
            for label, chosen in self.subsets(chance, most):
                names = dict(self.kept)
                for change in chosen:
                    self._set(names, change.names)
                files = {path: node for path, node in names.items() if isinstance(node, File)}
                folders = {path for path, node in names.items() if isinstance(node, _Folder)}
                unsynced = {id(f): f for path, f in files.items() if f.now != f.synced and not _temporary(path)}
                whole = {id(f): f.now for f in files.values()}
                synced = {id(f): f.synced for f in files.values()}
                yield self._state(
                    f"{label}, every byte", folders, files, whole, image, floor=not chosen and whole == synced
                )
                if whole != synced:
                    yield self._state(f"{label}, synced bytes", folders, files, synced, image, floor=not chosen)
                options = {n: self.contents(f, chance, cuts) for n, f in unsynced.items()}
                for n, found in options.items():
                    for what, data in found:
                        yield self._state(f"{label}, {what}", folders, files, synced | {n: data}, image)
                if len(unsynced) > 1:
                    for _ in range(extra):
                        some = {
                            n: chance.choice([("", f.now), ("", f.synced), *options[n]])[1] for n, f in unsynced.items()
                        }
                        yield self._state(f"{label}, a mixture", folders, files, synced | some, image)

    def _state(
        self, label: str, folders: set[str], files: dict[str, File], data: dict[int, bytes], image: bytes | None,
        *, floor: bool = False,
    ) -> State:  # fmt: skip
        """A name in a folder that is gone is gone with it."""
        kept: set[str] = set()
        for folder in sorted(folders):
            if not parent(folder) or parent(folder) in kept:
                kept.add(folder)
        made = {p: data[id(f)] for p, f in files.items() if not parent(p) or parent(p) in kept}
        if image is not None:
            made[MANIFEST] = image
        return State(label, frozenset(kept), made, floor)


def _goes_on(one: durable.Op, other: durable.Op) -> bool:
    """Whether these are one write of a temporary file: nobody cares where in it the power was cut."""
    same = one.name == other.name == "write" and one.path == other.path and _temporary(one.path)
    return same and other.size == one.size + len(one.data)


def _temporary(path: str) -> bool:
    """Temporary files go whatever is in them: some contents are enough."""
    return path.endswith(".tmp")


# --- recording ---


class Step(NamedTuple, Generic[P]):
    """One recorded step: an operation, or the moment at which the manifest had come further."""

    op: durable.Op | None
    promised: P
    image: bytes | None = None


class Recording(Generic[P]):
    """Steps with what had been promised by their end, and the manifest's images between them.

    What lies below `root` when the recording is made is durable.
    """

    def __init__(self, root: Path, promised: P) -> None:
        self.root = root
        self.before = Disk.of(root)
        self.steps: list[Step[P]] = []
        self._promised = promised
        self._seen: tuple[int, int] | None = None
        self._image: bytes | None = None

    def promise(self, what: P) -> None:
        """From now on `what` must survive."""
        self._look()
        self._promised = what
        self.steps.append(Step(None, what, self._image))

    def _step(self, op: durable.Op) -> None:
        self._look()
        if op.name == "fsync" and not self._knows(op.path):  # SQLite wrote it: a copy of the manifest
            self.steps.append(Step(durable.Op("create", op.path), self._promised))
            self.steps.append(Step(durable.Op("write", op.path, data=Path(op.path).read_bytes()), self._promised))
        last = self.steps[-1] if self.steps else None
        if last is not None and last.op is not None and _goes_on(last.op, op):
            self.steps[-1] = last._replace(op=last.op._replace(data=last.op.data + op.data))
            return
        self.steps.append(Step(op, self._promised))

    def _knows(self, path: str) -> bool:
        there = path.removeprefix(self.before.root + "/") in self.before.now
        return there or any(step.op is not None and path in (step.op.path, step.op.target) for step in self.steps)

    def _look(self, *_: object) -> None:
        """Keep the manifest's image where it has come further."""
        path = self.root / MANIFEST
        if not path.exists():
            return
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            try:
                seen = db.execute("SELECT epoch, version FROM meta").fetchone()
            except sqlite3.OperationalError:
                return
            if seen != self._seen:
                self._seen, self._image = seen, db.serialize()
                self.steps.append(Step(None, self._promised, self._image))

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Record what happens inside."""
        event.listen(Engine, "commit", self._look)
        try:
            with durable.observe(self._step):
                yield
        finally:
            event.remove(Engine, "commit", self._look)
        self._look()


def record(work: Callable[[Callable[[P], None]], object], root: Path, promised: P) -> Recording[P]:
    """Run `work(promise)` on the lake or folder at `root`, where `promised` holds already."""
    made = Recording(root, promised)
    with made.running():
        work(made.promise)
    return made


def states(
    recorded: Recording[P],
    seed: int = 0,
    *,
    cuts: int = 2,
    extra: int = 4,
    keep: Callable[[int, durable.Op], bool] = lambda number, op: True,
    forgetful: int = 0,
    begin: int = 0,
) -> Iterator[tuple[str, State, P]]:
    """(where, what, what must be in it) of each different state that a power cut during the recording may leave.

    The same recording and seed give the same states. For mutants: a step that `keep` refuses is not taken, and the
    last `forgetful` commits of the manifest may be lost, and no cut is made before the step `begin`.
    """
    disk = recorded.before.copy()
    seen: set[tuple[int, P]] = set()
    older: list[bytes | None] = []
    for number, step in enumerate(recorded.steps):
        what = "a promise or commit"
        if step.op is not None:
            if not keep(number, step.op):
                continue
            disk.apply(step.op)
            what = f"{step.op.name} {Path(step.op.path).name}"
        elif step.image != disk.manifest[-1]:
            disk.manifest = [*older, disk.manifest[-1], step.image]
            older = disk.manifest[:-1][-forgetful:] if forgetful else []
        held = disk.states(random.Random(f"{seed}-{number}"), cuts=cuts, extra=extra) if number >= begin else ()
        for state in held:
            key = (state.key, step.promised)
            if key not in seen:
                seen.add(key)
                yield f"seed {seed}, step {number} ({what}): {state.label}", state, step.promised
        if step.op is None:
            disk.manifest = [*older, step.image]
