"""Which fault strikes when: drawn from the seed alone, spread over the whole run, every kind in its turn."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from collectors import exchanges
from simulator import venues
from simulator.signs import Sign

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


class Lane(NamedTuple):
    """One market of a venue, as faults see it: `kinds` is what is collected there."""

    venue: str
    market: str
    kinds: tuple[str, ...]

    def of(self, *kinds: str) -> list[str]:
        """Those that are collected."""
        return [kind for kind in self.kinds if kind in kinds]

    def sign(self, kind: str) -> Sign:
        return venues.load(self.venue).SIGNS[self.market][kind]

    def showing(self) -> list[str]:
        """Kinds of which the loss of one event shows."""
        return [kind for kind in self.of("trade", "agg_trade", "book_delta") if self.sign(kind).shows]

    def quiet(self) -> list[str]:
        """Kinds whose silence shows: their numbers go on, or they may not be silent for long."""
        found = exchanges.load(self.venue).streams(self.market, list(self.kinds), ["BTC-USDT"])
        patient = {stream.kind for stream in found if stream.max_silence is None}
        return [
            kind
            for kind in self.of("trade", "quote", "book_delta")
            if (kind == "quote" and kind not in patient)
            or (kind != "quote" and self.sign(kind).shows and not self.sign(kind).rising)
        ]

    def named(self, *kinds: str) -> list[str]:
        """Those whose events are known again."""
        return [kind for kind in self.of(*kinds) if self.sign(kind).named]


Draw = Callable[[random.Random, Lane], dict[str, Any] | None]
"""The parameters of a fault at that market; None where it could not show there."""


def _here(_chance: random.Random, lane: Lane) -> dict[str, Any]:
    return {"venue": lane.venue, "market": lane.market}


def _announced(_chance: random.Random, lane: Lane) -> dict[str, Any] | None:
    """At venues that have words for it."""
    return {} if venues.load(lane.venue).WIRE.announces(lane.market) else None


def _kind(choose: Callable[[Lane], list[str]], most: int = 0) -> Draw:
    """One of these kinds, and up to so many events of it."""

    def draw(chance: random.Random, lane: Lane) -> dict[str, Any] | None:
        kinds = choose(lane)
        count = {"count": chance.randint(1, most)} if most else {}
        return {"kind": chance.choice(kinds), **count} if kinds else None

    return draw


def _in(market: str) -> Draw:
    return lambda _, lane: {} if lane.market == market else None


def _seconds(low: float, high: float) -> Draw:
    return lambda chance, _: {"seconds": round(chance.uniform(low, high), 1)}


def _with(**more: Any) -> Draw:
    return lambda *_: more


def _either(**choices: tuple[Any, ...]) -> Draw:
    return lambda chance, _: {name: chance.choice(values) for name, values in choices.items()}


def _all(*draws: Draw) -> Draw:
    def draw(chance: random.Random, lane: Lane) -> dict[str, Any] | None:
        told: dict[str, Any] = {}
        for one in draws:
            found = one(chance, lane)
            if found is None:
                return None
            told |= found
        return told

    return draw


def _traded(lane: Lane) -> list[str]:
    return lane.named("trade", "agg_trade")


def _spoilt(lane: Lane) -> list[str]:
    return lane.named("trade", "agg_trade", "quote", "book_delta")


_REFUSALS: tuple[dict[str, Any], ...] = (
    {"status": 429, "retry_after": 30}, {"status": 418, "retry_after": 120}, {"status": 403, "form": "html"},
    {"status": 429, "retry_after": 20, "retry_date": True}, {"status": 500, "form": "empty"},
    {"status": 503, "form": "html"}, {"status": 451},
)  # fmt: skip
KINDS: dict[str, Draw] = {
    # the wire
    "cut": _all(_here, _either(code=(None, 1000, 1001, 1008, 1011, 1012, 1013, 4000))),
    "reset": _here,
    "freeze": _all(_here, _seconds(20, 120)),
    "flap": _all(_here, _seconds(10, 120), _with(after=1.0)),
    "refuse": _all(_here, _seconds(5, 240), _either(form=("reset", "status"))),
    "mute": _all(_here, _seconds(10, 60)),
    "shutdown": _all(_here, _announced, _seconds(10, 40)),
    "cut handover": _all(_here, _announced, _seconds(10, 40)),
    # twenty of their mean gaps at least: quotes that are silent for less are not missed
    "silence": _all(_here, _seconds(1200, 2400)),
    "silent stream": _all(_here, _kind(Lane.quiet), _seconds(2400, 3600)),
    "drop_ids": _all(_here, _kind(Lane.showing, 4)),
    "duplicate_ids": _all(_here, _kind(_traded, 5)),
    "reorder_ids": _all(_here, _kind(_traded, 3)),
    "replay": _all(_here, _seconds(30, 60), _with(count=100)),
    "acks": _all(_here, _either(form=("none", "partial", "error"))),
    "bad_price": _all(_here, _kind(_spoilt, 5)),
    "bad_time": _all(_here, _kind(_spoilt, 5)),
    "garbage": _all(_here, _either(count=(1, 13))),
    "half_frame": _all(_here, _kind(lambda lane: lane.of("trade", "agg_trade", "quote"))),
    "huge_frame": _all(_here, _with(size=17 * 1024 * 1024)),
    "restart_ids": _all(_here, _kind(lambda lane: lane.of("trade", "agg_trade"))),
    "outage": _seconds(30, 1800),
    "listing": _all(_here, _in("inverse")),
    # REST
    "http_status": _all(_here, lambda chance, _: chance.choice(_REFUSALS)),
    "html_200": _here,
    "empty_body": _here,
    "short_body": _here,
    "gzip_cut": _here,
    "gzip_bomb": _all(_here, _with(size=40_000_000)),
    "slow_body": _here,
    # the machine
    "clock step": _all(
        _seconds(60, 900), _either(us=(-90_000_000, -2_000_000, -700_000, 700_000, 2_000_000, 90_000_000))
    ),
    "kill": _seconds(1, 600),
    "power cut": _seconds(1, 600),
    "kill at step": _all(_seconds(1, 60), _either(step=tuple(range(1, 60)))),
    "restart": _seconds(1, 900),
    "manifest lost": _all(_seconds(1, 60), _either(how=("stop", "kill"))),
    "worker dies": _either(deaths=(1, 2, 3)),
    "EIO": _either(op=("write", "sync", "create", "rename", "fsync_dir", "link", "fsync"), number=(1, 2, 3)),
    "SHORT": _either(op=("write",), number=(1, 2, 3)),
    "disk full": _seconds(30, 1200),
    # while something else is under way
    "books refused": _all(_here, lambda _, lane: {} if "book_delta" in lane.showing() else None),
    "maintenance": _all(_here, _seconds(60, 600)),
    "at work": _either(how=("KILL", "EIO", "ENOSPC"), number=(*range(1, 30), *range(30, 300, 10))),
    "recovery killed": _all(
        _seconds(1, 60), _either(manifest=(False, False, True), steps=((3,), (9,), (20,), (2, 5), (30, 12), (1, 6, 14)))
    ),
    "midnight kill": _all(_seconds(1, 300), _either(how=("kill", "power cut", "stop"))),
    "midnight step": _all(_seconds(60, 900), _either(us=(-90_000_000, -2_000_000, 2_000_000, 90_000_000))),
}  # fmt: skip
"""What can happen. Kinds of the simulator have its names."""
MIDNIGHT = ("midnight kill", "midnight step")
"""These strike within minutes of the next midnight."""
CLOSE = 0.2
"""Of so many the next one strikes within a minute and a half, at the same market: while it lasts, or while what it took
is made good.
"""


def draw(
    seed: int, days: float, count: int, lanes: Sequence[Lane], kinds: tuple[str, ...] = (), midnight: float = DAY
) -> list[Act]:
    """`count` faults over `days`, at least some minutes apart from each other for the most part, at one market after
    the other; a fault that cannot show at the one whose turn it is strikes the next. The first `midnight` is so many
    seconds after the start.
    """
    chance = random.Random(f"{seed}/schedule")
    names: list[str] = []
    known = [name for name in kinds or KINDS if any(KINDS[name](chance, lane) is not None for lane in lanes)]
    while len(names) < count and known:
        chance.shuffle(known)
        names += known
    span = days * DAY - FIRST - LAST
    share = span / max(1, count)
    acts, turns = [], list(lanes)
    for index, name in enumerate(names[:count]):
        at = FIRST + share * (index + chance.uniform(0.05, 0.95))
        if acts and chance.random() < CLOSE:
            at = min(acts[-1].at + chance.uniform(1.0, 90.0), days * DAY - LAST - 1.0)
            turns.insert(0, turns.pop())
        if name in MIDNIGHT and (night := at + (midnight - at) % DAY) < days * DAY - LAST:
            at = night + chance.uniform(-150.0, 60.0)
        told = next(found for lane in turns if (found := KINDS[name](chance, lane)) is not None)
        if hit := next(
            (lane for lane in turns if lane.venue == told.get("venue") and lane.market == told["market"]), None
        ):
            turns.remove(hit)
            turns.append(hit)
        acts.append(Act(index, round(at, 3), name, told))
    return sorted(acts, key=lambda act: act.at)
