"""The simulator's command line."""

import pytest

from simulator import options, venues

KNOWN = {name: venues.load(name).MARKETS for name in venues.names()}


@pytest.mark.parametrize("option", ["--venue", "--port", "--seed", "--rate", "--log", "--ping"])
def test_an_option_that_takes_one_value_is_refused_when_it_is_given_twice(option, capsys):
    value = "binance" if option == "--venue" else "1"
    with pytest.raises(SystemExit) as left:
        options.parse([option, value, option, value], KNOWN)
    assert left.value.code == 2
    assert f"argument {option}: is given twice, and takes one value" in capsys.readouterr().err


def test_options_that_add_up_may_be_given_often():
    given = ["--venue", "binance,okx", "--symbols", "BTCUSDT", "--symbols", "okx=BTC-USDT", "--markets", "spot"]
    faults = ["--fault", "1s:cut", "--fault", "2s:cut"]
    made = {one.venue: one for one in options.parse([*given, *faults], KNOWN)}
    assert (made["binance"].symbols, made["okx"].symbols) == (["BTCUSDT"], ["BTC-USDT"])
    assert len(made["okx"].faults) == 2
