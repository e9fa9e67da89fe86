"""Logs: lines for a person on the console, JSON in a file that turns over at 00:00 UTC and is kept 14 days.

Times are those of the process's Clock, so that a simulated day reads as the day it simulates. Tracebacks go to the
file only, without the values of variables; what is left in them, or in any fact, of a secret is taken out (see
`runtime.redaction`).
"""

from __future__ import annotations

import datetime as dt
import logging
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import msgspec
from loguru import logger

from market import times
from runtime.clock import Clock, SystemClock
from runtime.redaction import redacted
from runtime.saying import MAX_LINE

if TYPE_CHECKING:
    from loguru import Record

FILE_NAME = "daemon.jsonl"
KEPT_DAYS = 14
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_MARK = {"DEBUG": " ", "INFO": " ", "WARNING": "!", "ERROR": "!!", "CRITICAL": "!!"}


def setup(
    *, clock: Clock | None = None, level: str = "INFO", console: TextIO | None = None, folder: Path | None = None
) -> None:
    """Send what `runtime.telemetry` says, and warnings of the libraries, to the console and to `folder`/daemon.jsonl.

    Called once at the start of a process; a second call replaces the first. A console of None is stderr.
    """
    used = clock if clock is not None else SystemClock()

    def stamp(record: Record) -> None:
        record["extra"]["at"] = times.text(used.now() // times.MS * times.MS)

    _let_go()
    logger.configure(patcher=stamp)
    shown = console if console is not None else sys.stderr
    logger.add(shown, level=level, format=_human, colorize=None, backtrace=False, diagnose=False)
    if folder is not None:
        logger.add(
            folder / FILE_NAME,
            level="DEBUG",
            format=_json,
            rotation=dt.time(0, 0, tzinfo=dt.UTC),
            retention=dt.timedelta(days=KEPT_DAYS),
            compression="gz",
            encoding="utf-8",
            enqueue=False,
            backtrace=False,
            diagnose=False,
        )
    logging.basicConfig(handlers=[_FromLogging()], level=logging.WARNING, force=True)


def close() -> None:
    """Flush and let go of every sink; what is said later is not written. What cannot be written now is lost."""
    logger.complete()
    _let_go()


def _let_go() -> None:
    """Every sink, whether or not it can write what it still holds: a full disk under the log ends no process."""
    for _ in ("console", "file", "the rest"):
        try:
            logger.remove()
        except OSError:
            continue
        return


def _human(record: Record) -> str:
    """`2026-11-19 23:59:15.204  segment_sealed   binance spot trade: 512 rows, 98.1 kB`."""
    extra = record["extra"]
    second, _, fraction = extra["at"].removesuffix("Z").partition(".")
    at = f"{second.replace('T', ' ')}.{fraction:0<3}"
    extra["console_at"] = at
    extra["console_mark"] = _MARK.get(record["level"].name, " ")
    extra["console_event"] = str(extra.get("event", record["name"]))
    return (
        "<dim>{extra[console_at]}</dim> <level>{extra[console_mark]:<2} {extra[console_event]:<17}</level> {message}\n"
    )


def _json(record: Record) -> str:
    """One JSON object a line: at, level, event, message, the facts, and the traceback where there is one."""
    hidden = ("at", "console_at", "console_mark", "console_event", "json")
    extra = record["extra"]
    said = {"at": extra["at"], "level": record["level"].name, "event": extra.get("event", record["name"])}
    said["message"] = record["message"]
    said |= {key: value for key, value in extra.items() if key not in hidden and key not in said}
    if record["exception"] is not None:
        kind, value, trace = record["exception"]
        said["traceback"] = "".join(traceback.format_exception(kind, value, trace))
    plain = {key: redacted(value) if isinstance(value, str) else value for key, value in said.items()}
    extra["json"] = msgspec.json.encode(plain, enc_hook=lambda value: redacted(str(value))).decode()
    return "{extra[json]}\n"


class _FromLogging(logging.Handler):
    """What libraries say through the standard library's logging, passed on to loguru under the library's name."""

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname if record.levelname in LEVELS else "WARNING"
        text = redacted("".join(c if c.isprintable() else " " for c in record.getMessage())[:MAX_LINE])
        logger.bind(event=record.name.partition(".")[0]).opt(exception=record.exc_info).log(level, "{}", text)
