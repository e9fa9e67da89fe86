"""Versions of feature sets: taken in, made the latest again, deleted. Each is one transaction of the lake's writer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, func, select

from features.columns import Plan, understand
from features.lineage import inputs, stored_kind
from features.requests import LIMITS, Done, Limits, Put, VersionExists
from features.rows import rows_of
from features.sources import open_source
from lake import durable, feature_care, feature_files, feature_table, layout, schema
from lake.asking import LONGEST
from lake.errors import WrongQuestion
from lake.feature_files import Content
from lake.feature_reads import find
from lake.feature_rows import LATEST, FeatureRow, check_name, id_of, latest, next_version, version_key
from lake.manifest import Manifest
from lake.writer import LakeWriter
from market.kinds import BARS
from market.times import Interval

Report = Callable[[int, int, str], None]
RUN = "features"
EVERY = "all"
"""In the place of a version: every live one."""


def silent(_done: int, _total: int, _what: str) -> None:
    """Tells nobody."""


def put(
    writer: LakeWriter, given: Any, asked: Put, now: int, report: Report = silent, *, limits: Limits = LIMITS
) -> Done:
    """Take in one version from a path or a frame (`features.sources`). The same values again change nothing.

    All of it is read and checked before anything is written. `now` us; `report(rows, 0, what)`. Raises VersionExists
    (other values under that version; the hint names the next one), WrongQuestion (what is wrong with it, by row and
    column), StorageFailed.
    """
    return _taken(writer.manifest, writer, given, asked, now, report, limits)


def rehearse(
    manifest: Manifest, given: Any, asked: Put, now: int, report: Report = silent, *, limits: Limits = LIMITS
) -> Done:
    """What `put` would do, from a manifest that is only read; `changed` is False."""
    return _taken(manifest, None, given, asked, now, report, limits)


def _taken(
    manifest: Manifest, writer: LakeWriter | None, given: Any, asked: Put, now: int, report: Report, limits: Limits
) -> Done:
    asked = _checked(manifest, asked, limits)
    source = open_source(given, limits)
    plan = understand(source, asked)
    content = Content(plan.values)
    for table in rows_of(source, plan, asked, limits, report):
        content.add(table)
    if content.ts_min is None or content.ts_max is None:
        raise WrongQuestion(f"{source.name} has no rows", "a set holds at least one")
    held = _of_set(manifest, asked, state=None)
    before = next((row for row in held if row.version == asked.version), None)
    digest = content.hexdigest()
    if before is not None:
        _same_values(before, digest, held)
        if before.state == "live":
            return _as_it_was(manifest, writer, before, held, rows_of(source, plan, asked, limits, report), now)
    row = _row(manifest, asked, plan, content, digest, now)
    hints = _hints(manifest, row, plan)
    newest = latest(held)
    if newest is None or version_key(row.version) > version_key(newest.version):
        row.latest_at = max([now, *(one.latest_at + 1 for one in held)])
    if writer is None:
        return Done(rows=[row], changed=False, latest=_latest([*held, row]), hints=hints)
    row = _published(writer, row, rows_of(source, plan, asked, limits, report), now)
    return Done(rows=[row], changed=True, latest=_latest([one for one in held if one.version != row.version] + [row]),
                hints=hints)  # fmt: skip


def _checked(manifest: Manifest, asked: Put, limits: Limits) -> Put:
    """The question with its names as they are kept. Raises WrongQuestion, Malformed."""
    named = msgspec.structs.replace(
        asked,
        feature_set=check_name(asked.feature_set),
        exchange=asked.exchange.lower(),
        market_type=asked.market_type.lower(),
    )
    version_key(named.version)
    if not named.symbol.strip():
        raise WrongQuestion("a feature set is of a symbol", "name one, as the venue spells it")
    layout.feature_path(named.exchange, named.market_type, named.symbol, named.feature_set, named.version, "0" * 64)
    if named.delay < 0 or named.lookback < 0:
        raise WrongQuestion("--delay and --lookback cannot be negative", "a row is known at its own time or later")
    if max(named.delay, named.lookback) > LONGEST:
        raise WrongQuestion("--delay and --lookback are at most 366 days", "say --known for rows known later than that")
    if len(named.note) > limits.note:
        raise WrongQuestion(f"the note has {len(named.note):,} characters, {limits.note:,} are the limit", "shorten it")
    for kind in named.computed_on:
        stored_kind(kind)
    return msgspec.structs.replace(named, symbol=_spelt(manifest, named))


def _spelt(manifest: Manifest, asked: Put) -> str:
    """The symbol as the lake spells it, where it does in another case."""
    f, t = schema.files, schema.featured
    market = (asked.exchange, asked.market_type)

    def read(conn: Connection) -> list[str]:
        made = []
        for table in (f, t):
            same = func.lower(table.c.symbol) == asked.symbol.lower()
            of = (table.c.exchange == market[0], table.c.market_type == market[1], same)
            made += list(conn.execute(select(table.c.symbol).where(*of).distinct()).scalars())
        return made

    found = set(manifest.run(read))
    return next(iter(found)) if len(found) == 1 else asked.symbol


def _of_set(manifest: Manifest, asked: Put, state: str | None) -> list[FeatureRow]:
    found = feature_table.features(
        manifest, exchange=asked.exchange, market_type=asked.market_type, symbol=asked.symbol,
        feature_set=asked.feature_set, state=state,
    )  # fmt: skip
    return [row for row in found if row.symbol == asked.symbol]


def _same_values(before: FeatureRow, digest: str, held: Sequence[FeatureRow]) -> None:
    if before.content_digest != digest:
        how = "was deleted, with other values" if before.state == "deleted" else "is there with other values"
        following = next_version(row.version for row in held)
        raise VersionExists(
            f"{before.feature_set} {before.version} of {before.symbol} {how}", f"take the next version: {following}"
        )


def _as_it_was(
    manifest: Manifest, writer: LakeWriter | None, before: FeatureRow, held: Sequence[FeatureRow], tables: Any, now: int
) -> Done:
    """The same values again: nothing, unless the file that held them is damaged or gone."""
    done = Done(rows=[before], changed=False, latest=_latest(held))
    wrong = feature_care.problem(manifest.root, before)
    done.hints.append(f"its file {wrong}: it is written again" if wrong else "it was there with these values")
    if wrong and writer is not None:
        durable.unlink(writer.root / before.path)
        done.rows, done.changed = [_published(writer, before, tables, now)], True
    return done


def _row(manifest: Manifest, asked: Put, plan: Plan, content: Content, digest: str, now: int) -> FeatureRow:
    assert content.ts_min is not None
    assert content.ts_max is not None
    names = (asked.exchange, asked.market_type, asked.symbol)
    as_of = now if asked.as_of is None else asked.as_of
    if as_of > now:
        raise WrongQuestion("--as-of is in the future", "say when the data was read")
    span = Interval(content.ts_min - asked.lookback, content.ts_max + 1)
    of = inputs(manifest, names, asked.computed_on, span, as_of)
    return FeatureRow(
        feature_id=id_of(*names, asked.feature_set, asked.version), exchange=names[0], market_type=names[1],
        symbol=names[2], feature_set=asked.feature_set, version=asked.version, path="", rows=content.rows, bytes=0,
        sha256="", content_digest=digest, ts_min=content.ts_min, ts_max=content.ts_max, columns=plan.values,
        known=plan.said, computed_on=asked.computed_on, as_of=as_of if of else None, inputs=of, note=asked.note,
        created_at=now,
    )  # fmt: skip


def _published(writer: LakeWriter, row: FeatureRow, tables: Any, now: int) -> FeatureRow:
    made = feature_files.publish(writer.root, row, tables, lake_id=writer.lake_id, run=RUN)
    if made.content_digest != row.content_digest:
        durable.unlink(writer.root / made.path)
        raise WrongQuestion("the file changed while it was read", "try again when nobody writes it")
    made.created_at, made.latest_at = row.created_at, row.latest_at
    writer.publish(features=[made], now=now)
    return made


def _hints(manifest: Manifest, row: FeatureRow, plan: Plan) -> list[str]:
    """What a person should know who puts this in."""
    hints = []
    streams = manifest.streams()
    if (row.exchange, row.market_type) not in {one[:2] for one in streams}:
        hints.append(f"the lake has no data of {row.exchange} {row.market_type} yet: there are no bars to join it to")
    on_bars = next((kind for kind in row.computed_on if stored_kind(kind) in BARS), None)
    if on_bars is not None and plan.known is None and not plan.delay:
        hints.append(
            f"each row counts as known at its own time; where that is the opening of the {on_bars} whose close it uses,"
            " it is known a bar later: say so with --delay"
        )
    if not row.computed_on:
        hints.append("nothing was said of the data it was computed on: --computed-on KIND keeps that")
    return hints


def _latest(rows: Sequence[FeatureRow]) -> str | None:
    found = latest(rows)
    return None if found is None else found.version


def rollback(
    writer: LakeWriter,
    feature_set: str,
    version: str | None = None,
    *,
    exchange: str | None = None,
    market_type: str | None = None,
    symbol: str | None = None,
    now: int,
) -> Done:
    """Let `latest` mean `version`, or where none is given the live one before it. Nothing else changes.

    Raises WrongQuestion: no such version, or none before it.
    """
    done = plan_rollback(writer.manifest, feature_set, version, exchange, market_type, symbol, now)
    if not done.hints:
        writer.publish(features=[msgspec.structs.replace(row, inputs={}) for row in done.rows], now=now)
        done.changed = True
    return done


def plan_rollback(
    manifest: Manifest,
    feature_set: str,
    version: str | None,
    exchange: str | None,
    market_type: str | None,
    symbol: str | None,
    now: int,
) -> Done:
    """What `rollback` would do; a hint where that is nothing."""
    current = find(manifest, feature_set, LATEST, exchange, market_type, symbol)
    held = _live_of(manifest, current)
    if version is None:
        older = [row for row in held if version_key(row.version) < version_key(current.version)]
        if not older:
            raise WrongQuestion(f"{current.feature_set} has no version before {current.version}", "put one in")
        wanted = max(older, key=lambda row: version_key(row.version))
    else:
        wanted = find(manifest, feature_set, version, current.exchange, current.market_type, current.symbol)
    if wanted.version == current.version:
        return Done(rows=[wanted], changed=False, latest=current.version, hints=["it is the latest already"])
    wanted.latest_at = max([now, *(row.latest_at + 1 for row in held)])
    return Done(rows=[wanted], changed=False, latest=wanted.version)


def delete(
    writer: LakeWriter,
    feature_set: str,
    version: str,
    *,
    exchange: str | None = None,
    market_type: str | None = None,
    symbol: str | None = None,
    now: int,
) -> Done:
    """Delete one version, or with `all` every live one: the file goes at once, the row stays and names its digest.

    A version that was deleted is never used for other values. Raises WrongQuestion, StorageFailed.
    """
    done = plan_delete(writer.manifest, feature_set, version, exchange, market_type, symbol, now)
    writer.publish(features=[msgspec.structs.replace(row, inputs={}) for row in done.rows], now=now)
    feature_files.clear(writer.root, done.rows)
    done.changed = True
    return done


def plan_delete(
    manifest: Manifest,
    feature_set: str,
    version: str,
    exchange: str | None,
    market_type: str | None,
    symbol: str | None,
    now: int,
) -> Done:
    """What `delete` would do."""
    first = find(manifest, feature_set, LATEST if version == EVERY else version, exchange, market_type, symbol)
    held = _live_of(manifest, first)
    going = held if version == EVERY else [first]
    left = [row for row in held if row.version not in {one.version for one in going}]
    gone = [msgspec.structs.replace(row, state="deleted", deleted_at=now, latest_at=0) for row in going]
    return Done(rows=gone, changed=False, latest=_latest(left))


def _live_of(manifest: Manifest, row: FeatureRow) -> list[FeatureRow]:
    """The live versions of its set."""
    held = feature_table.features(
        manifest, exchange=row.exchange, market_type=row.market_type, symbol=row.symbol, feature_set=row.feature_set
    )
    return [one for one in held if one.owner == row.owner]
