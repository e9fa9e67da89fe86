"""What a venue, or whoever speaks in its place, may send: documented payloads, harmed in their structure.

`damaged` takes a good body apart as JSON (keys kept in order, doubles and all) and drops, doubles, retypes, renames,
swaps and nests what is in it, or harms its bytes. Everything comes from the given random numbers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any, NamedTuple

from market.times import DAY, MINUTE

DEPTH = 2_000
LARGEST = 1_000_000
"""Bytes that a value may be multiplied to. Frames and bodies are capped by their transports; without an end, what was
multiplied twice once took all memory of the machine.
"""


class Pairs(list[list[Any]]):
    """A JSON object as its [key, value] pairs, so that a key may be there twice."""


class Token(str):
    """JSON text that is written as it stands, whether or not it is any."""

    __slots__ = ()


NO_NUMBERS = [
    '"NaN"', '"nan"', '"inf"', '"-inf"', '"Infinity"', '"1_000"', '"\u0661\u0662\u0663"', '"\uff11"', '"1e400"',
    '"1e5"',
    '"1E-7"', '"-1"', '"-0"', '"00"', '"01"', '"1."', '".5"', '"+1"', '" 1"', '"1 "', '"1\\n"', '"0x10"', '"1,5"',
    '""', '"' + "9" * 31 + '"', '"0.' + "1" * 31 + '"', '"1\\u0000"', '"\u00b2"',
]  # fmt: skip
"""Texts that some parser of numbers takes for one, and that no strict one does."""
NUMBERS = [
    '"0"', '"0.0"', '"0.000"', '"' + "9" * 30 + '"', '"' + "9" * 30 + "." + "9" * 30 + '"', '"1"', '"0.1000"',
]  # fmt: skip
"""Odd ones that are."""
LITERALS = [
    "NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1.5", "1.0", "1e3", "-1", "-0", "0", "1", "01", "0x1", "1_0",
    str(2**31), str(2**53 + 1), str(2**63 - 2), str(2**63 - 1), str(2**63), str(2**64), str(-(2**63)), "9" * 40,
    "9" * 400, "9" * 5_000, "true", "false", "null", "[]", "{}", "[[]]", "[null]", '{"":{}}', "undefined", "'x'",
]  # fmt: skip
TEXTS = [
    '"\\ud800"', '"\\ud83d\\ude00"', '"\\u0000"', '"a\\u0000b"', '"' + "x" * 129 + '"', '"' + "X" * 10_000 + '"',
    '"../../etc"', '"CON"', '"a/b"', '"%2e%2e"', '"\u5e01\u5b89USDT"', '"\U0001f600"', '"btcusdt"', '"BTCUSDT"', '"*"',
    '"!contractInfo"', '"serverShutdown"', '"\\n"', '"\\"', '"X"', '"NEVER"',
]  # fmt: skip
KEYS = ["", "data", "stream", "e", "s", "o", "k", "id", "result", "error", "code", "\u0000", "x" * 300]
GARBAGE = [
    b"", b" ", b"\x00", b"\xff\xfe", b"null", b"[]", b"{}", b'""', b"{", b"[", b"0", b"pong", b"<html>busy</html>",
    b"[" * DEPTH, b"[" * DEPTH + b"]" * DEPTH, b'{"a":' * DEPTH + b"1" + b"}" * DEPTH, b"9" * 5_000,
    b'{"id":' + b"9" * 5_000 + b"}", b'{"stream":"' + b"x" * 5_000 + b'","data":{}}', b'{"stream":"","data":null}',
    b'{"code":' + b"9" * 30 + b',"msg":null}', b'{"e":"\\ud800"}', b'{"result":null,"id":1}', b"\xef\xbb\xbf{}",
    '{"e":"\u0661"}'.encode("utf-16"),
]  # fmt: skip


def times_near(at: int) -> list[str]:
    """Times that are none, of another unit, or at the edge of what may be, where `at` (us) is now."""
    ms = at // 1_000
    edges = [at - 7 * DAY, at - 7 * DAY - MINUTE, at + 5 * MINUTE, at + 6 * MINUTE, at - 8 * DAY, at + DAY]
    others = [0, 1, -1, 86_400_000, 32_503_680_000_000, 4_102_444_800_000_000, 4_102_444_800_000_001, ms // 1_000,
              ms * 1_000, ms * 1_000_000, -ms, ms]  # fmt: skip
    return [str(number) for number in (*others, *(edge // 1_000 for edge in edges))] + [f'"{ms}"', f"{ms}.0"]


def parsed(body: bytes) -> Any:
    """The JSON of a body with numbers as they were written. Raises ValueError."""
    return json.loads(body, object_pairs_hook=lambda pairs: Pairs([list(pair) for pair in pairs]),
                      parse_float=Token, parse_int=Token, parse_constant=Token)  # fmt: skip


def written(node: Any) -> str:
    if isinstance(node, Token):
        return node
    if isinstance(node, Pairs):
        return "{" + ",".join(f"{json.dumps(key, ensure_ascii=False)}:{written(value)}" for key, value in node) + "}"
    if isinstance(node, list):
        return "[" + ",".join(map(written, node)) + "]"
    return json.dumps(node, ensure_ascii=False)


class Slot(NamedTuple):
    """Where a value is (`held[at]`), and what goes with it where it goes (`parent[place]`)."""

    held: list[Any]
    at: int
    parent: list[Any]
    place: int

    @property
    def value(self) -> Any:
        return self.held[self.at]

    def put(self, value: Any) -> None:
        self.held[self.at] = value


def slots(node: Any) -> Iterator[Slot]:
    """Every value below `node`."""
    if isinstance(node, Pairs):
        for place, pair in enumerate(node):
            yield Slot(pair, 1, node, place)
            yield from slots(pair[1])
    elif isinstance(node, list):
        for place, value in enumerate(node):
            yield Slot(node, place, node, place)
            yield from slots(value)


def _drop(slot: Slot, _root: Any, _random: Random) -> None:
    del slot.parent[slot.place]


def _double(slot: Slot, _root: Any, random: Random) -> None:
    whole = slot.parent[slot.place]
    again = [whole[0], Token(random.choice(LITERALS))] if isinstance(slot.parent, Pairs) else whole
    slot.parent.insert(slot.place + random.randrange(2), again)


def _many(slot: Slot, _root: Any, random: Random) -> None:
    text = written(slot.value)
    count = min(random.choice([2, 50, 1_500]), 2 + LARGEST // max(len(text), 1))
    if isinstance(slot.parent, Pairs):
        slot.put(Token(",".join([text, *(f'"k{n}":{n}' for n in range(count))])))
    else:
        slot.put(Token(",".join([text] * count)))


def _rename(slot: Slot, root: Any, random: Random) -> None:
    if isinstance(slot.parent, Pairs):
        others = [pair[0] for pair in slot.parent]
        slot.held[0] = random.choice([*KEYS, *others])


def _swap(slot: Slot, root: Any, random: Random) -> None:
    other = random.choice(list(slots(root)))
    if not any(inner.held is slot.held for inner in slots(other.value)):  # nothing inside itself
        slot.put(other.value)


def _wrap(slot: Slot, _root: Any, random: Random) -> None:
    deep = random.choice([1, 2, DEPTH])
    text = written(slot.value)
    slot.put(Token("[" * deep + text + "]" * deep if random.randrange(2) else '{"data":' * deep + text + "}" * deep))


def _retype(slot: Slot, _root: Any, random: Random) -> None:
    slot.put(Token(random.choice(random.choice([NO_NUMBERS, NUMBERS, LITERALS, TEXTS]))))


WAYS: tuple[Callable[[Slot, Any, Random], None], ...] = (
    _drop, _double, _many, _rename, _swap, _wrap, _retype, _retype, _retype, _retype,
)  # fmt: skip


def restructured(body: bytes, at: int, random: Random, others: Sequence[bytes]) -> bytes:
    """One to three values of a body harmed; a body that is no JSON is harmed in its bytes."""
    try:
        root = [parsed(body)]
    except ValueError:
        return cut(body, random)
    for _ in range(random.randrange(1, 4)):
        found = list(slots(root))
        if not found:
            break
        slot = random.choice(found)
        way = random.randrange(len(WAYS) + 4)
        if way < len(WAYS):
            WAYS[way](slot, root, random)
        elif way < len(WAYS) + 3:
            slot.put(Token(random.choice(times_near(at))))
        else:
            slot.put(Token(random.choice(others).decode("utf-8", "surrogateescape")))
    return "".join(map(written, root)).encode("utf-8", "surrogateescape")


def cut(body: bytes, random: Random) -> bytes:
    """Bytes changed, gone, or there twice."""
    at = random.randrange(len(body) + 1)
    way = random.randrange(6)
    if way == 0:
        return body[:at]
    if way == 1:
        return body[:at] + bytes([random.randrange(256)]) + body[at + 1 :]
    if way == 2:
        return body[:at] + random.choice([b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\x00", b"\xf5"]) + body[at:]
    if way == 3:
        return body + body
    if way == 4:
        return body[:at] + body[at + random.randrange(1, 20) :]
    return random.choice([b" ", b"\n", b"\r\n\t"]) + body + random.choice([b"", b" ", b"\n", b"x"])


def damaged(body: bytes, at: int, random: Random, others: Sequence[bytes]) -> bytes:
    """`body` as it is, harmed, or something else altogether; `others` are good bodies of other streams."""
    way = random.randrange(12)
    if way < 2:
        return body
    if way < 8:
        return restructured(body, at, random, others)
    if way == 8:
        return cut(body, random)
    if way == 9:
        return random.choice(others)
    if way == 10:
        return random.choice(GARBAGE)
    return bytes(random.randrange(256) for _ in range(random.randrange(40)))
