"""How long a connection is kept before a successor takes over: as the venue allows, or as configured. Pure."""

from __future__ import annotations

import zlib

from market.session import Connection, Limits
from market.times import DAY, MINUTE

LONGEST = 365 * DAY
"""Where neither the venue nor the configuration ends it."""
JITTER = 10 * MINUTE
JITTER_PART = 10
"""Short lives differ by no more than one in this many."""


def allowed(life: int, limits: Limits) -> int | None:
    """The life (us) of connections that are configured to have `life` (0: nothing is configured); None: without end."""
    known = [each for each in (life, limits.max_life) if each]
    return min(known, default=None)


def lifetime(connection: Connection, limits: Limits, session_id: str) -> int:
    """From a session's start to when it is to be replaced, us: staggered by the session's name, so that connections
    that were opened together are not renewed together, and less the age that its first life is to lack.
    """
    life = allowed(connection.life, limits) or LONGEST
    jitter = min(JITTER, life // JITTER_PART)
    return life - connection.age - zlib.crc32(session_id.encode()) % jitter
