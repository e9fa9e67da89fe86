"""What a service manager is told: ready, stopping, the watchdog's beat. Protocol: sd_notify(3), a datagram of text."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

MICRO = 1_000_000


class Notifier:
    """Speaks to the socket that `environment` names; without one (no systemd, or Windows) it says nothing."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._socket: socket.socket | None = None
        mine = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        limit = environment.get("WATCHDOG_USEC", "")
        self.watchdog_seconds = int(limit) / MICRO if mine and limit.isascii() and limit.isdigit() else None
        """A beat is due at least this often; None where nobody waits for one."""

    def say(self, *states: str) -> bool:
        """Send assignments such as `READY=1`; whether they went out. Never raises: the service goes on without."""
        if not self._address or not hasattr(socket, "AF_UNIX"):
            return False
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                abstract = self._address.startswith("@")
                self._socket.connect("\0" + self._address[1:] if abstract else self._address)
            self._socket.send("\n".join(states).encode())
        except OSError:
            self.close()
            return False
        return True

    def close(self) -> None:
        """Forget the socket; the next `say` opens it again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
