"""What is of a wrong type is refused by the client by the name of the argument, before anything is asked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from client import AsyncDatalakeClient, ClientError, DatalakeClient
from client.errors import Unreachable
from market.errors import MarketError
from tests.client.test_client import OK, Scripted, http

NOBODY = "http://127.0.0.1:9"
DAY = {"kind": "trade", "date": "2024-07-19"}
MARKET = ("exchange", "market_type", "symbol", "start", "end")
ROWS = (*MARKET, "columns", "fill", "min_state", "version", "as_of", "across_listings")
ASKED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "read": ({"kind": "trade"}, ("kind", *ROWS)),
    "bars": ({}, ("interval", "offset", *ROWS)),
    "join": ({"sets": "x", "symbol": "BTCUSDT"}, ("kind", "max_age", *ROWS)),
    "book": ({"symbol": "BTCUSDT", "at": 0}, ("symbol", "at", "depth")),
    "sql": ({}, ("query",)),
    "preview": ({}, ("dataset",)),
    "files": ({}, ("kind", *MARKET)),
    "gaps": ({}, ("kind", "state", *MARKET)),
    "coverage": ({}, ("kind", *MARKET)),
    "versions": ({"kind": "trade"}, ("kind", *MARKET)),
    "certificate": (DAY, ("kind", "date", "exchange", "market_type", "symbol", "revision")),
    "lineage": (DAY, ("kind", "date")),
    "completeness": ({"kind": "trade"}, ("kind", *MARKET)),
    "feature": ({"feature_id": "x"}, ("feature_id", "columns", "known_by")),
    "markets": ({}, ("exchange",)),
    "job": ({}, ("job",)),
    "move": ({"job": "x", "action": "pause"}, ("job", "action")),
    "put_feature": ({"file": __file__, "feature_set": "x"}, ("file", "feature_set", "as_of", "computed_on")),
    "delete": ({"dataset": "x"}, ("dataset", "confirm")),
}


@pytest.mark.parametrize("wrong", [object(), b"x", [None], {"a": 1}], ids=range(4))
@pytest.mark.parametrize("verb", ASKED)
def test_every_argument_of_a_wrong_type_is_named(verb: str, wrong: object) -> None:
    right, names = ASKED[verb]
    client = DatalakeClient(NOBODY, sleep=lambda _: None)
    for name in names:
        if name == "columns" and wrong == {"a": 1}:
            continue  # names of columns, as any mapping's
        with pytest.raises((ClientError, MarketError), match=name) as said:
            getattr(client, verb)(**right | {name: wrong})
        assert not isinstance(said.value, Unreachable)


@pytest.mark.parametrize("name", ["exchange", "symbol", "kind"])
def test_a_number_is_no_name(name: str) -> None:
    client = DatalakeClient(NOBODY, sleep=lambda _: None)
    with pytest.raises(ClientError, match=f"{name}=5 is no name"):
        client.gaps(**{name: 5})
    with pytest.raises(ClientError, match="columns='price' is no list"):
        client.read("trade", columns="price")
    with pytest.raises(ClientError, match="columns=\\[\\] names no column: leave it out for all of them"):
        client.read("trade", columns=[])


async def test_both_clients_refuse_the_same() -> None:
    async with AsyncDatalakeClient(NOBODY) as client:
        with pytest.raises(ClientError, match="symbol=5 is no name"):
            await client.read("trade", symbol=5)  # type: ignore[typeddict-item]


def test_what_a_header_cannot_carry_is_refused_and_not_shown() -> None:
    for token in (5, "t0ken\nX: y", "tökén"):
        with pytest.raises(ClientError, match="token is no text") as said:
            DatalakeClient(NOBODY, token)  # type: ignore[arg-type]
        assert "ken" not in str(said.value).replace("token", "")
    with pytest.raises(ClientError, match="no address of a server"):
        DatalakeClient(5)  # type: ignore[arg-type]


async def test_an_answer_that_somebody_breaks_off_is_not_the_next_ones() -> None:
    class Stopped(Exception):  # as Ctrl-C
        pass

    def stop(_: int) -> None:
        raise Stopped

    kept = http("200 OK", b'"' + b"x" * 3_000_000 + b'"').replace(b"Connection: close", b"Connection: keep-alive")
    async with Scripted(kept, OK) as there:

        def ask() -> Any:
            with DatalakeClient(there, "t0ken", progress=stop, sleep=lambda _: None) as client:
                with pytest.raises(Stopped):
                    client.status()
                client._progress = None
                return client.start("backfill", {})

        assert await asyncio.to_thread(ask) == {"version": 3}
