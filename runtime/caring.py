"""What the process says of caring for what is stored: copies of the manifest, files read again, retention.

As `runtime.telemetry`, whose rules hold here: one function an event, each one log line and one count.
"""

from __future__ import annotations

from runtime import metrics
from runtime.saying import error_text, say, size


def backup_made(*, path: str, nbytes: int, seconds: float, kept: int, integrity: bool) -> None:
    """A checked copy of the manifest is there; `integrity` says whether all of it was checked (once a day)."""
    metrics.BACKUPS.labels("made").inc()
    how = "integrity" if integrity else "quick"
    text = f"{path}: {size(nbytes)} in {seconds:.1f} s, {how} check ok; {kept} kept"
    say("INFO" if integrity else "DEBUG", "backup_made", text, path=path, bytes=nbytes, integrity=integrity)


def backup_failed(*, error: BaseException) -> None:
    """No copy of the manifest could be made, or the copy was not whole: raw stays until one can."""
    metrics.BACKUPS.labels("failed").inc()
    say("ERROR", "backup_failed", error_text(error), quiet=("backup_failed", type(error).__name__))


def bitrot(*, path: str, verdict: str, outcome: str) -> None:
    """A file is not what was written; `outcome` is what became of it.

    held: so many at once that a disk may not be mounted, or memory may fail; nothing was changed. remade: the next
    passes make it again. restored: its twin in tables/ was whole. dropped: a copy less of what the
    tables hold. lost: a gap says so. left: the file is right and the manifest is not.
    """
    metrics.BITROT.labels(outcome).inc()
    what = {"missing": "is missing", "altered": "has other bytes than were written"}.get(
        verdict, "is what its name says, and not what the manifest says (stop the daemon, run: dl rebuild)"
    )
    after = {
        "remade": "it is made again", "restored": "its twin in tables/ took its place", "lost": "its rows are lost",
        "dropped": "what was made of it is in the tables", "left": "nothing was changed",
        "held": "nothing was changed, for too many are: is every disk mounted, is memory sound? then run: dl scrub",
    }[outcome]  # fmt: skip
    level = "ERROR" if outcome in ("lost", "left", "held") else "WARNING"
    say(level, "bitrot", f"{path} {what}; {after}", path=path, outcome=outcome)


def scrubbed(*, files: int, nbytes: int, found: int) -> None:
    """Everything that was due has been read again."""
    say("INFO", "scrubbed", f"{files:,} files read again, {size(nbytes)}, {found:,} not as they were written")


def scrub_behind(*, oldest_days: float, wanted_days: float) -> None:
    """Files wait longer than they should to be read again: the lake is too large for the rate, or the disk too slow."""
    text = (
        f"a file was last read {oldest_days:.1f} days ago, wanted every {wanted_days:g}: raise scrub.bytes_per_second"
    )
    say("WARNING", "scrub_behind", text)


def scrub_unreadable(*, path: str, error: BaseException) -> None:
    """The disk did not give a file's bytes: it stays where it is and is asked for again."""
    say("ERROR", "scrub_unreadable", f"{path}: {error_text(error)}", quiet=("scrub_unreadable",), path=path)


def retention_held_back() -> None:
    """The clock cannot be trusted, so nothing is old enough to go."""
    text = "nothing is deleted while the clock cannot be right"
    say("WARNING", "retention_held_back", text, quiet=("retention_held_back",))
