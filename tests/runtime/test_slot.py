"""One heavy job at a time: slices begin while nothing else is under way, and merges wait for their end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future

import pytest

from runtime.slot import Slot


class Held(Executor):
    """Jobs that end when a test says so."""

    def __init__(self) -> None:
        self.jobs: list[Future[object]] = []

    def submit(self, fn: Callable[..., object], /, *_args: object, **_kwargs: object) -> Future[object]:
        if fn is not print:
            raise RuntimeError("shut down")
        self.jobs.append(Future())
        return self.jobs[-1]


def test_a_slice_begins_only_while_nothing_is_under_way() -> None:
    slot, held = Slot(), Held()
    for executor in (slot.in_turn(held), slot.watched(held)):
        executor.submit(print)
        executor.submit(print)
        assert not slot.begin()
        held.jobs[-2].set_result(None)
        assert not slot.begin()
        held.jobs[-1].set_exception(ValueError())
        assert slot.begin()
        assert not slot.begin(), "one slice"
        slot.end()


def test_a_merge_waits_for_the_end_of_a_slice_and_a_transformation_does_not() -> None:
    slot, held = Slot(), Held()
    assert slot.begin()
    slot.watched(held).submit(print)
    assert len(held.jobs) == 1
    began = threading.Event()

    def merge() -> None:
        began.set()
        slot.in_turn(held).submit(print)

    thread = threading.Thread(target=merge)
    thread.start()
    began.wait()
    assert len(held.jobs) == 1
    slot.end()
    thread.join()
    assert len(held.jobs) == 2
    assert not slot.begin()


def test_a_job_that_was_not_taken_holds_nothing_up() -> None:
    slot = Slot()
    with pytest.raises(RuntimeError, match="shut down"):
        slot.in_turn(Held()).submit(repr)
    assert slot.begin()
