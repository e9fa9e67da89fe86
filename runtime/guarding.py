"""What the process says of requests to its own ports that it did not take.

As `runtime.telemetry`, whose rules hold here: one function an event, each one log line and one count.
"""

from __future__ import annotations

from runtime.saying import error_text, say


def request_refused(*, path: str, why: str) -> None:
    """Somebody without the right to it asked one of this process's ports: a web page, or a guess at the token."""
    say("WARNING", "request_refused", f"a request to {path[:200]} was refused: {why}", quiet=("request_refused", why))


def request_failed(*, path: str, error: BaseException) -> None:
    """A request to one of this process's ports met a defect of ours; its traceback is in the log file."""
    text = f"the answer to {path[:200]} failed ({error_text(error)})"
    say("ERROR", "request_failed", text, quiet=("request_failed", path), error=error)


def serving(*, address: str, pid: int) -> None:
    """The REST API, a process of the daemon's, listens."""
    say("INFO", "serving", f"REST API at {address}, process {pid}", address=address, pid=pid)
