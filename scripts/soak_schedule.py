"""When which fault is thrown in a soak: three lanes, one a market, filled from the first tenth of the run to its end.

Durations are those of a run of ten minutes; shorter runs shorten them, down to what the fault needs to show.
"""

from __future__ import annotations

from typing import Any

import msgspec

TEN_MINUTES = 600.0
REST = [
    {"fault": "http_status", "status": 429, "retry_after": 5},
    {"fault": "http_status", "status": 429, "retry_after": 5, "retry_date": True},
    {"fault": "html_200"},
    {"fault": "empty_body"},
    {"fault": "http_status", "status": 403, "form": "html"},
    {"fault": "http_status", "status": 451},
    *({"fault": "http_status", "status": status, "form": "empty"} for status in (500, 501, 502, 503, 504)),
    {"fault": "short_body"},
    {"fault": "gzip_cut"},
    {"fault": "gzip_bomb", "size": 400_000_000},
    {"fault": "endless_body", "seconds": 20.0},
    {"fault": "slow_body", "seconds": 30.0},
    {"fault": "http_status", "status": 418, "retry_after": 10},
    {"fault": "http_status", "status": 429},
]
SILENCES = 0.7
"""From this part of ten minutes on there is time for the alarms of a minute's silence."""
CODES = (1000, 1001, 1006, 1008, 1011, 1012, 1013, 4000)
"""1006 stands for an end without a close frame."""


class Act(msgspec.Struct, frozen=True):
    """One thing to ask of the simulator, `at` seconds after the start of the schedule: a fault, or a new status."""

    at: float
    name: str
    body: dict[str, Any]

    @property
    def route(self) -> str:
        return "faults" if "fault" in self.body else "contracts"


class Step(msgspec.Struct, frozen=True):
    """What is asked for together, and how long (of ten minutes) until the next step of the lane."""

    seconds: float
    name: str
    bodies: list[dict[str, Any]]


class Scale:
    """A run's length in place of ten minutes."""

    def __init__(self, seconds: float) -> None:
        self.of = min(1.0, seconds / TEN_MINUTES)

    def __call__(self, seconds: float, least: float) -> float:
        return max(least, round(seconds * self.of, 2))


def spot(scale: Scale, symbols: list[str]) -> list[Step]:
    """Ids, values, frames, and every way in which a connection can end or hang."""
    first, second = symbols[0], symbols[1 % len(symbols)]
    kinds = ("trade", "agg_trade", "quote")
    return [
        Step(95, "F39 planned end", [{"fault": "shutdown", "seconds": scale(20, 6)}]),
        Step(20, "F42 ids dropped, doubled, swapped", [
            # a single lost quote shows nowhere: update ids jump in any case
            *({"fault": "drop_ids", "kind": kind, "symbol": first, "count": 3}
              for kind in ("trade", "agg_trade", "book_delta")),
            *({"fault": "duplicate_ids", "kind": kind, "symbol": second, "count": 5} for kind in kinds),
            {"fault": "reorder_ids", "kind": "trade", "symbol": second, "count": 3},
        ]),
        Step(25, "F45 prices that are none", [
            *({"fault": "bad_price", "kind": kind, "symbol": first, "count": 9} for kind in (*kinds, "book_delta")),
        ]),
        Step(20, "F40 garbage", [{"fault": "garbage", "count": 13}]),
        Step(20, "F40 no UTF-8, binary", [{"fault": "garbage", "count": 3}]),
        Step(40, "F41 a frame of 64 MB", [{"fault": "huge_frame", "size": 64 * 1024 * 1024}]),
        Step(30, "F36 FIN", [{"fault": "cut"}]),
        Step(60, "F36 a silent socket", [{"fault": "silence", "seconds": scale(40, 6)}]),
        Step(45, "F33 refused", [{"fault": "refuse", "seconds": scale(15, 2)}, {"fault": "reset"}]),
        Step(100, "F38 flapping", [{"fault": "flap", "seconds": scale(60, 5), "after": 1.0}]),
        Step(1, "F39 announced", [{"fault": "shutdown", "seconds": scale(15, 4)}]),
        Step(60, "F39 cut during the handover", [{"fault": "cut"}]),
        Step(70, "F34 mute", [{"fault": "mute", "seconds": scale(15, 3)}, {"fault": "cut"}]),
    ]  # fmt: skip


