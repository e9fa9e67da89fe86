"""What a twin's socket tells a test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import aiohttp


async def until(
    socket: aiohttp.ClientWebSocketResponse, good: Callable[[dict[str, Any]], object], **decoding: Any
) -> list[dict[str, Any]]:
    """Messages up to the first that is `good`."""
    found: list[dict[str, Any]] = []
    while not found or not good(found[-1]):
        found.append(json.loads((await asyncio.wait_for(socket.receive(), 60)).data, **decoding))
    return found
