"""`dl backfill` and `dl symbols` as a person meets them: what is asked for, what is refused, a run from end to end."""

import itertools
import json

import pytest

from market.times import HOUR, MINUTE, SECOND, text
from runtime.clock import SystemClock
from tests.cli.test_commands import ask
from tests.support.live import free_port, simulator, wait_for, write_config

SPOT = ("backfill", "--exchange", "binance", "--market", "spot", "--symbol", "btcusdt")


def test_a_dry_run_says_what_would_be_asked_for_and_makes_nothing(tmp_path):
    more = ("--kind", "kline", "--from", "2026-01-01", "--to", "2026-01-10", "--lake", tmp_path / "lake", "--dry-run")
    said = json.loads(ask(*SPOT, *more, "--json").stdout)["planned"]
    assert {(one["kind"], one["symbol"]) for one in said["chunks"]} == {("kline", "BTCUSDT")}
    assert sum(one["end"] - one["start"] for one in said["chunks"]) == 9 * 24 * HOUR
    assert said["refused"] == []
    assert "2026-01-01T00:00:00Z" in ask(*SPOT, *more).stdout
    refused = ask(*SPOT, *more, "--kind", "open_interest", expect=1)
    assert "there is none on spot" in refused.output
    alone = ask(*SPOT, *more[2:], "--kind", "open_interest", expect=1)
    assert "nothing to ask for\n" in alone.output, "which is not to say that it is held"
    assert not (tmp_path / "lake").exists()


def test_names_that_other_lakes_gave_the_commands(tmp_path):
    lake = ("--lake", tmp_path / "lake")
    asked = ("--exchange", "binance", "--symbol", "btcusdt", "--futures", "--funding", "--dry-run", "--json", *lake)
    for name in ("download-history", "ingest"):
        done = ask(name, *asked, "--days", "3", "--timeframe", "1h")
        assert "1h fold from them" in done.stderr
        said = json.loads(done.stdout)["planned"]
        assert {one["kind"] for one in said["chunks"]} == {"kline", "funding_rate"}
        assert sum(one["end"] - one["start"] for one in said["chunks"] if one["kind"] == "kline") <= 3 * 24 * HOUR
    assert "two markets" in ask("ingest", *asked, "--market", "inverse", expect=2).output
    assert "is an empty lake" in ask("init", *lake).stderr
    assert "is a lake already" in ask("init", *lake).stderr
    assert json.loads(ask("init", *lake, "--json").stdout) == {"lake": str(lake[1]), "made": False}
    assert ask("list", *lake).stdout == ask("ls", *lake).stdout
    assert "--exchange" in ask("download-symbols", "--help").stdout
    assert "download-history" not in ask("--help").stdout


def test_as_far_back_as_the_venue_goes(tmp_path):
    said = json.loads(ask(*SPOT, "--kind", "trade", "--full", "--lake", tmp_path / "l", "--dry-run", "--json").stdout)
    (chunk,) = said["planned"]["chunks"]
    assert text(chunk["start"]) == "2017-07-14T00:00:00Z"


def test_a_venues_own_beginning_and_its_own_spelling(tmp_path):
    asked = ("backfill", "--exchange", "kraken", "--market", "linear", "--symbol", "PF_AAPLxUSD", "--full", "--dry-run")
    said = json.loads(ask(*asked, "--kind", "kline", "--lake", tmp_path / "l", "--json").stdout)
    first = said["planned"]["chunks"][0]
    assert (text(first["start"]), first["symbol"]) == ("2013-09-01T00:00:00Z", "PF_AAPLxUSD")


@pytest.mark.parametrize(
    "more, why",
    [
        (("--kind", "kline"), "one of --from, --days and --full"),
        (("--kind", "kline", "--days", "3", "--from", "2026-01-01"), "one of --from, --days and --full"),
        (("--kind", "kline", "--from", "2026-01-02", "--to", "2026-01-01"), "is not before"),
        (("--kind", "kline", "--from", "2999-01-01"), "is not before"),
        (("--kind", "quote", "--days", "1"), "no history of 'quote'"),
        (("--kind", "kline", "--days", "1", "--market", "option"), "has no market 'option'"),
        (("--kind", "kline", "--days", "1", "--exchange", "nowhere"), "nowhere"),
        (("--kind", "kline", "--from", "yesterday"), "yesterday"),
    ],
)
def test_a_question_that_cannot_be_meant_is_a_sentence(tmp_path, more, why):
    verb, *options = (*SPOT, *more)
    given = dict(zip(options[::2], options[1::2], strict=True))
    done = ask(verb, *itertools.chain(*given.items()), "--lake", tmp_path / "lake", expect=2)
    assert why in done.output
    assert not (tmp_path / "lake").exists()


def test_it_brings_in_what_the_venue_has_and_the_second_time_nothing(tmp_path):
    behind = HOUR  # the venue lives an hour ago, so that what it trades is over for long
    with simulator(tmp_path, "--markets", "spot", "--symbols", "BTCUSDT", "--rate", "300",
                   f"--clock-offset-us=-{behind}") as running:  # fmt: skip
        config = write_config(
            tmp_path / "c.json", tmp_path / "lake", [running.source("spot", ["BTCUSDT"], ["trade"])], free_port()
        )
        listed = json.loads(ask("symbols", "--exchange", "binance", "--market", "spot", "--match", "BTC*", "--config",
                                config, "--json").stdout)  # fmt: skip
        assert [(one["symbol"], one["status"]) for one in listed["symbols"]] == [("BTCUSDT", "TRADING")]
        wait_for("some trades", lambda: b'"trade"' in running.log.read_bytes())
        now = SystemClock().now() - behind
        period = ("--from", text(now - now % MINUTE - MINUTE), "--to", text(now - now % SECOND + SECOND))
        wanted = (*SPOT, "--kind", "trade", "--kind", "agg_trade", *period, "--config", config)
        done = json.loads(ask(*wanted, "--json").stdout)
        assert done["fetched"]["done"] == done["fetched"]["chunks"] == 2
        assert done["transformed"]["rows"] == done["fetched"]["rows"] > 0
        assert "held already" in ask(*wanted).stdout
    gone = ask("symbols", "--exchange", "binance", "--market", "spot", "--config", config, expect=69)
    assert "binance spot" in gone.output
    assert "no instrument" not in gone.output
