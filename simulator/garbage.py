"""Frames that break a careless parser: no JSON, cut JSON, wrong types, impossible times, hostile names."""

from __future__ import annotations

from simulator.connection import BINARY, TEXT

_TRADE = '{"stream":"btcusdt@trade","data":{"e":"trade",'
GARBAGE: tuple[tuple[int, bytes], ...] = (
    *(
        (TEXT, text.encode())
        for text in (
            "this is not JSON",
            _TRADE + '"E":1',
            _TRADE + '"E":1795132800000,"s":"BTCUSDT","t":1,"p":NaN,"q":"1","T":1795132800000,"m":true,"M":true}}',
            _TRADE + '"E":1795132800000,"s":"BTCUSDT","t":"x","p":[],"q":{},"T":null,"m":1,"M":true}}',
            _TRADE
            + '"E":9999999999999999,"s":"BTCUSDT","t":2,"p":"1","q":"1","T":9999999999999999,"m":true,"M":true}}',
            '{"stream":"../../etc/passwd@trade","data":{"e":"trade","E":1795132800000,"s":"../../etc/passwd","t":3}}',
            '{"stream":"btcusdt@bookTicker","data":{"u":true,"s":"BTCUSDT","b":"1e5","B":"inf","a":"1_000","A":""}}',
            '{"stream":7,"data":[]}',
            "[" * 2000,
            '{"a":' * 2000 + "1" + "}" * 2000,
            _TRADE + '"E":1795132800000,"s":"BTCUSDT","t":4,"t":"4","p":"1","p":2,"p":null,"m":true,"m":7}}',
            "null",
            "",
        )
    ),
    (TEXT, _TRADE.encode() + b'"s":"BTC\xff\xfe\xc0\xafUSDT"}}'),
    (BINARY, b"\x00\x01\x02\xff" * 64),
    (BINARY, _TRADE.encode() + b'"t":5}}'),
)
"""(opcode, payload)."""
