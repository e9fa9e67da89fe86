"""Settings of the compactor, as they stand under `compactor:` in config.yml."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from compactor.jobs import Rules
from compactor.retention import Keep
from market.times import DAY, HOUR, MS, SECOND


class BackupConfig(BaseModel):
    """Copies of the manifest, made while it is in use, in backups/ of the lake."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    interval_seconds: float = Field(3600, ge=60, description="How often the manifest is copied.")
    hourly: int = Field(24, ge=1, le=1000, description="Of so many hours the newest copy is kept.")
    daily: int = Field(7, ge=0, le=1000, description="Of so many days the newest copy is kept.")


class ScrubConfig(BaseModel):
    """Reading again what was stored, so that what a disk has lost is found while it can be made again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    interval_days: float = Field(7, gt=0, description="Every stored file is read and hashed again at least so often.")
    bytes_per_second: int = Field(
        8 * 1024 * 1024, ge=64 * 1024, description="At most so fast, to leave the disk to what is collected."
    )


class ReproduceConfig(BaseModel):
    """Making closed days again from their frames at night, and comparing their content digests: proof that what is
    certified is what was received.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    days: int = Field(1, ge=0, le=31, description="Closed days that are made again a night, the newest; 0: none.")
    from_hour: int = Field(2, ge=0, le=23, description="The hour (UTC) at which that begins.")
    max_hours: float = Field(4, gt=0, le=24, description="A market's day that takes longer is given up for the night.")
    max_mb: int = Field(
        400, ge=100, le=64_000, description="Memory of the process that does it; a day that needs more is given up."
    )
    folder: Path | None = Field(
        None,
        description="Where the rows are made, and removed again; on a disk with room for one day of a market. Default:"
        " the system's temporary folder.",
    )


class AuditConfig(BaseModel):
    """Holding closed days against what the lake has of the venue's own word, every night (`dl reconcile`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    days: int = Field(2, ge=0, le=31, description="So many closed days, the newest, are looked at a night; 0: none.")
    from_hour: int = Field(3, ge=0, le=23, description="The hour (UTC) at which that begins.")
    fetch: bool = Field(
        True,
        description="Ask the venues for the candles that these days lack: after everything else, a job of each market"
        " (`auto_candles-…`), one to five requests a symbol and day.",
    )


class CompactorConfig(BaseModel):
    """When hours and days are closed, and how long what they replaced is kept."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    interval_seconds: float = Field(30, gt=0, description="How often the daemon looks for something to compact.")
    hour_delay_seconds: float = Field(
        60, ge=0, description="How long after its end an hour's parts are merged into one file."
    )
    close_delay_seconds: float = Field(
        900, ge=0, description="How long after 24:00 UTC a day is closed; later rows make a revision."
    )
    revision_seconds: float = Field(
        3600, ge=0, description="At least so long between two revisions of one closed day or merged hour."
    )
    book_sample_ms: int | None = Field(
        None,
        ge=100,
        le=3_600_000,
        description="Sample the books of closed days (`book_sample`) at every multiple of so many ms; null: not.",
    )
    book_sample_depth: int = Field(20, ge=1, le=1000, description="Levels a side in a sample of a book.")
    max_inputs: int = Field(64, ge=2, le=512, description="Files merged at once; bounds open files and memory.")
    grace_seconds: float = Field(
        900, ge=0, description="How long replaced files stay on disk for readers that still use them."
    )
    versions_days: float = Field(
        0, ge=0, description="How long replaced daily files are kept for `version` and `as_of`, beyond `grace_seconds`."
    )
    forget_days: float = Field(7, ge=1, description="How long the manifest remembers files that are gone.")
    rehash_hours: float = Field(
        24, ge=0, description="How long after a day was closed its files are read again before raw may go."
    )
    raw_days: float = Field(2, ge=0, description="How long raw segments of closed and re-hashed days are kept.")
    frames_days: float = Field(30, ge=0, description="How long frames files are kept.")
    clocks_days: float = Field(
        365, ge=2, description="How long the record of clocks and latencies (`dl latency`) is kept."
    )
    reproduce: ReproduceConfig = Field(
        default_factory=lambda: ReproduceConfig.model_validate({}),
        description="Closed days made again from their frames.",
    )
    audit: AuditConfig = Field(
        default_factory=lambda: AuditConfig.model_validate({}),
        description="Closed days held against the venue's own word.",
    )

    def rules(self) -> Rules:
        """The plan's view of these settings, in us."""
        return Rules(
            hour_delay=round(self.hour_delay_seconds * SECOND),
            close_delay=round(self.close_delay_seconds * SECOND),
            revision=round(self.revision_seconds * SECOND),
            max_inputs=self.max_inputs,
            sample_every=None if self.book_sample_ms is None else self.book_sample_ms * MS,
            sample_depth=self.book_sample_depth,
        )

    def keep(self) -> Keep:
        """Retention's view of these settings, in us."""
        return Keep(
            grace=round(self.grace_seconds * SECOND),
            forget=round(self.forget_days * DAY),
            rehash=round(self.rehash_hours * HOUR),
            raw=round(self.raw_days * DAY),
            frames=round(self.frames_days * DAY),
            versions=round(self.versions_days * DAY),
        )
