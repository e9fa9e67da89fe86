"""F05: the publication protocol with one rule broken. The search for bad states must find each, or it proves nothing.

A mutant either forgets a sync (the recorded step is not played) or does things in another order (recorded anew).
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from collectors.writing import GroupCommit
from lake import durable, links, publish
from lake.durable import Op
from lake.manifest import Manifest
from lake.writer import LakeWriter
from tests.support import invariants, life
from tests.support.faults import FIGURE, SEED, Lives, memory, some
from tests.support.powercut import Recording, record, states

Patch = Callable[[pytest.MonkeyPatch], None]


class Mutant(NamedTuple):
    """`forget(ops, n)`: whether the n-th recorded operation is not taken; `patch`: what is done in another order."""

    stage: str
    sign: str
    forget: Callable[[list[Op], int], bool] | None = None
    patch: Patch | None = None
    forgetful: int = 0


def syncs(part: str, end: str = "", name: str = "sync fsync") -> Callable[[list[Op], int], bool]:
    """Syncs of files whose path has `part` in it and ends so."""
    return lambda ops, n: ops[n].name in name.split() and part in ops[n].path and ops[n].path.endswith(end)


def folder_syncs(after: str, part: str, end: str = "") -> Callable[[list[Op], int], bool]:
    """Syncs of a folder that follow an operation of that name on such a path."""

    def forget(ops: list[Op], n: int) -> bool:
        if ops[n].name != "fsync_dir":
            return False
        before = next(op for op in reversed(ops[:n]) if op.name != "fsync_dir")
        return before.name == after and part in before.path and before.path.endswith(end)

    return forget


# --- other orders ---


def commit_before_publish(patch: pytest.MonkeyPatch) -> None:
    """The manifest names a file before the file has its name."""
    late: list[tuple[Path, Path]] = []

    class Later:
        def __getattr__(self, name: str) -> Any:
            return getattr(durable, name)

        def rename(self, source: Path, target: Path) -> None:
            late.append((source, target))

    patch.setattr(publish, "durable", Later())
    commit = Manifest.commit

    def committed(self: Manifest, **changes: Any) -> int:
        version = commit(self, **changes)
        for source, target in late:
            durable.rename(source, target)
        late.clear()
        return version

    patch.setattr(Manifest, "commit", committed)


def unlink_before_swap(patch: pytest.MonkeyPatch) -> None:
    """What is replaced goes before its replacement is committed."""
    commit = Manifest.commit

    def committed(self: Manifest, **changes: Any) -> int:
        for path in changes["remove"]:
            durable.unlink(self.root / path)
        return commit(self, **changes)

    patch.setattr(Manifest, "commit", committed)


def raw_gone_before_commit(patch: pytest.MonkeyPatch) -> None:
    """Segments go before the files made of them are committed."""
    commit = Manifest.commit

    def committed(self: Manifest, **changes: Any) -> int:
        for path, state in (changes["segments"] or {}).items():
            if state == "transformed":
                durable.unlink(self.root / path)
        return commit(self, **changes)

    patch.setattr(Manifest, "commit", committed)


def swap_in_two(first: str) -> Patch:
    """Removing and adding in two transactions."""

    def patched(patch: pytest.MonkeyPatch) -> None:
        commit = Manifest.commit

        def committed(self: Manifest, **changes: Any) -> int:
            if not (changes["add"] and changes["remove"]):
                return commit(self, **changes)
            second = "remove" if first == "add" else "add"
            commit(self, **{**changes, second: (), "checks": (), "certificates": ()})
            return commit(self, **{**changes, first: (), "expect": None})

        patch.setattr(Manifest, "commit", committed)

    return patched


def lines_before_frames(patch: pytest.MonkeyPatch) -> None:
    """Segments take the place of frames in every pass."""
    carry_out = GroupCommit._carry_out

    def carried_out(self: Any, now: int, *, sync: bool, final: bool) -> None:
        self._frames, self._segments = self._segments, self._frames
        try:
            carry_out(self, now, sync=sync, final=final)
        finally:
            self._frames, self._segments = self._segments, self._frames

    patch.setattr(GroupCommit, "_carry_out", carried_out)


def manifest_before_ledger(patch: pytest.MonkeyPatch) -> None:
    """The ledger hears of a transaction when the manifest has it."""
    late: list[Callable[[], None]] = []
    write, transaction = LakeWriter._write_ledger, Manifest._transaction

    def written(self: LakeWriter, entries: Any, now: int) -> None:
        late.append(lambda: write(self, entries, now))

    @contextlib.contextmanager
    def committed(self: Manifest) -> Iterator[Any]:
        with transaction(self) as conn:
            yield conn
        self._find_out = None
        for tell in late:
            tell()
        late.clear()

    patch.setattr(LakeWriter, "_write_ledger", written)
    patch.setattr(Manifest, "_transaction", committed)


def link_before_unlink(patch: pytest.MonkeyPatch) -> None:
    """tables/ gets the new revision of a day before the old one goes."""
    replace = links.replace

    def replaced(root: Path, removed: Any, added: Any) -> None:
        replace(root, (), added)
        replace(root, removed, added)

    patch.setattr(links, "replace", replaced)


def name_before_seal(patch: pytest.MonkeyPatch) -> None:
    """A segment loses its `.open` before its seal is there."""
    from lake import layout, segment_files, segments

    def settled(root: Path, row: Any) -> None:
        durable.rename(root / (row.path + layout.OPEN), root / row.path)
        durable.write_file(root / layout.meta_path(row.path), segments.encode_seal(row))

    patch.setattr(segment_files, "_settle", settled)


def recorded_before_sealed(patch: pytest.MonkeyPatch) -> None:
    """The manifest calls a segment sealed while its bytes are not synced."""
    from collectors.spool import Spool

    turn = Spool.turn

    def turned(self: Any, now: int, *, final: bool = False) -> Any:
        import msgspec

        if self._file is not None and (final or now >= self._end):
            self._write_first(sum(1 for item in self._waiting if item.ts_recv < self._end))
            live = self._live
            extent = live.extent._asdict() if live.extent else {}
            row = msgspec.structs.replace(
                live.row, state="sealed", period_end=min(now, self._end), rows=live.rows, bytes=live.size,
                sha256=live._hash.hexdigest() if live.rows else "", **extent,
            )  # fmt: skip
            self._writer.record(segments=[row])
        return turn(self, now, final=final)

    patch.setattr(Spool, "turn", turned)


MUTANTS = {
    "lines are not synced": Mutant("collect", "I1", syncs("data_type=", ".open")),
    "frames are not synced": Mutant("collect", "I", syncs("frames/", ".open")),
    "a seal is not synced": Mutant("collect", "I3", syncs(".meta.json", ".tmp")),
    "a part is not synced": Mutant("transform", "I", syncs("/hot/", ".tmp")),
    "a daily file is not synced": Mutant("close", "I", syncs("/versions/", ".tmp")),
    "the ledger is not synced": Mutant("transform", "P27", syncs("/ledger/")),
    "a new ledger's name is not synced": Mutant("collect", "P27", folder_syncs("create", "/ledger/")),
    "a new segment's name is not synced": Mutant("collect", "I1", folder_syncs("create", "/raw/", ".open")),
    "new folders are not synced": Mutant("collect", "I", folder_syncs("mkdir", "")),
    "a part's name is not synced": Mutant("transform", "I3", folder_syncs("rename", "/hot/", ".tmp")),
    "a daily file's name is not synced": Mutant("close", "I3", folder_syncs("rename", "/versions/", ".tmp")),
    "that an old link is gone is not synced": Mutant("revise", "I4", folder_syncs("unlink", "/tables/")),
    "that a replaced file is gone is not synced": Mutant("retain", "I9", folder_syncs("unlink", ".parquet")),
    "that raw is gone is not synced": Mutant("retain", "I9", folder_syncs("unlink", "/raw/")),
    "commits of the manifest are not synced": Mutant("close", "", forgetful=3),
    "commit before publish": Mutant("transform", "I3", patch=commit_before_publish),
    "unlink before swap": Mutant("close", "I3", patch=unlink_before_swap),
    "raw goes before its parts are committed": Mutant("transform", "I", patch=raw_gone_before_commit),
    "removed, then added": Mutant("close", "I1", patch=swap_in_two("remove")),
    "added, then removed": Mutant("close", "I2", patch=swap_in_two("add")),
    "lines before frames": Mutant("collect", "I1", patch=lines_before_frames),
    "manifest before ledger": Mutant("transform", "P27", patch=manifest_before_ledger),
    "new link before the old one is gone": Mutant("revise", "I4", patch=link_before_unlink),
    "recorded before it is sealed": Mutant("collect", "I", patch=recorded_before_sealed),
}

SURVIVORS = {
    # Recovery takes a file by either name: what has a seal is what its writer meant, whatever it is called. Keep it so.
    "that a segment lost its .open is not synced": Mutant("collect", "", folder_syncs("rename", "/raw/", ".open")),
    # The segment's own name is synced next, in the same folder, and only then is anybody told.
    "a seal's name is not synced": Mutant("collect", "", folder_syncs("rename", ".meta.json", ".tmp")),
    # A name without a seal is read line by line and sealed as not clean: that costs time, nothing else.
    "a seal after the name": Mutant("collect", "", patch=name_before_seal),
    # A link of tables/ that is lost is made again by the next start, from the manifest.
    "a link's name is not synced": Mutant("close", "", folder_syncs("link", "")),
}


def recording(lives: Lives, place: Path, stage: str) -> Recording[life.Promise]:
    root = lives.before(stage, place)
    return record(lambda tell: life.STAGES[stage](root, tell), root, lives.promises[stage])


Sound = Callable[[str], Recording[life.Promise]]


@pytest.fixture(scope="module")
def sound(lives: Lives) -> Iterator[Sound]:
    """What a stage does where no rule is broken."""
    with tempfile.TemporaryDirectory(dir=memory()) as folder:
        yield functools.cache(lambda stage: recording(lives, Path(folder) / stage, stage))


def parting(broken: Recording[life.Promise], sound: Recording[life.Promise]) -> int:
    """The first step that is another one. What a power cut leaves before it is of the unbroken protocol (F04)."""
    steps = [
        [step.op and (step.op.name, Path(step.op.path).relative_to(made.root)) for step in made.steps]
        for made in (broken, sound)
    ]
    return next((n for n, (one, other) in enumerate(zip(*steps, strict=False)) if one != other), 0)


def spread(count: int) -> list[int]:
    """All numbers below `count`, those far apart first: what is bad in one place is bad in its neighbourhood."""
    width = max(1, (count - 1).bit_length())
    return sorted(range(count), key=lambda n: f"{n:0{width}b}"[::-1])


def first_sign(
    lives: Lives, place: Path, mutant: Mutant, most: int = 0, sound: Sound | None = None
) -> tuple[list[str], int]:
    """What the first bad state says, and how many states it took."""
    with pytest.MonkeyPatch.context() as patch:
        if mutant.patch is not None:
            mutant.patch(patch)
        recorded = recording(lives, place / "recorded", mutant.stage)
    begin = parting(recorded, sound(mutant.stage)) if sound and mutant.patch else 0
    forgotten: set[int] = set()
    if mutant.forget is not None:
        numbers = [n for n, step in enumerate(recorded.steps) if step.op is not None]
        ops = [recorded.steps[n].op for n in numbers]
        forgotten = {number for n, number in enumerate(numbers) if mutant.forget(ops, n)}
        assert forgotten, "this mutant forgets nothing"
        begin = min(forgotten)
    count = 0
    found = list(
        states(
            recorded, SEED, cuts=-1, extra=0, keep=lambda n, op: n not in forgotten, forgetful=mutant.forgetful,
            begin=begin,
        )
    )  # fmt: skip
    for where, state, promised in some(found, most, mutant.stage) if most else [found[n] for n in spread(len(found))]:
        cut = place / "cut"
        cut.mkdir()
        state.build(cut)
        count += 1
        wrong = invariants.check(cut, promised, floor=state.floor, thorough=mutant.sign == "P27")
        shutil.rmtree(cut)
        if wrong:
            return [f"{where}: {what}" for what in wrong], count
    return [], count


@pytest.mark.parametrize("name", MUTANTS)
def test_f05_each_mutant_of_the_protocol_is_caught(
    lives: Lives, place: Path, name: str, sound: Sound, record_property: Callable[[str, object], None]
) -> None:
    wrong, count = first_sign(lives, place, MUTANTS[name], sound=sound)
    print(count, wrong[:3])
    assert wrong, f"{count} states, and none of them is wrong"
    assert any(MUTANTS[name].sign in what for what in wrong), wrong
    record_property(FIGURE + "mutants caught", (1, f"of {len(MUTANTS)}"))


@pytest.mark.parametrize("name", SURVIVORS)
@pytest.mark.timeout(1200)
def test_f05_what_recovery_makes_harmless_stays_harmless(lives: Lives, place: Path, name: str) -> None:
    wrong, count = first_sign(lives, place, SURVIVORS[name], 40)
    assert wrong == []
    assert count >= 40
