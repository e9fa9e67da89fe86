"""`dl` starts within 0.3 s: what takes long to import waits for the command that needs it."""

import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from cli.app import app
from cli.verbs import COMMANDS

HEAVY = [
    "aiohttp", "asyncio", "collectors", "daemon.config", "duckdb", "loguru", "numpy", "polars", "prometheus_client",
    "pyarrow", "rich.progress", "sqlalchemy",
]  # fmt: skip


def imported(*words):
    """The modules that are loaded once `dl` with these words has ended."""
    code = f"""
import atexit, sys
sys.argv = ["dl", *{words}]
atexit.register(lambda: print("\\n#", *sys.modules))
from cli.app import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    return set(done.stdout.rpartition("#")[2].split()), done


@pytest.mark.parametrize("words", [("--help",), ("read", "--help"), ("gaps", "--lake", "no/such/lake"), ("naps",)])
def test_a_start_imports_nothing_heavy(words):
    loaded, done = imported(*words)
    assert done.returncode == {"gaps": 66, "naps": 2}.get(words[0], 0), done.stderr
    assert "cli.app" in loaded
    assert sorted(loaded & set(HEAVY)) == []
    commands = {name for name in loaded if name.startswith("cli.commands.")}
    assert commands == ({f"cli.commands.{words[0]}"} if words[0] in COMMANDS else set())


def test_a_wrong_word_is_told_with_the_one_that_was_meant():
    told = CliRunner().invoke(app, ["stats"])
    assert told.exit_code == 2
    assert "'status'" in told.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGPIPE")
def test_help_ends_quietly_where_its_reader_leaves():
    with subprocess.Popen(
        [sys.executable, "-m", "cli", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as dl:
        dl.stdout.close()
        said = dl.stderr.read()
    assert (dl.returncode, said) == (-signal.SIGPIPE, b"")
