"""`dl verify`: what the manifest claims against what the disk holds, and whether the numbers of the ledger add up.

Reads only. Every live Parquet file is hashed, decoded page by page and held against its footer; daily files also
against their certificate and content digest; sealed segments and frames files against their seals; every stream
against the ledger law (`lake.law`). A finding names the thing, what is wrong with it and what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import pyarrow as pa

from lake import feature_care, feature_table, layout, parquet
from lake.audit_words import OPEN
from lake.audits import CHECKS
from lake.digest import SPECS, ContentDigest
from lake.errors import LakeError
from lake.finding import AGAIN, LOST, Finding
from lake.law import MarketLaw, StreamLaw, prove
from lake.law_ids import FROM_LEDGER, Tale
from lake.ledger import BadEntry, read_ledger
from lake.links import link_of
from lake.manifest_reads import Snapshot
from lake.recovery import files_below
from lake.rows import CertificateRow, FileRow, SegmentRow
from market.errors import MarketError
from market.kinds import Contiguous, kind
from market.session import Gap
from market.times import DAY, SECOND, Interval, intersect, parse, text, union

__all__ = ["AGAIN", "LOST", "Finding", "IdLaw", "Verification", "id_law", "verify_lake"]
Report = Callable[[int, int, str], None]
FOUND_BY = (
    "exchange", "market_type", "kind", "symbol", "level", "date", "hour", "revision", "ts_min", "ts_max", "seq_min",
    "seq_max",
)  # fmt: skip
"""What a file is found by, as its row and its footer say it."""
NOT_OURS = "nothing of the lake reads it: move it away"


class IdLaw(msgspec.Struct, frozen=True):
    """The ids of one daily file: `holds` says whether last - first + 1 = stored + void + missing."""

    path: str
    first: int
    last: int
    stored: int
    void: int
    missing: int

    @property
    def holds(self) -> bool:
        return self.last - self.first + 1 == self.stored + self.void + self.missing


class Proof(msgspec.Struct):
    """The certified files of one market and day by whether their frames made the same again, and when that was last
    looked at (us). `unproven`: not yet, or not all of their frames are there.
    """

    exchange: str
    market_type: str
    date: str
    same: int = 0
    different: int = 0
    unproven: int = 0
    at: int | None = None


class Verification(msgspec.Struct):
    """What was checked and what was found."""

    files: int = 0
    rows: int = 0
    bytes: int = 0
    segments: int = 0
    certificates: int = 0
    features: int = 0
    """Versions of feature sets."""
    laws: list[IdLaw] = []
    """Of daily files."""
    streams: list[StreamLaw] = []
    markets: list[MarketLaw] = []
    proofs: list[Proof] = []
    findings: list[Finding] = []

    @property
    def ok(self) -> bool:
        return not any(finding.severity == "error" for finding in self.findings)


def verify_lake(root: Path, snapshot: Snapshot, report: Report) -> Verification:
    """Check everything the snapshot names. `report(done, total, what)` is called once a file."""
    result = Verification()
    files = snapshot.files()
    known = snapshot.segments()
    segments = [s for s in known if s.rows and s.state in ("sealed", "transformed")]
    certificates = {row.path: row for row in snapshot.certificates()}
    total = len(files) + len(segments)
    broken: set[str] = set()
    for done, row in enumerate(files):
        report(done, total, row.path)
        if not _check_file(root, row, certificates.get(row.path), snapshot, result):
            broken.add(row.path)
    for done, segment in enumerate(segments, len(files)):
        report(done, total, segment.path)
        if not _check_segment(root, segment, result):
            broken.add(segment.path)
    for segment in known:
        if segment.state == "quarantined":
            problem = f"was set aside, its rows are in no table: {segment.error or 'it could not be read'}"
            result.findings.append(Finding("warning", segment.path, problem, "dl gaps names the hole it left"))
    law = prove(root, snapshot, broken, lambda done, _, what: report(total + done, total + len(files), what))
    result.streams, result.markets = law.streams, law.markets
    result.findings += law.findings
    _proofs(files, certificates, result)
    result.findings += _disputed(files, snapshot)
    result.findings += _ledger(root, snapshot, certificates.values())
    result.findings += _strangers(root, files, known, snapshot.files(state="retired"))
    sets = feature_care.verify(root, snapshot, lambda done, _, what: report(total + done, total + len(files), what))
    result.features, result.bytes = sets.files, result.bytes + sets.bytes
    result.findings += sets.findings
    versions = feature_table.features(snapshot, state=None)
    result.findings += feature_care.strangers(files_below(root, layout.FEATURES), versions)
    return result


def _proofs(files: list[FileRow], certificates: dict[str, CertificateRow], result: Verification) -> None:
    """Which closed days were made again from their frames, and a finding for each file that was not the same."""
    found: dict[tuple[str, str, str], Proof] = {}
    for row in files:
        told = certificates.get(row.path)
        if row.level != "day" or told is None or kind(row.kind).derived:
            continue
        key = (row.exchange, row.market_type, row.date)
        proof = found.setdefault(key, Proof(*key))
        if told.reproduced is None:
            proof.unproven += 1
            continue
        proof.at = max(proof.at or 0, told.issued_at)
        if told.reproduced:
            proof.same += 1
            continue
        proof.different += 1
        problem = f"is not what its frames made on {text(told.issued_at)}"
        hint = f"dl verify --frames --kind {row.kind} --date {row.date} says which rows"
        result.findings.append(Finding("error", row.path, problem, hint))
    result.proofs = [found[key] for key in sorted(found)]


def _disputed(files: list[FileRow], snapshot: Snapshot) -> list[Finding]:
    """Daily files of which the venue says something else, and nothing explains it."""
    live = {row.path: row for row in files}
    found: list[Finding] = []
    for check in snapshot.checks():
        if check.check.removeprefix(CHECKS) in OPEN and check.count and check.path in live:
            row = live[check.path]
            hint = f"dl reconcile --exchange {row.exchange} --symbol {check.symbol} --day {row.date} says more"
            problem = f"{check.count:,} values are not what the venue says: {check.detail}"
            found.append(Finding("warning", check.path, problem, hint))
    return found


def _about(path: Path, error: LakeError) -> str:
    """What is wrong with the file, without the name that stands before it."""
    return error.message.removeprefix(f"{path} ").removeprefix(f"{path.name} ")


def _ledger(root: Path, snapshot: Snapshot, certificates: Iterable[CertificateRow]) -> list[Finding]:
    """Damaged lines of the ledger, whose word is in the manifest still, gaps that only the ledger tells of, and what of
    gaps and `certificates` a whole ledger tells otherwise.
    """
    tale = Tale()
    found: list[Finding] = []

    def bad(entry: BadEntry) -> None:
        torn = " (torn)" if entry.torn else ""
        hint = "the manifest has it still: keep a copy of manifest.db"
        found.append(Finding("warning", entry.path, f"line {entry.number}{torn}: {entry.reason}", hint))

    for entry in read_ledger(root, bad):
        tale.take(entry)
    gaps = snapshot.gaps()
    return found + tale.lost(gaps, _newest(snapshot)) + ([] if found else tale.altered(gaps, certificates))


def _newest(snapshot: Snapshot) -> int:
    """When the snapshot's last change was told, at the earliest (us): what the ledger was told before that is in it."""
    times = [row.recorded_at for row in snapshot.segments()] + [row.created_at for row in snapshot.files()]
    return max((*times, *(gap.detected_at for gap in snapshot.gaps())), default=0)


