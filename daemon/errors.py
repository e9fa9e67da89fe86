"""Errors of the daemon; each ends the process with a documented exit code.

DaemonError(message)
 +-- ConfigError     the configuration is wrong: every error found, one a line, each with its place (exit 78)
 +-- NoConfig        there is no configuration file (exit 66)
 +-- StartFailed     something the start needs could not be had: a port, the simulator (exit 70)
 |    +-- Taken       the address that replays were to be served at (exit 1)
 +-- NotServed       an address or a token that replays are not served at (exit 2)
"""

from collections.abc import Sequence

from runtime.service import EXIT_CONFIG, EXIT_INTERNAL, EXIT_NO_INPUT


class DaemonError(Exception):
    """Root of this package's errors."""

    exit_code = EXIT_INTERNAL


class ConfigError(DaemonError):
    """`problems` are lines of `file:line:column path message`."""

    exit_code = EXIT_CONFIG

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class NoConfig(DaemonError):
    exit_code = EXIT_NO_INPUT


class StartFailed(DaemonError):
    pass


class Taken(StartFailed):
    exit_code = 1


class NotServed(DaemonError):
    exit_code = 2


def code_of(error: BaseException) -> int:
    """The documented exit code for `error`: its own where it has one that says more than "failed"."""
    code = getattr(error, "exit_code", EXIT_INTERNAL)
    return code if isinstance(code, int) and code > 1 else EXIT_INTERNAL
