"""Bans: the hosts that asked for silence, for how long, and whoever shares their request weight. Kept over restarts.

Inside a process silence is counted in monotonic seconds, so that a step of the wall clock neither shortens nor
lengthens it. What is written down is the wall time of its end; a start turns that back into seconds, never more than
the longest ban there is: a clock that was wrong once must not silence a host for years.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from lake.rows import BanRow
from market.times import SECOND
from runtime import telemetry
from runtime.clock import Clock

LIMITED = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.IM_A_TEAPOT)
"""Statuses that ask for silence: too many requests, and a ban for going on after that."""
WAIT_SECONDS = 60.0
BAN_SECONDS = 120.0
"""Where the answer does not say: a minute; a ban is never shorter than two."""
LONGEST_SECONDS = 3 * 86_400.0
CAUTION = 1.1
"""A ban is waited out with a tenth on top: who asks into it makes it longer."""
_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")


def wait_seconds(status: int, headers: Mapping[str, str], now: int) -> float:
    """How long a 429 or 418 asks for silence. `Retry-After` is seconds or a date, which is compared with the answer's
    own `Date`, else with `now` (us). Header names are in lower case.
    """
    said = _said(headers.get("retry-after", ""), headers.get("date", ""), now)
    banned = status == HTTPStatus.IM_A_TEAPOT
    if said is None:
        said = BAN_SECONDS if banned else WAIT_SECONDS
    return min(max(said, 1.0), LONGEST_SECONDS) * (CAUTION if banned else 1.0)


def _said(text: str, date: str, now: int) -> float | None:
    if _SECONDS.fullmatch(text.strip()):
        return float(text)
    until = _time(text)
    if until is None:
        return None
    return until - (_time(date) or now / SECOND)


def _time(text: str) -> float | None:
    """An HTTP date as unix seconds, None where it is none."""
    try:
        found: datetime = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


class Bans:
    """Silence by host and by weight pool. `known` is what earlier runs wrote down, `on_ban` is told what to write."""

    def __init__(
        self, clock: Clock, known: Iterable[BanRow] = (), on_ban: Callable[[BanRow], None] | None = None
    ) -> None:
        self._clock = clock
        self._on_ban = on_ban
        self._hosts: dict[str, float] = {}
        self._pools: dict[str, float] = {}
        for row in known:
            left = min((row.until - clock.now()) / SECOND, LONGEST_SECONDS * CAUTION)
            if left > 0:
                self._hold(row.host, row.pool, left)
                telemetry.ban_remembered(exchange=row.exchange, host=row.host, status=row.status, wait_seconds=left)

    def left(self, host: str, pool: str) -> float:
        """Seconds of silence left for a request to `host`, whose weight `pool` pays for. 0 or less: it may be asked."""
        return max(self._until(self._hosts, host), self.left_of(pool))

    def left_of(self, pool: str) -> float:
        """The same for whatever `pool` pays for. A venue without weights has the pool "", which is never silent."""
        return self._until(self._pools, pool)

    def impose(
        self,
        exchange: str,
        market_type: str,
        host: str,
        pool: str,
        status: int,
        headers: Mapping[str, str],
        least: float = 0.0,
    ) -> None:
        """`host` asked for silence, by 429 or 418 or a status of its own, of `least` seconds. Requests that were under
        way together are one ban.
        """
        now = self._clock.now()
        seconds = max(wait_seconds(status, headers, now), least)
        if seconds <= self.left(host, pool) + 1.0:
            return
        self._hold(host, pool, seconds)
        telemetry.rate_limited(exchange=exchange, market_type=market_type, status=status, wait_seconds=seconds)
        if self._on_ban is not None:
            until = now + round(seconds * SECOND)
            self._on_ban(BanRow(exchange=exchange, host=host, until=until, status=status, at=now, pool=pool))

    def silence(self, pool: str, until: int) -> None:
        """Nothing is asked for on account of `pool` before `until` (us, by the wall clock as it is now)."""
        self._hold("", pool, min((until - self._clock.now()) / SECOND, LONGEST_SECONDS * CAUTION))

    def _hold(self, host: str, pool: str, seconds: float) -> None:
        until = self._clock.monotonic() + seconds
        for held, name in ((self._hosts, host), (self._pools, pool)):
            if name:
                held[name] = max(held.get(name, until), until)

    def _until(self, held: Mapping[str, float], name: str) -> float:
        until = held.get(name)
        return 0.0 if until is None else until - self._clock.monotonic()
