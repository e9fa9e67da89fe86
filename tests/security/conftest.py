"""What the security tests share: the lines that the process said, and none of them kept quiet before."""

import pytest

from runtime import saying
from tests.runtime.conftest import said

__all__ = ["said"]


@pytest.fixture(autouse=True)
def nothing_said_before() -> None:
    saying._periods.clear()