def _check_file(
    root: Path, row: FileRow, certificate: CertificateRow | None, snapshot: Snapshot, result: Verification
) -> bool:
    """Whether its bytes are those that the manifest and its footer promise."""
    result.files += 1
    result.bytes += row.bytes
    path = root / row.path
    try:
        parquet.check_sha256(path, row.sha256)
        footer = parquet.verify(path)
    except LakeError as error:
        hint = LOST if row.level == "day" else AGAIN
        result.findings.append(Finding("error", row.path, _about(path, error), hint))
        return False
    result.rows += footer.rows
    if footer.rows != row.rows:
        problem = f"holds {footer.rows} rows, the manifest says {row.rows}"
        result.findings.append(Finding("error", row.path, problem, LOST))
    if wrong := [name for name in FOUND_BY if getattr(row, name) != getattr(footer, name)]:
        told = ", ".join(f"{name} {getattr(footer, name)}, not {getattr(row, name)}" for name in wrong)
        problem = f"has {told} as the manifest says: readers may not find its rows"
        result.findings.append(Finding("error", row.path, problem, "dl rebuild takes it from the file's footer"))
    if row.level == "day":
        result.findings += _check_link(root, row)
        _check_certificate(root, row, certificate, snapshot, result)
    return True


def _check_link(root: Path, row: FileRow) -> list[Finding]:
    """The file in tables/ must be the current revision: the same inode, or the same bytes where it is a copy."""
    name = link_of(row.path)
    if name is None:
        return [Finding("error", row.path, "is a daily file outside versions/", LOST)]
    link = root / name
    target = root / row.path
    if not link.is_file():
        return [Finding("warning", row.path, f"{link.name} is missing in tables/", "start the daemon: it links again")]
    if not link.samefile(target) and parquet.file_sha256(link) != row.sha256:
        return [Finding("error", row.path, "the file in tables/ has other bytes", "start the daemon: it links again")]
    return []


