"""What the process said, for the tests of runtime."""

import pytest
from loguru import logger


@pytest.fixture
def said():
    """`said(event)`: the messages of that event so far."""
    lines = []
    sink = logger.add(lambda message: lines.append(message.record), level="DEBUG", format="{message}")
    yield lambda event: [r["message"] for r in lines if r["extra"].get("event") == event]
    logger.remove(sink)
