"""When which fault is thrown in a soak: three lanes, one a market, filled from the first tenth of the run to its end.

Every exchange has all three, one exchange a little after the other; where one has fewer markets with streams its lanes
follow each other. Durations are those of a run of ten minutes; shorter runs shorten them, down to what the fault needs
to show. What an exchange's protocol could not show at all is not thrown at it: it says what that is by the signs of its
twin (`simulator/signs.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from collectors import exchanges
from market.times import MINUTE
from simulator import venues
from simulator.instruments import dormant, named_in, names
from simulator.signs import Sign

TEN_MINUTES = 600.0
SHORT = 240.0
"""Seconds below which patience and seals are shortened, so that a short run sees the same."""
APART = 0.0125
"""Of the run: how long an exchange's faults begin after those of the one before."""
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
    venue: str
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


class Lane:
    """One market of an exchange, as faults see it."""

    def __init__(self, exchange: str, market: str, symbols: list[str], new: str | None) -> None:
        self.market, self.symbols, self.new = market, symbols, new
        adapter, twin = exchanges.load(exchange), venues.load(exchange)
        offered = adapter.OFFERS[market]
        self.signs: dict[str, Sign] = {k: sign for k, sign in twin.SIGNS[market].items() if k in offered}
        streams = adapter.streams(market, list(self.signs), symbols[:1])
        self.patience = {stream.kind: stream.max_silence for stream in streams}
        self.announces = twin.WIRE.announces(market)

    def showing(self, *kinds: str) -> list[str]:
        """Those of which the loss of one event shows."""
        return [kind for kind in kinds if kind in self.signs and self.signs[kind].shows]

    def silenced(self, *kinds: str) -> list[str]:
        """Those of which a silence shows by what follows: their numbers go on."""
        return [kind for kind in self.showing(*kinds) if not self.signs[kind].rising]

    def named(self, *kinds: str) -> list[str]:
        """Those whose events are known again."""
        return [kind for kind in kinds if kind in self.signs and self.signs[kind].named]


class Target:
    """One exchange of a soak: its markets and what they list."""

    def __init__(self, name: str, symbols: dict[str, list[str]], new: str) -> None:
        self.name, self.symbols, self.new = name, symbols, new

    @classmethod
    def of(cls, name: str, markets: Sequence[str], count: int) -> Target:
        """With so many symbols a market."""
        custom, listed = venues.load(name).CUSTOM, names(count)
        spelt = {m: list(dict.fromkeys(named_in(m, one, custom) for one in listed)) for m in markets}
        return cls(name, spelt, named_in("inverse", dormant(listed, 1)[0], custom))

    def wanted(self, but: Sequence[str]) -> list[tuple[str, str, str]]:
        """(kind, market, symbol) of what has to be stored."""
        signs, offers = venues.load(self.name).SIGNS, exchanges.load(self.name).OFFERS
        return [
            (kind, market, symbol)
            for market, symbols in self.symbols.items()
            for kind in signs[market]
            if kind in offers[market] and kind not in but
            for symbol in symbols
        ]

    def streams(self, market: str, kind: str) -> bool:
        """Whether a kind comes by a stream, or not at all."""
        adapter = exchanges.load(self.name)
        return kind not in adapter.OFFERS[market] or bool(adapter.streams(market, [kind], self.symbols[market][:1]))

    def lanes(self) -> list[Lane]:
        """Its markets that have streams."""
        signs = venues.load(self.name).SIGNS
        return [
            Lane(self.name, market, symbols, self.new if market == "inverse" else None)
            for market, symbols in self.symbols.items()
            if signs[market]
        ]


class Scale:
    """A run's length in place of ten minutes."""

    def __init__(self, seconds: float) -> None:
        self.of = min(1.0, seconds / TEN_MINUTES)

    def __call__(self, seconds: float, least: float) -> float:
        return max(least, round(seconds * self.of, 2))


