"""Progress as JSON lines: one a second at most, the last one always, each with the seconds that are left."""

from __future__ import annotations

import json

from cli.output import Pace


def test_lines_come_a_second_apart_with_the_time_that_is_left() -> None:
    written: list[bytes] = []
    now = 100.0
    pace = Pace("asking", written.append, lambda: now)
    told = [
        (0.0, 0, 0, "waits"),
        (5.0, 600, 1000, "a"),
        (5.5, 650, 1000, "b"),
        (9.0, 700, 1000, "c"),
        (9.1, 1000, 1000, "d"),
    ]
    for seconds, done, total, what in told:
        now = 100.0 + seconds
        pace.report(done, total, what)
    lines = [json.loads(line)["progress"] for line in written]
    assert all(line.endswith(b"\n") for line in written)
    assert [(line["what"], line["done"], line["total"], line["eta_seconds"]) for line in lines] == [
        ("asking waits", 0, 0, None),
        ("asking a", 600, 1000, None),
        ("asking c", 700, 1000, 12.0),  # a hundred in four seconds: what was held before it began is no pace
        ("asking d", 1000, 1000, 0.0),
    ]
