"""`dl latency`: how long what came in was on its way, and how far the clocks are from each other."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import OUT, print_json, print_table, when
from cli.places import (
    ConfigOption,
    EndOption,
    ExchangeOption,
    JsonOption,
    KindOption,
    LakeOption,
    MarketTypeOption,
    StartOption,
    command,
    lake_root,
    span_of,
)
from market import times
from market.times import DAY, Interval

if TYPE_CHECKING:
    from lake.latency_report import Kernel, Report, Shape

SHORT = {
    "event_to_publish": "event-publish", "publish_to_receive": "publish-receive", "event_to_receive": "event-receive",
}  # fmt: skip


class By(enum.Enum):
    """What a line of the answer is of."""

    MARKET = "market"
    KIND = "kind"
    SESSION = "session"
    HOUR = "hour"
    MINUTE = "minute"


@command
def latency(
    lake: LakeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    exchange: ExchangeOption = None,
    market_type: MarketTypeOption = None,
    kind: KindOption = None,
    session: Annotated[str | None, typer.Option(help="Only this session.")] = None,
    start: StartOption = None,
    end: EndOption = None,
    by: Annotated[
        list[By] | None,
        typer.Option(help="A line for each market, kind (the default), session, hour, minute; may be given again."),
    ] = None,
) -> int:
    """Show clocks and latencies: what the kernel says of our clock, how far each venue's is, and percentiles in ms.

    event-publish is inside the venue, publish-receive the way to us. Without --start and --end the newest day that is
    recorded. Exit code 1 where a venue's clock is more than a second away, or half of what it sends comes a second
    after (or before) its time.
    """
    from lake import latency_report
    from lake.clock_files import newest_date
    from market.kinds import kind as declared

    if kind is not None:
        declared(kind)
    root = lake_root(lake, config)
    span = span_of(start, end) or _day(newest_date(root))
    parts = tuple(part.value for part in by or [By.KIND])
    wanted = latency_report.Wanted(exchange=exchange, market_type=market_type, kind=kind, session=session, by=parts)
    found = latency_report.report(root, span, wanted)
    if as_json:
        print_json(found)
    else:
        _print(found, parts)
    return 1 if any(venue.far for venue in found.venues) else 0


def _day(date: str | None) -> Interval | None:
    return None if date is None else Interval(times.parse(date), times.parse(date) + DAY)


def _print(found: Report, parts: tuple[str, ...]) -> None:
    OUT.print(_clock(found.kernel))
    venues = [
        [v.exchange, v.market_type, v.looks, _ms(v.offset_us), _ms(v.error_us), _ms(v.skew_us), "FAR" if v.far else ""]
        for v in found.venues
    ]
    columns = ["exchange", "market", "answers", "ours less theirs", "+-", "median receive - event", ""]
    print_table("venues' clocks, ms", columns, venues, "no venue's clock is recorded")
    places = [("kind", "market" not in parts), ("session", "session" in parts)]
    places.append(("at", "hour" in parts or "minute" in parts))
    named = ["exchange", "market", *(name for name, shown in places if shown)]
    rows: list[list[object]] = []
    for row in found.rows:
        held = {"kind": row.kind, "session": row.session, "at": when(row.at)}
        for measure, name in SHORT.items():
            shape: Shape | None = getattr(row, measure)
            if shape is not None:
                numbers = [_ms(value) for value in (shape.min, shape.p50, shape.p90, shape.p99, shape.max)]
                place = [held[part] for part, shown in places if shown]
                rows.append([row.exchange, row.market_type, *place, name, shape.count, *numbers])
    print_table(
        "latencies, ms", [*named, "what", "events", "min", "p50", "p90", "p99", "max"], rows,
        "no latency is recorded of that time",
    )  # fmt: skip
    if found.unreadable:
        OUT.print(f"{found.unreadable:,} lines of clocks/ cannot be read and are left out")


def _clock(kernel: Kernel) -> str:
    """Our own clock in a line."""
    if not kernel.looks:
        return "our clock: nothing is recorded of that time (the daemon looks once a minute)"
    said = [(kernel.synchronised, "synchronised"), (kernel.unsynchronised, "NOT synchronised")]
    parts = [f"{count:,} {word}" for count, word in said if count] + [f"unknown: {why}" for why in kernel.unknown]
    if kernel.max_error_us is not None:
        parts.append(f"error at most {kernel.max_error_us / times.MS:.3f} ms")
    if kernel.estimated_error_us is not None:
        parts.append(f"estimated {kernel.estimated_error_us / times.MS:.3f} ms")
    if kernel.drift_us is not None:
        parts.append(f"wall less monotonic at most {kernel.drift_us / times.MS:+.3f} ms")
    return f"our clock: {kernel.looks:,} looks: {', '.join([*parts, f'{kernel.steps:,} steps'])}"


def _ms(us: int | None) -> float | None:
    return None if us is None else us / times.MS
