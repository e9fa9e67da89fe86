"""Which fault strikes when: drawn from the seed alone, spread over the whole run, every kind in its turn."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

DAY = 86_400.0
FIRST, LAST = 1_800.0, 5_400.0
"""Seconds after the start and before the end that are left in peace."""


class Act(NamedTuple):
    """`at` seconds after the start; `kind` names what happens (`KINDS`), `told` are its parameters."""

    index: int
    at: float
    kind: str
    told: dict[str, Any]

    def __str__(self) -> str:
        said = " ".join(f"{name}={value}" for name, value in self.told.items())
        return f"#{self.index} day {self.at / DAY:.3f} {self.kind} {said}".rstrip()


Draw = Callable[[random.Random], dict[str, Any]]
MARKETS = ("spot", "linear", "inverse")
NUMBERED = ("trade", "agg_trade")


def _of(*names: str) -> Draw:
    return lambda chance: {"market": chance.choice(names)}


def _ids(count: int) -> Draw:
    def draw(chance: random.Random) -> dict[str, Any]:
        market = chance.choice(MARKETS)
        kind = chance.choice(NUMBERED if market == "spot" else ("trade",))
        return {"market": market, "kind": kind, "count": chance.randint(1, count)}

    return draw


def _seconds(low: float, high: float, *markets: str) -> Draw:
    def draw(chance: random.Random) -> dict[str, Any]:
        told: dict[str, Any] = {"seconds": round(chance.uniform(low, high), 1)}
        if markets:
            told["market"] = chance.choice(markets)
        return told

    return draw


def _with(draw: Draw, **more: Any) -> Draw:
    return lambda chance: {**draw(chance), **more}


def _either(**choices: tuple[Any, ...]) -> Draw:
    return lambda chance: {name: chance.choice(values) for name, values in choices.items()}


def _both(*draws: Draw) -> Draw:
    def draw(chance: random.Random) -> dict[str, Any]:
        told: dict[str, Any] = {}
        for one in draws:
            told |= one(chance)
        return told

    return draw


KINDS: dict[str, Draw] = {
    # the wire
    "cut": _both(_of(*MARKETS), _either(code=(None, 1000, 1001, 1008, 1011, 1012, 1013, 4000))),
    "reset": _of(*MARKETS),
    "freeze": _seconds(20, 120, *MARKETS),
    "flap": _with(_seconds(10, 120, *MARKETS), after=1.0),
    "refuse": _both(_seconds(5, 240, *MARKETS), _either(form=("reset", "status"))),
    "mute": _seconds(10, 60, *MARKETS),
    "shutdown": _seconds(10, 40, "spot"),
    "cut handover": _seconds(10, 40, "spot"),
    # twenty of their mean gaps at least: quotes that are silent for less are not missed
    "silence": _seconds(1200, 2400, *MARKETS),
    "silent stream": _both(_seconds(2400, 3600, *MARKETS), _either(kind=("trade", "quote"))),
    "drop_ids": _ids(4),
    "duplicate_ids": _ids(5),
    "reorder_ids": _ids(3),
    "replay": _with(_seconds(30, 60, *MARKETS), count=100),
    "acks": _both(_of(*MARKETS), _either(form=("none", "partial", "error"))),
    "bad_price": _both(_of(*MARKETS), _either(kind=("trade", "quote"), count=(1, 5))),
    "bad_time": _both(_of("linear", "inverse"), _either(kind=("trade", "quote"), count=(1, 5))),
    "garbage": _both(_of(*MARKETS), _either(count=(1, 13))),
    "half_frame": _both(_of(*MARKETS), _either(kind=("trade",))),
    "huge_frame": _with(_of(*MARKETS), size=17 * 1024 * 1024),
    "restart_ids": _of(*MARKETS),
    "outage": _seconds(30, 1800),
    "listing": _of("inverse"),
    # REST
    "http_status": _both(
        _of(*MARKETS),
        lambda c: c.choice(
            (
                {"status": 429, "retry_after": 30}, {"status": 418, "retry_after": 120},
                {"status": 403, "form": "html"},
                {"status": 429, "retry_after": 20, "retry_date": True}, {"status": 500, "form": "empty"},
                {"status": 503, "form": "html"}, {"status": 451},
            )
        ),
    ),
    "html_200": _of(*MARKETS),
    "empty_body": _of(*MARKETS),
    "short_body": _of(*MARKETS),
    "gzip_cut": _of(*MARKETS),
    "gzip_bomb": _with(_of(*MARKETS), size=40_000_000),
    "slow_body": _of(*MARKETS),
    # the machine
    "clock step": _both(
        _seconds(60, 900), _either(us=(-90_000_000, -2_000_000, -700_000, 700_000, 2_000_000, 90_000_000))
    ),
    "kill": _seconds(1, 600),
    "power cut": _seconds(1, 600),
    "kill at step": _both(_seconds(1, 60), _either(step=tuple(range(1, 60)))),
    "restart": _seconds(1, 900),
    "manifest lost": _both(_seconds(1, 60), _either(how=("stop", "kill"))),
    "worker dies": _either(deaths=(1, 2, 3)),
    "EIO": _either(op=("write", "sync", "create", "rename", "fsync_dir", "link", "fsync"), number=(1, 2, 3)),
    "SHORT": _either(op=("write",), number=(1, 2, 3)),
    "disk full": _seconds(30, 1200),
}  # fmt: skip
"""What can happen. Kinds of the simulator have its names."""


def draw(seed: int, days: float, count: int, kinds: tuple[str, ...] = ()) -> list[Act]:
    """`count` faults over `days`, at least some minutes apart from each other for the most part."""
    chance = random.Random(f"{seed}/schedule")
    names: list[str] = []
    known = list(kinds or KINDS)
    while len(names) < count:
        chance.shuffle(known)
        names += known
    span = days * DAY - FIRST - LAST
    share = span / max(1, count)
    acts = []
    for index, name in enumerate(names[:count]):
        at = FIRST + share * (index + chance.uniform(0.05, 0.95))
        acts.append(Act(index, round(at, 3), name, KINDS[name](chance)))
    return sorted(acts, key=lambda act: act.at)
