"""The registry of transports."""

import sys
from collections.abc import Iterator

import pytest
from loguru import logger

from collectors import transports
from collectors.config import ConnectionConfig
from collectors.transports import proxy


@pytest.fixture
def said() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), format="{message}")
    yield lines
    logger.remove(sink)


def test_the_directory_is_the_registry() -> None:
    assert "websockets" in transports.names()
    assert callable(transports.load("websockets"))


def test_an_unknown_transport_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown transport 'carrier-pigeon'; known transports: .*websockets"):
        transports.load("carrier-pigeon")


def test_the_default_is_one_of_them() -> None:
    assert ConnectionConfig().transport in transports.names()


def test_the_reference_takes_the_place_of_a_missing_library_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    monkeypatch.setitem(sys.modules, "picows", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "collectors.transports.picows_", raising=False)
    with pytest.raises(ImportError):
        transports.load("picows")
    connect = transports.load_or_reference("picows")
    assert connect.__module__ == "collectors.transports.websockets_"
    assert any("websockets is used instead" in line for line in said)


def test_nothing_takes_the_place_of_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "websockets.asyncio.client", None)
    monkeypatch.delitem(sys.modules, "collectors.transports.websockets_", raising=False)
    with pytest.raises(ImportError):
        transports.load_or_reference("websockets")


def test_the_systems_proxy_is_used_but_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("all_proxy", "no_proxy", "socks_proxy", "ws_proxy", "wss_proxy", "http_proxy", "https_proxy"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.upper(), raising=False)
    assert proxy("wss://venue.example/ws") is None
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "direct.example")
    assert proxy("wss://venue.example/ws") == "http://proxy.example:3128"
    assert proxy("wss://direct.example:9443/ws") is None
    assert proxy("wss://127.0.0.1:9443/ws") is None
    assert proxy("ws://localhost/ws") is None
    monkeypatch.setenv("wss_proxy", "http://sockets.example:3128")
    assert proxy("wss://venue.example/ws") == "http://sockets.example:3128"
