"""market.errors: they cross process borders whole."""

import pickle

import pytest

from market.errors import Malformed, UnknownKind


@pytest.mark.parametrize("error", [Malformed("price", "NaN"), UnknownKind("candle", ("trade", "quote"))], ids=str)
def test_an_error_raised_in_a_worker_arrives_as_it_was(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
