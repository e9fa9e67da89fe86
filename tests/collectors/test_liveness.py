"""Liveness: a stream that is acknowledged and silent is named within a minute; one that stops is named too."""

from collectors.liveness import Watch, allowed_silence, status
from market.session import Stream, StreamState
from market.times import MINUTE, SECOND

T = 1_785_701_700_000_000


def state(max_silence=None, **known):
    return StreamState(Stream("x@trade", "trade", "X", "trade", contiguous=True, max_silence=max_silence), **known)


def test_a_stream_goes_from_desired_to_producing():
    held = state(desired_at=T)
    assert status(held, T + SECOND) == "desired"
    held.acknowledged_at = T + SECOND
    assert status(held, T + 2 * SECOND) == "acknowledged"
    held.events, held.first_recv, held.last_recv = 1, T + 3 * SECOND, T + 3 * SECOND
    assert status(held, T + 3600 * SECOND) == "producing", "a trade stream may be quiet for as long as nobody trades"


def test_acknowledged_but_silent_is_its_own_alarm_within_a_minute():
    held, watch = state(desired_at=T, acknowledged_at=T + SECOND), Watch()
    changes = [(now, c) for now in range(T, T + 3 * MINUTE, SECOND) for c in watch.look([held], now)]
    ((at, change),) = changes
    assert at <= T + SECOND + MINUTE
    assert (change.status, change.alarm, change.was) == ("silent", True, "acknowledged")
    assert change.quiet >= 45 * SECOND
    held.events, held.first_recv, held.last_recv = 1, T + 4 * MINUTE, T + 4 * MINUTE
    (end,) = watch.look([held], T + 4 * MINUTE)
    assert (end.status, end.over, end.alarm) == ("producing", True, False)


def test_an_unanswered_request_is_an_alarm():
    watch = Watch()
    (change,) = watch.look([state(desired_at=T)], T + MINUTE)
    assert (change.status, change.alarm) == ("unanswered", True)
    assert watch.counts() == {"unanswered": 1}


def test_a_stream_that_declares_a_silence_stalls_after_it():
    held = state(MINUTE, desired_at=T, acknowledged_at=T, first_recv=T, last_recv=T + 100 * SECOND, events=1001)
    assert allowed_silence(held) == MINUTE
    assert status(held, T + 100 * SECOND + MINUTE) == "producing"
    assert status(held, T + 100 * SECOND + MINUTE + 1) == "stalled"


def test_a_slow_stream_is_given_twenty_of_its_own_gaps():
    held = state(MINUTE, desired_at=T, acknowledged_at=T, first_recv=T, last_recv=T + 100 * SECOND, events=11)
    assert allowed_silence(held) == 200 * SECOND
    assert status(held, T + 100 * SECOND + 2 * MINUTE) == "producing"


def test_only_news_is_told():
    held, watch = state(desired_at=T, acknowledged_at=T, first_recv=T, last_recv=T, events=1), Watch()
    assert len(watch.look([held], T)) == 1
    assert watch.look([held], T + SECOND) == []


def test_a_stream_that_is_silent_by_nature_raises_no_alarm():
    orders = Stream("x@forceOrder", "forceOrder", "X", "liquidation", contiguous=False, sparse=True)
    held, watch = StreamState(orders, desired_at=T, acknowledged_at=T + SECOND), Watch()
    assert watch.look([held], T + 60 * MINUTE) == []
    assert status(StreamState(orders, desired_at=T), T + MINUTE) == "unanswered", "but the venue must take it on"
