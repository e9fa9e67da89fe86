"""What the process says of the repair of gaps, beside `telemetry.gap_closed`.

As `runtime.telemetry`, whose rules hold here: one function an event, each one log line and one count.
"""

from __future__ import annotations

from runtime import metrics
from runtime.saying import say


def repair_failed(*, exchange: str, market_type: str, kind: str, symbol: str, reason: str) -> None:
    """A gap was asked for and is as it was; it is asked for again later, each time more patiently."""
    metrics.REPAIRS_FAILED.labels(exchange, market_type, kind).inc()
    text = f"{exchange} {market_type} {kind} {symbol}: what is missing did not come: {reason}"
    quiet = ("repair_failed", exchange, market_type, kind)
    say("WARNING", "repair_failed", text, quiet=quiet, exchange=exchange, market_type=market_type, symbol=symbol)


def repaired(*, closed: int, rows: int, requests: int, still_open: int) -> None:
    """A look at the open gaps closed some, or asked for some."""
    text = f"{closed:,} gaps closed, {rows:,} rows in {requests:,} requests; {still_open:,} are open"
    say("INFO", "repaired", text, closed=closed, rows=rows, requests=requests)
