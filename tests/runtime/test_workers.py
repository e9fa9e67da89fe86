"""Worker processes: results, errors, a dead worker, recycling, and the inline executor."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runtime.workers import InlineExecutor, WorkerDied, Workers


def double(x):
    return 2 * x


def fail(text):
    raise ValueError(text)


def process_id():
    return os.getpid()


def die_once(marker):
    if not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


def wait_for_file(path):
    while not Path(path).exists():
        time.sleep(0.005)
    return "gone"


def die():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def workers():
    pool = Workers(1)
    yield pool
    pool.shutdown()


async def test_jobs_can_be_awaited_and_raise_what_they_raised(workers):
    assert await workers.submit(double, 21) == 42
    assert await asyncio.get_running_loop().run_in_executor(workers, double, 4) == 8
    with pytest.raises(ValueError, match="bad"):
        await workers.submit(fail, "bad")


async def test_a_dead_worker_is_replaced_and_its_job_runs_again(workers, tmp_path, said):
    jobs = [workers.submit(die_once, str(tmp_path / "died")), workers.submit(double, 3)]
    assert [await job for job in jobs] == ["survived", 6]
    assert said("worker_died")


async def test_a_job_that_kills_every_worker_fails_and_the_pool_goes_on(workers):
    with pytest.raises(WorkerDied, match="die"):
        await workers.submit(die)
    assert await workers.submit(double, 5) == 10


async def test_only_the_job_that_kills_its_worker_fails_however_many_stood_in_line_with_it(workers):
    killer = workers.submit(die)
    others = [workers.submit(double, n) for n in range(6)]
    second = workers.submit(die)
    last = workers.submit(double, 6)
    for job in (killer, second):
        with pytest.raises(WorkerDied, match="die"):
            await job
    assert [await job for job in (*others, last)] == [2 * n for n in range(7)]
    assert await workers.submit(double, 5) == 10


async def test_a_closed_pool_gives_up_suspects_and_who_waits_for_them(tmp_path):
    pool = Workers(1)
    jobs = [pool.submit(die_once, str(tmp_path / "died")), pool.submit(wait_for_file, str(tmp_path / "never"))]
    assert await jobs[0] == "survived"
    jobs += [pool.submit(double, 1)]
    await asyncio.to_thread(pool.kill)
    for job in jobs[1:]:
        with pytest.raises(asyncio.CancelledError):
            await job


async def test_the_pool_is_recycled_between_jobs():
    pool = Workers(1, recycle_after=2)
    try:
        first, second, third = [await pool.submit(process_id) for _ in range(3)]
        assert first == second != third
        assert os.getpid() not in (first, third)
    finally:
        pool.shutdown()


async def test_kill_ends_a_running_job_at_once_as_cancelled(tmp_path):
    pool = Workers(1)
    pid = await pool.submit(process_id)
    running, waiting = (pool.submit(wait_for_file, str(tmp_path / "never")) for _ in range(2))
    await asyncio.to_thread(pool.kill)
    for job in (running, waiting):
        with pytest.raises(asyncio.CancelledError):
            await job
    assert not _lives(pid)
    with pytest.raises(RuntimeError, match="shut down"):
        pool.submit(double, 1)


async def test_a_cancelled_job_is_forgotten_and_the_others_go_on(workers, tmp_path):
    busy = workers.submit(wait_for_file, str(tmp_path / "go"))
    waiting = asyncio.ensure_future(_result(workers.submit(double, 1)))
    after = workers.submit(double, 2)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    (tmp_path / "go").touch()
    assert (await busy, await after) == ("gone", 4)


async def _result(job):
    return await job


async def test_inline_has_the_same_shape():
    inline = InlineExecutor()
    assert await inline.submit(double, 2) == 4
    assert inline.submit(double, 2).result() == 4
    with pytest.raises(ValueError, match="bad"):
        await inline.submit(fail, "bad")


def test_no_worker_is_no_pool():
    with pytest.raises(ValueError, match="at least one"):
        Workers(0)


def test_a_worker_does_not_outlive_a_parent_that_was_killed():
    script = (
        "import os, signal\n"
        "from runtime.workers import Workers\n"
        "if __name__ == '__main__':\n"
        "    print(Workers(1).submit(os.getpid).result(), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    pid = int(done.stdout)
    until = time.monotonic() + 60
    while _lives(pid):
        assert time.monotonic() < until, f"worker {pid} still runs"
        time.sleep(0.02)


def _lives(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:  # of one that ends while it is read too
        return False
    return state != "Z"
