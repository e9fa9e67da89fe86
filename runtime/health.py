"""What the process says of its own health to whoever restarts it.

As `runtime.telemetry`, whose rules hold here: one function an event, each one log line and one count.
"""

from __future__ import annotations

from runtime.saying import say


def watchdog_held_back(*, reason: str) -> None:
    """Something stands still, so the service manager's watchdog is not fed: the process is ended if that goes on."""
    say("ERROR", "watchdog_held_back", f"the watchdog is not fed: {reason}", reason=reason)
