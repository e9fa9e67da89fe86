"""Changes of the feature store as jobs: what a command or the control port of a daemon is asked, in plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from features.requests import Done, Put
from features.store import delete, put, rollback
from lake.errors import WrongQuestion
from lake.writer import LakeWriter

Report = Callable[[int, int, str], None]


class PutFile(msgspec.Struct, tag="put", tag_field="action", forbid_unknown_fields=True):
    """Take in the file at `path`, which the process that writes the lake can read."""

    path: str
    asked: Put


class Rollback(msgspec.Struct, tag="rollback", tag_field="action", forbid_unknown_fields=True):
    """Let `latest` mean this version, or with None the one before."""

    feature_set: str
    version: str | None = None
    exchange: str | None = None
    market_type: str | None = None
    symbol: str | None = None


class Delete(msgspec.Struct, tag="delete", tag_field="action", forbid_unknown_fields=True):
    """Delete this version, or `all`."""

    feature_set: str
    version: str
    exchange: str | None = None
    market_type: str | None = None
    symbol: str | None = None


Job = PutFile | Rollback | Delete


def job_of(arguments: Mapping[str, Any]) -> Job:
    """Raises WrongQuestion for what is no job."""
    try:
        made: Job = msgspec.convert(arguments, Job)
    except msgspec.ValidationError as error:
        raise WrongQuestion(f"this is no change of feature sets: {error}", "dl features makes them") from error
    return made


def run(writer: LakeWriter, job: Job, now: int, report: Report) -> Done:
    """Carry it out; raises what `features.store` raises."""
    if isinstance(job, PutFile):
        return put(writer, job.path, job.asked, now, report)
    if isinstance(job, Rollback):
        return rollback(
            writer, job.feature_set, job.version, exchange=job.exchange, market_type=job.market_type,
            symbol=job.symbol, now=now,
        )  # fmt: skip
    return delete(
        writer, job.feature_set, job.version, exchange=job.exchange, market_type=job.market_type, symbol=job.symbol,
        now=now,
    )  # fmt: skip
