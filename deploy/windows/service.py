"""The daemon as a Windows service: `python service.py --startup auto install`, then `python service.py start`.

Needs pywin32. The service starts the daemon as a process of its own and ends it as Ctrl-Break does, so that everything
received is written; a daemon that ends by itself with a code that a restart may cure is started again by Windows.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import servicemanager
import win32event
import win32service
import win32serviceutil

ROOT = Path(__file__).resolve().parents[2]
CONFIG = Path(os.environ.get("PROGRAMDATA", r"C:\ProgramData")) / "datalake" / "config.yml"
STOP_SECONDS = 15
LOOK_MS = 1000


class DatalakeService(win32serviceutil.ServiceFramework):
    """One daemon, from the start of the service to its end."""

    _svc_name_ = "datalake"
    _svc_display_name_ = "Market data lake"
    _svc_description_ = "Collects, transforms and certifies exchange data."

    def __init__(self, arguments: list[str]) -> None:
        super().__init__(arguments)
        self._stop = win32event.CreateEvent(None, 0, 0, None)

    def SvcStop(self) -> None:  # noqa: N802 -- the framework calls it so
        """Windows asks for the end."""
        self.ReportServiceStatus(win32service.SERVICE_STOP_PENDING, waitHint=(STOP_SECONDS + 5) * 1000)
        win32event.SetEvent(self._stop)

    def SvcDoRun(self) -> None:  # noqa: N802 -- the framework calls it so
        """Run the daemon until it ends or is asked to."""
        daemon = subprocess.Popen(
            [sys.executable, "-m", "daemon", "--config", str(CONFIG)],
            cwd=ROOT, stdin=subprocess.DEVNULL, creationflags=subprocess.CREATE_NEW_PROCESS_GROUP,
        )  # fmt: skip
        while daemon.poll() is None:
            if win32event.WaitForSingleObject(self._stop, LOOK_MS) == win32event.WAIT_OBJECT_0:
                daemon.send_signal(signal.CTRL_BREAK_EVENT)
                try:
                    daemon.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    daemon.kill()
                return
        servicemanager.LogErrorMsg(f"the daemon ended by itself with exit code {daemon.returncode}")
        os._exit(daemon.returncode or 1)  # not stopped in order: Windows applies the recovery actions


if __name__ == "__main__":
    win32serviceutil.HandleCommandLine(DatalakeService)
