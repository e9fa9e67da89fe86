"""What the process says of streams that fell silent: what asking about them found, and that they speak again.

As `runtime.telemetry`, whose rules hold here: one function an event, each one log line and one count.
"""

from __future__ import annotations

from runtime import metrics
from runtime.saying import say


def stream_missed(
    *, exchange: str, market_type: str, kind: str, symbol: str, seconds: float, proof: str, remedy: str
) -> None:
    """The venue has newer events of a stream that sends none; the gap row comes with it."""
    text = f"{exchange} {market_type} {kind} {symbol}: nothing for {seconds:.0f} s, but {proof}; {remedy}"
    quiet = ("stream_missed", exchange, market_type, kind)
    say("WARNING", "stream_missed", text, quiet=quiet, exchange=exchange, market_type=market_type, symbol=symbol)


def stream_unproven(*, exchange: str, market_type: str, kind: str, symbol: str, seconds: float, reason: str) -> None:
    """A stream is silent, and nothing tells whether it has missed anything."""
    text = f"{exchange} {market_type} {kind} {symbol}: nothing for {seconds:.0f} s, no word from elsewhere: {reason}"
    quiet = ("stream_unproven", exchange, market_type, kind)
    say("WARNING", "stream_unproven", text, quiet=quiet, exchange=exchange, market_type=market_type, symbol=symbol)


def stream_quiet(*, exchange: str, market_type: str, kind: str, symbol: str, seconds: float, proof: str) -> None:
    """A stream is quieter than it was, and nothing newer exists: nothing is missing."""
    text = f"{exchange} {market_type} {kind} {symbol}: nothing for {seconds:.0f} s, and nothing to be had: {proof}"
    say("DEBUG", "stream_quiet", text, exchange=exchange, market_type=market_type, symbol=symbol)


def stream_speaks(*, exchange: str, market_type: str, kind: str, symbol: str, seconds: float) -> None:
    """A stream that was reported sends again, or is known to have nothing to say."""
    text = f"{exchange} {market_type} {kind} {symbol}: no longer reported, its last event {seconds:.0f} s ago"
    quiet = ("stream_speaks", exchange, market_type, kind)
    say("INFO", "stream_speaks", text, quiet=quiet, exchange=exchange, market_type=market_type, symbol=symbol)


def counted(exchange: str, market_type: str, kind: str, verdict: str) -> None:
    """Count what asking about a stream found: `quiet`, `missed`, `unknown`."""
    metrics.PROBES.labels(exchange, market_type, kind, verdict).inc()


def alarmed(exchange: str, market_type: str, kind: str, streams: int) -> None:
    """So many more streams of a kind are reported; less where negative."""
    metrics.SILENT.labels(exchange, market_type, kind).inc(streams)