def _check_certificate(
    root: Path, row: FileRow, certificate: CertificateRow | None, snapshot: Snapshot, result: Verification
) -> None:
    if certificate is None:
        result.findings.append(Finding("error", row.path, "is a daily file without a certificate", "run: dl compact"))
        return
    result.certificates += 1
    specs = range(1, SPECS.get(row.kind, 1) + 1)  # what an earlier version certified stays provable
    digests = [ContentDigest(row.exchange, row.market_type, row.kind, spec) for spec in specs]
    ids: list[pa.ChunkedArray] = []
    seq = kind(row.kind).seq
    for table in parquet.iterate(root / row.path):
        for digest in digests:
            digest.update(table)
        if seq is not None:
            ids.append(table.column(seq).drop_null())
    found = [digest.hexdigest() for digest in digests]
    if certificate.sha256 != row.sha256:
        result.findings.append(Finding("error", row.path, "its certificate is of other bytes", "run: dl compact"))
    if certificate.content_digest not in found:
        problem = f"content digest {found[-1][:16]}…, its certificate says {certificate.content_digest[:16]}…"
        result.findings.append(Finding("error", row.path, problem, LOST))
    result.findings += _check_coverage(row, certificate, snapshot)
    contiguous = any(isinstance(check, Contiguous) for check in kind(row.kind).checks)
    if contiguous and certificate.first_id is not None:
        law = id_law(row, sum(len(c) for c in ids), certificate, snapshot)
        result.laws.append(law)
        if not law.holds:
            problem = (
                f"ids {law.first}..{law.last} are {law.last - law.first + 1}, but stored {law.stored} + void {law.void}"
                f" + missing {law.missing} = {law.stored + law.void + law.missing}"
            )
            result.findings.append(Finding("error", row.path, problem, "run: dl gaps, then dl compact"))


def _check_coverage(row: FileRow, certificate: CertificateRow, snapshot: Snapshot) -> list[Finding]:
    """Coverage only grows: what a certificate counted of it is there still. That of bars is of their trades."""
    if kind(row.kind).derived:
        return []
    start = parse(row.date)
    day = Interval(start, start + DAY)
    held = snapshot.coverage(row.exchange, row.market_type, row.kind, row.symbol, overlapping=day)
    seconds = sum(span.length for span in union(Interval(c.ts_from, c.ts_to).clip(day) for c in held)) / SECOND
    if seconds >= certificate.covered_seconds:
        return []
    problem = f"{seconds:,.3f} s of its day are covered, its certificate says {certificate.covered_seconds:,.3f}"
    return [Finding("error", row.path, problem, FROM_LEDGER)]


def id_law(row: FileRow, stored: int, certificate: CertificateRow, snapshot: Snapshot) -> IdLaw:
    """Count the ids of a daily file from the file and the gap rows, not from its certificate."""
    first, last = certificate.first_id or 0, certificate.last_id or 0
    gaps = snapshot.gaps(row.exchange, row.market_type, row.kind, row.symbol)
    inside = [Interval(first, last + 1)]

    def ids(wanted: Iterable[Gap]) -> int:
        spans = [Interval(g.id_from, g.id_to) for g in wanted if g.id_from is not None and g.id_to is not None]
        return sum(i.length for i in intersect(union(spans), inside))

    void = ids(g for g in gaps if g.state == "void")
    missing = ids(g for g in gaps if g.state in ("open", "unrepairable"))
    return IdLaw(row.path, first, last, stored, void, missing)


def _check_segment(root: Path, row: SegmentRow, result: Verification) -> bool:
    """Whether it is what its seal says."""
    result.segments += 1
    result.bytes += row.bytes
    path = root / row.path
    hint = LOST
    try:
        if not path.is_file():
            problem = "is missing"
            hint = "its rows are in the tables made of it" if row.state == "transformed" else LOST
        elif (size := path.stat().st_size) != row.bytes:
            problem = f"has {size} bytes, its seal says {row.bytes}"
        else:
            parquet.check_sha256(path, row.sha256)
            return True
    except LakeError as error:
        problem = _about(path, error)
    result.findings.append(Finding("error", row.path, problem, hint))
    return False


def _strangers(root: Path, live: list[FileRow], segments: list[SegmentRow], retired: list[FileRow]) -> list[Finding]:
    """Files in the lake's folders that no row names; those of a run under way (hidden or open) are no strangers."""
    known = {row.path for row in (*live, *retired)} | {row.path for row in segments}
    known |= {name for row in live if (name := link_of(row.path)) is not None}
    found: list[Finding] = []
    for folder in (layout.RAW, layout.FRAMES, layout.HOT, layout.TABLES, layout.VERSIONS):
        for path in sorted((root / folder).rglob("*")):
            name = path.relative_to(root).as_posix()
            if path.is_dir() or path.name.startswith(".") or path.name.endswith((".open", ".meta.json")):
                continue
            if name not in known:
                found.append(Finding("warning", name, "is named by no row of the manifest", _what_becomes_of(name)))
    return found


def _what_becomes_of(name: str) -> str:
    """What to do about a file that no row names."""
    tree = name.partition("/")[0]
    if tree == layout.TABLES:
        return "a glob over tables/ reads it although it is not of this lake: move it away"
    parse = {layout.RAW: layout.parse_raw, layout.FRAMES: layout.parse_frames}.get(tree, layout.parse_parquet)
    try:
        parse(name)
    except MarketError:
        return NOT_OURS
    return "left by a job that did not end or came too late: the next start puts it in order"
