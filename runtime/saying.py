"""How an event is said: one line of text, one count, repetition kept quiet (runtime.telemetry uses it)."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from loguru import logger

from runtime import hearing, metrics
from runtime.clock import SystemClock
from runtime.redaction import redacted

hearing.begin(logger)
REPEAT_SECONDS = 10.0
MAX_LINE = 2000
_clock = SystemClock()
_lock = threading.Lock()
_periods: dict[tuple[str, ...], tuple[float, int, int]] = {}
"""By what repeats: when its period began, how often it was said in it, how often not."""
_hushed: ContextVar[bool] = ContextVar("hushed", default=False)


@contextmanager
def hushed() -> Iterator[None]:
    """What is said inside, in this thread, is neither said nor counted: what is lived through again is no news."""
    token = _hushed.set(True)
    try:
        yield
    finally:
        _hushed.reset(token)


def say(
    level: str,
    event: str,
    message: str,
    *,
    quiet: tuple[str, ...] | None = None,
    burst: int = 1,
    error: BaseException | None = None,
    **facts: object,
) -> None:
    """One line and one count. `quiet` names what repeats: it is said `burst` times in REPEAT_SECONDS, then counted."""
    if _hushed.get():
        return
    metrics.EVENTS.labels(event, level).inc()
    if quiet is not None:
        repeats = _repeats(quiet, burst)
        if repeats is None:
            return
        if repeats:
            message = f"{message} (and {repeats:,} more like it before)"
    # Only an error of our own making deserves its traceback, and only in the file: see runtime.logs.
    bound = (
        logger.bind(event=event, **facts).opt(exception=error, depth=2) if error else logger.bind(event=event, **facts)
    )
    bound.log(level, "{}", _line(message))


def _repeats(key: tuple[str, ...], burst: int) -> int | None:
    """None while `key` is to be quiet; else how often it was kept quiet in the period before."""
    now = _clock.monotonic()
    with _lock:
        since, said, kept = _periods.get(key, (now, 0, 0))
        if now - since >= REPEAT_SECONDS:
            _periods[key] = (now, 1, 0)
            return kept
        if said >= burst:
            _periods[key] = (since, said, kept + 1)
            return None
        _periods[key] = (since, said + 1, kept)
        return 0


def _line(message: str) -> str:
    """`message` on one line without control characters and secrets: part of it may be a venue's own words."""
    return redacted("".join(c if c.isprintable() else " " for c in message)[:MAX_LINE])


def error_text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def tail(detail: str) -> str:
    return f" ({detail})" if detail else ""


def some(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


def size(nbytes: int) -> str:
    size = float(nbytes)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