def ids(scale: Scale, lane: Lane) -> list[Step]:
    """Ids, values, frames, and every way in which a connection can end or hang."""
    first, second = lane.symbols[0], lane.symbols[1 % len(lane.symbols)]
    kinds = ("trade", "agg_trade", "quote")
    lead = scale(20, 6)
    # who has no words for it just hangs up
    planned = {"fault": "shutdown", "seconds": lead} if lane.announces else {"fault": "cut", "code": 1001}
    announced = {"fault": "shutdown", "seconds": scale(15, 4)} if lane.announces else {"fault": "cut", "code": 1001}
    return [
        Step(95, "F39 planned end", [planned]),
        Step(20, "F42 ids dropped, doubled, swapped", [
            # a single lost quote shows nowhere: update ids jump in any case
            *({"fault": "drop_ids", "kind": kind, "symbol": first, "count": 3}
              for kind in lane.showing("trade", "agg_trade", "book_delta")),
            *({"fault": "duplicate_ids", "kind": kind, "symbol": second, "count": 5} for kind in lane.named(*kinds)),
            {"fault": "reorder_ids", "kind": "trade", "symbol": second, "count": 3},
        ]),
        Step(25, "F45 prices that are none", [
            *({"fault": "bad_price", "kind": kind, "symbol": first, "count": 9}
              for kind in lane.named(*kinds, "book_delta")),
        ]),
        Step(20, "F40 garbage", [{"fault": "garbage", "count": 13}]),
        Step(20, "F40 no UTF-8, binary", [{"fault": "garbage", "count": 3}]),
        Step(40, "F41 a frame of 64 MB", [{"fault": "huge_frame", "size": 64 * 1024 * 1024}]),
        Step(30, "F36 FIN", [{"fault": "cut"}]),
        Step(60, "F36 a silent socket", [{"fault": "silence", "seconds": scale(40, 6)}]),
        Step(45, "F33 refused", [{"fault": "refuse", "seconds": scale(15, 2)}, {"fault": "reset"}]),
        Step(100, "F38 flapping", [{"fault": "flap", "seconds": scale(60, 5), "after": 1.0}]),
        Step(1, "F39 announced", [announced]),
        Step(60, "F39 cut during the handover", [{"fault": "cut"}]),
        Step(70, "F34 mute", [{"fault": "mute", "seconds": scale(15, 3)}, {"fault": "cut"}]),
    ]  # fmt: skip


def answers(scale: Scale, lane: Lane) -> list[Step]:
    """Times, one silent stream, answers to subscriptions, close codes, numbering."""
    first, second, third = (lane.symbols[n % len(lane.symbols)] for n in range(3))
    timed = lane.named("trade", "agg_trade", "quote", "book_delta")
    quiet = lane.silenced("trade", "book_delta")[:1]
    return [
        Step(25, "F46 times of another age or unit", [
            *({"fault": "bad_time", "kind": kind, "symbol": first, "count": 7} for kind in timed),
        ]),
        Step(80, "F35 one silent stream", [
            {"fault": "silence", "kind": kind, "symbol": second, "seconds": scale(60, 8)} for kind in quiet
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


def asked(scale: Scale, lane: Lane) -> list[Step]:
    """REST, a frozen peer, refused upgrades, listings."""
    listings = [{"symbol": lane.symbols[-1], "status": "SETTLING"}]
    listings += [{"symbol": lane.new, "status": "TRADING"}] if lane.new else []
    # quotes may rest for a minute before that is an alarm; a gap in ids is one at once
    timely = (lane.patience.get("quote") or 2 * MINUTE) <= MINUTE and scale.of > SILENCES
    quiet = ["quote"] if timely else lane.silenced("agg_trade", "trade", "book_delta")[:1]
    return [
        Step(15, "F51 F52 REST", [dict(body) for body in REST]),
        Step(60, "F43 a contract ends, one is listed", listings),
        Step(90, "F36 frozen", [{"fault": "freeze", "seconds": scale(45, 8)}]),
        Step(60, "F33 upgrades answered 503", [
            {"fault": "refuse", "form": "status", "seconds": scale(20, 3)}, {"fault": "cut"},
        ]),
        Step(100, "F35 one silent kind", [
            {"fault": "silence", "kind": kind, "seconds": scale(90, 6)} for kind in quiet
        ]),
        Step(60, "F36 RST", [{"fault": "reset"}]),
    ]  # fmt: skip


def schedule(seconds: float, targets: Sequence[Target]) -> list[Act]:
    """Everything, in its order, at every exchange."""
    acts = []
    for place, target in enumerate(targets):
        held = target.lanes()
        first = (0.1 + APART * place) * seconds
        last = 0.9 * seconds
        makers: list[Callable[[Scale, Lane], list[Step]]] = [ids, answers, asked]
        lanes: dict[int, list[Step]] = {}
        scale = Scale(seconds * len(held) / len(makers))
        for number, maker in enumerate(makers):
            lane = held[number % len(held)]
            bodies = [
                msgspec.structs.replace(step, bodies=[{"market": lane.market} | body for body in step.bodies])
                for step in maker(scale, lane)
            ]
            lanes.setdefault(number % len(held), []).extend(bodies)
        for steps in lanes.values():
            total, at = sum(step.seconds for step in steps), 0.0
            for step in steps:
                when = round(first + (last - first) * at / total, 2)
                acts += [Act(when, target.name, step.name, body) for body in step.bodies]
                at += step.seconds
    return sorted(acts, key=lambda act: act.at)
