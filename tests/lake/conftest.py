"""A lake that tests make parts and days of, and a reader of it."""

import pytest

from lake.reader import Lake
from tests.support.lakes import TestLake


@pytest.fixture
def made(tmp_path):
    lake = TestLake(tmp_path / "lake")
    yield lake
    lake.close()


@pytest.fixture
def lake(made):
    with Lake(made.root) as opened:
        yield opened
