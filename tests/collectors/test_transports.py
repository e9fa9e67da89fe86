"""The registry of transports."""

import pytest

from collectors import transports


def test_the_directory_is_the_registry() -> None:
    assert "websockets" in transports.names()
    assert callable(transports.load("websockets"))


def test_an_unknown_transport_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown transport 'carrier-pigeon'; known transports: .*websockets"):
        transports.load("carrier-pigeon")
