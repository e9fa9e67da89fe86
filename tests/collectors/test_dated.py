"""Parsers by date: which one reads a frame follows from the frame's receive time, and costs nothing once it is past."""

import zlib

import msgspec
import pytest

from collectors import exchanges
from collectors.adapters.dated import Dated, chosen, in_force, reader, registered
from collectors.exchanges.okx.markets import CHANNELS
from market.kinds import BookDelta
from market.session import Connection, Rejected
from market.times import DAY, parse

CHANGE = parse("2026-06-23")


def maker(name):
    return lambda *told: lambda _frame, _ts_recv, _number: (name, *told)


PARSERS = Dated(maker("old"), ("2026-06-23", maker("new")), ("2026-07-01", maker("newest")))


def test_each_holds_from_midnight_of_its_date_on():
    read = reader(PARSERS, CHANGE - 5 * DAY, "BTC")
    times = [CHANGE - 1, CHANGE, parse("2026-06-30T23:59:59.999999Z"), parse("2026-07-01"), CHANGE - 1]
    assert [read(b"", time, 1)[0] for time in times] == ["old", "new", "new", "newest", "old"]
    assert read(b"", CHANGE, 1) == ("new", "BTC")


def test_once_its_changes_are_past_a_parser_is_called_by_itself():
    made = lambda _frame, _ts_recv, _number: ()  # noqa: E731
    parsers = Dated(maker("old"), ("2026-06-23", lambda *_: made))
    assert reader(parsers, CHANGE + DAY) is made
    assert reader(lambda *_: made, 0) is made
    assert reader(parsers, CHANGE + DAY - 1) is not made, "our clock may be set back over the midnight"
    assert chosen(made, 0) is made
    assert chosen(Dated(maker("old"), ("2026-06-23", made)), CHANGE + DAY) is made


def test_what_a_parser_keeps_of_its_stream_is_its_own_as_long_as_it_holds():
    def counting(*_told):
        seen = []
        return lambda _frame, _ts_recv, number: seen.append(number) or list(seen)

    read = reader(Dated(maker("old"), ("2026-06-23", counting)), CHANGE - 1)
    assert [read(b"", CHANGE, 1), read(b"", CHANGE + 1, 2)] == [[1], [1, 2]]


@pytest.mark.parametrize("dates", [(), ("2026-07-01", "2026-06-23"), ("2026-06-23", "2026-06-23"), ("soon",)])
def test_dates_rise(dates):
    with pytest.raises(ValueError, match=r"rise|isoformat"):
        Dated("first", *((date, date) for date in dates))


def test_what_changed_is_told_by_kind_and_channel():
    class Channel(msgspec.Struct):
        name: str
        kind: str
        maker: object

    channels = {
        "spot": {name: Channel(name, "trade", parser) for name, parser in (("t", PARSERS), ("all", maker("x")))}
    }
    found = registered(channels, lambda _, channel: channel.maker)
    assert found == {"spot": {"trade": {"t": ("2026-06-23", "2026-07-01")}}}
    told = [in_force(found["spot"]["trade"], date) for date in ("2026-06-22", "2026-06-23", "2026-08-01")]
    assert told == ["t before 2026-06-23", "t from 2026-06-23", "t from 2026-07-01"]
    assert in_force({}, "2026-01-01") == ""


def test_the_parser_in_force_on_a_day_is_known_of_each_exchange():
    assert exchanges.parsers("okx", "spot", "book_delta", "2026-06-22") == "books before 2026-06-23"
    assert exchanges.parsers("okx", "linear", "book_delta", "2026-06-23") == "books from 2026-06-23"
    assert exchanges.parsers("okx", "spot", "trade", "2026-06-23") == ""
    assert exchanges.parsers("ccxt-x", "spot", "trade", "2026-06-23") == ""


# --- OKX: checksums of books died on 2026-06-23 ---

SIDES = {"bids": [["8476.97", "256", "0", "12"]], "asks": [["8476.98", "415", "0", "13"], ["8477", "7", "0", "2"]]}
SUM = (zlib.crc32(b"8476.97:256:8476.98:415:8477:7") + 2**31) % 2**32 - 2**31


def message(time, number, before, action="update", **more):
    data = {**SIDES, "ts": str(time // 1000), "prevSeqId": before, "seqId": number, **more}
    return msgspec.json.encode({"arg": {"channel": "books", "instId": "BTC-USDT"}, "action": action, "data": [data]})


def session(start):
    made = exchanges.load("okx").session(Connection("okx", "spot", "x", "wss://x", ()), "n-1-1", learn=True)
    made.start(start)
    return made


def test_a_book_of_okx_says_its_checksum_until_that_died():
    made = session(CHANGE - DAY)
    (whole,) = made.receive(message(CHANGE - 9, 5, -1, "snapshot", checksum=SUM), CHANGE - 9)
    (last,) = made.receive(message(CHANGE - 8, 6, 5, checksum=7), CHANGE - 1)
    (dead,) = made.receive(message(CHANGE, 7, 6, checksum=0), CHANGE)
    (gone,) = made.receive(message(CHANGE + 9, 8, 7), CHANGE + 9)
    assert [type(row) for row in (whole, last, dead, gone)] == [BookDelta] * 4
    assert [row.checksum for row in (whole, last, dead, gone)] == [SUM, 7, None, None]
    assert [row.flags for row in (whole, last, dead, gone)] == [("snapshot",), (), (), ()], "one chain over the change"


def test_before_that_what_was_no_checksum_is_refused_and_without_one_none_is_said():
    made = session(CHANGE - DAY)
    assert [type(one) for one in made.receive(message(CHANGE - 9, 5, -1, "snapshot", checksum="x"), CHANGE - 9)] == [
        Rejected
    ]
    (whole,) = made.receive(message(CHANGE - 8, 5, -1, "snapshot"), CHANGE - 8)
    assert whole.checksum is None
    forgotten, row = made.receive(message(CHANGE - 7, 3, 5, checksum=9), CHANGE - 7)
    assert (forgotten.flags, forgotten.checksum, row.checksum) == (("clear",), None, 9), "a numbering begins anew"


def test_after_that_the_hot_path_is_the_new_parser_alone():
    made = session(CHANGE + 30 * DAY)
    made.receive(message(CHANGE + 30 * DAY, 5, -1, "snapshot", checksum="never looked at"), CHANGE + 30 * DAY)
    (parse,) = made._parsers.values()
    assert parse.__qualname__ == "delta.<locals>.parse"
    assert CHANNELS["spot"]["books"].maker.held[-1].__name__ == "delta"
