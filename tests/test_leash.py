"""What tests start does not outlive them."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys

import pytest

from tests.support.commands import ROOT
from tests.support.leash import watched
from tests.support.live import PATIENCE

STARTS = """
import subprocess, sys, threading
from tests.support.leash import watched

def start():
    watched(subprocess.Popen([sys.executable, "-c", CHILD]))

CHILD = '''
import os, signal, subprocess, sys
below = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
print(os.getpid(), below.pid, flush=True)
signal.pause()
'''
thread = threading.Thread(target=start)
thread.start()
thread.join()
print("watched", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel for the end of processes that are not ours")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_whoever_is_started_ends_with_who_started_it_and_so_do_those_below(how: signal.Signals) -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", STARTS], cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as parent:
        assert parent.stdout is not None
        said = parent.stdout.readline() + parent.stdout.readline()  # in either order
        started = [os.pidfd_open(int(pid)) for pid in said.replace("watched", "").split()]
        try:
            assert [select.select([fd], [], [], 0)[0] for fd in started] == [[], []], "its thread has ended, it has not"
            parent.send_signal(how)
            parent.wait(PATIENCE)
            for fd in started:
                assert select.select([fd], [], [], PATIENCE)[0]
        finally:
            for fd in started:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
                os.close(fd)
            parent.kill()
    assert len(started) == 2


def test_who_ends_by_itself_is_forgotten() -> None:
    for _ in range(3):
        assert watched(subprocess.Popen([sys.executable, "-IS", "-c", ""])).wait(PATIENCE) == 0