def linear(scale: Scale, symbols: list[str]) -> list[Step]:
    """Times, one silent stream, answers to subscriptions, close codes, numbering."""
    first, second, third = symbols[0], symbols[1 % len(symbols)], symbols[2 % len(symbols)]
    timed = ("trade", "agg_trade", "quote", "book_delta")
    return [
        Step(25, "F46 times of another age or unit", [
            *({"fault": "bad_time", "kind": kind, "symbol": first, "count": 7} for kind in timed),
        ]),
        Step(80, "F35 one silent stream", [
            {"fault": "silence", "kind": "trade", "symbol": second, "seconds": scale(60, 8)},
        ]),
        Step(50, "F43 no answer", [{"fault": "acks", "form": "none"}, {"fault": "cut"}]),
        Step(70, "F43 half taken on", [{"fault": "acks", "form": "partial"}, {"fault": "cut"}]),
        Step(50, "F43 refused", [{"fault": "acks", "form": "error"}, {"fault": "cut"}]),
        *(
            Step(18, f"F37 close code {code}", [{"fault": "cut"} | ({} if code == 1006 else {"code": code})])
            for code in CODES
        ),
        Step(25, "F36 half a frame", [{"fault": "half_frame", "kind": "trade"}]),
        Step(25, "F42 numbered from 1", [{"fault": "restart_ids", "symbol": third}]),
        Step(40, "F42 the last thousand again", [
            {"fault": "replay", "count": 1000, "seconds": scale(30, 8)}, {"fault": "cut"},
        ]),
    ]  # fmt: skip


def inverse(scale: Scale, symbols: list[str], new: str | None) -> list[Step]:
    """REST, a frozen peer, refused upgrades, listings."""
    listings = [{"symbol": symbols[-1], "status": "SETTLING"}] + ([{"symbol": new, "status": "TRADING"}] if new else [])
    return [
        Step(15, "F51 F52 REST", [dict(body) for body in REST]),
        Step(60, "F43 a contract ends, one is listed", listings),
        Step(90, "F36 frozen", [{"fault": "freeze", "seconds": scale(45, 8)}]),
        Step(60, "F33 upgrades answered 503", [
            {"fault": "refuse", "form": "status", "seconds": scale(20, 3)}, {"fault": "cut"},
        ]),
        # quotes may rest for a minute before that is an alarm; a gap in ids is one at once
        Step(100, "F35 one silent kind", [
            {"fault": "silence", "kind": "quote", "seconds": 90.0} if scale.of > SILENCES
            else {"fault": "silence", "kind": "agg_trade", "seconds": 6.0},
        ]),
        Step(60, "F36 RST", [{"fault": "reset"}]),
    ]  # fmt: skip


def schedule(seconds: float, symbols: dict[str, list[str]], new: str | None = None) -> list[Act]:
    """Everything, in its order. `symbols` by market; `new` is what inverse lists while running."""
    scale = Scale(seconds)
    lanes = {
        "spot": lambda names: spot(scale, names),
        "linear": lambda names: linear(scale, names),
        "inverse": lambda names: inverse(scale, names, new),
    }
    acts = []
    first, last = 0.1 * seconds, 0.9 * seconds
    for market, names in symbols.items():
        steps = lanes[market](names)
        total = sum(step.seconds for step in steps)
        at = 0.0
        for step in steps:
            when = round(first + (last - first) * at / total, 2)
            acts += [Act(when, step.name, {"market": market} | body) for body in step.bodies]
            at += step.seconds
    return sorted(acts, key=lambda act: act.at)
