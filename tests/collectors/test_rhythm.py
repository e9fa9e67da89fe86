"""How quiet a stream may be: learnt from itself, by the time of the day, within bounds, and not from one odd spell."""

import random

from hypothesis import given
from hypothesis import strategies as st

from collectors.rhythm import FACTOR, LEAST, MOST, START, WINDOW, Rhythm, Rhythms, young
from market.session import Stream, StreamState
from market.times import DAY, HOUR, MINUTE, SECOND

T = 1_785_700_800_000_000 // DAY * DAY
SPELLS = st.lists(st.tuples(st.integers(0, 3 * HOUR), st.integers(0, 3 * HOUR)), max_size=60)


def lived(chance: random.Random, mean: float, start: int, length: int, rhythm: Rhythm) -> int:
    """Let events come by chance, `mean` seconds apart, and be learnt; how often the stream would be suspected."""
    now, suspected = start, 0
    while now < start + length:
        spell = round(chance.expovariate(1 / mean) * SECOND)
        suspected += spell > rhythm.bound(now, None)
        now += spell
        rhythm.learn(spell, now)
    return suspected


@given(SPELLS, st.one_of(st.none(), st.integers(LEAST, 2 * HOUR)), st.integers(0, 2 * DAY))
def test_a_bound_lies_between_the_least_and_what_the_stream_declares(spells, max_silence, later):
    rhythm, now = Rhythm(), T
    for pause, spell in spells:
        now += pause + spell
        rhythm.learn(spell, now)
        assert LEAST <= rhythm.bound(now, max_silence) <= MOST
    most = max(max_silence or MOST, 2 * max((spell + SECOND for _, spell in spells), default=0))
    assert LEAST <= rhythm.bound(now + later, max_silence) <= min(most, MOST)


@given(SPELLS, st.integers(0, 3 * HOUR))
def test_a_longer_spell_that_is_believed_never_makes_a_stream_suspected_sooner(spells, more):
    one, two, now = Rhythm(), Rhythm(), T
    for pause, spell in spells:
        now += pause + spell
        one.learn(spell, now)
        two.learn(spell, now)
    now += MINUTE
    one.learn(0, now)
    two.learn(0, now)
    two.learn(more, now)
    assert two.bound(now, None) >= one.bound(now, None)


def test_a_busy_stream_is_suspected_within_twenty_seconds():
    rhythm = Rhythm()
    lived(random.Random(1), 0.5, T, HOUR, rhythm)
    assert rhythm.bound(T + HOUR, None) < 20 * SECOND


def test_a_declared_silence_bounds_what_is_not_quieter_by_habit():
    busy, slow, now = Rhythm(), Rhythm(), T
    for _ in range(40):
        now += 90 * SECOND
        busy.learn(30 * SECOND, now)
        slow.learn(90 * SECOND, now)
    assert busy.bound(now, MINUTE) == MINUTE
    assert slow.bound(now, MINUTE) == 180 * SECOND
    assert slow.bound(now, None) == 270 * SECOND


def test_streams_of_any_pace_are_hardly_ever_suspected_for_their_own_chance():
    for mean in (0.2, 2.0, 10.0, 60.0, 300.0, 1200.0):
        suspected = lived(random.Random(f"{mean}"), mean, T, 4 * DAY if mean > 1 else 4 * HOUR, Rhythm())
        assert suspected <= 24, f"{mean} s apart: {suspected} times in four days, each a request"


def test_the_night_of_yesterday_makes_this_one_no_alarm():
    rhythm, now = Rhythm(), T
    for hour in range(24):
        quiet = (300 if 2 <= hour < 5 else 2) * SECOND
        while now < T + (hour + 1) * HOUR:
            now += quiet
            rhythm.learn(quiet, now)
    day, night = T + DAY + HOUR // 2, T + DAY + 2 * HOUR + MINUTE
    while now < night:
        now += 2 * SECOND
        rhythm.learn(2 * SECOND, now)
        if now <= day:
            assert rhythm.bound(now, None) == LEAST
    assert rhythm.bound(night, None) >= FACTOR * 300 * SECOND, "an hour before, nothing was longer than 2 s"


def test_one_odd_spell_moves_nothing():
    rhythm, now = Rhythm(), T
    for _ in range(5 * WINDOW // SECOND):
        now += SECOND
        rhythm.learn(SECOND, now)
    now += WINDOW - MINUTE
    rhythm.learn(10 * MINUTE, now)
    assert rhythm.bound(now, None) == LEAST


def test_what_is_a_day_old_is_forgotten_and_a_clock_that_goes_back_harms_nothing():
    rhythm = Rhythm()
    rhythm.learn(10 * MINUTE, T)
    assert rhythm.bound(T, None) == 30 * MINUTE
    assert rhythm.bound(T + 3 * DAY, None) == START
    rhythm.learn(10 * MINUTE, T - HOUR)
    assert rhythm.bound(T - HOUR, None) <= MOST


def test_the_first_minutes_of_a_busy_stream_are_enough():
    held = StreamState(Stream("x", "trade", "X", "trade", contiguous=True), first_recv=T, last_recv=T + MINUTE)
    held.events = 601
    assert Rhythm().bound(T + MINUTE, None, young(held)) == LEAST
    held.events = 5
    assert young(held) == START, "a few say nothing"
    held.events, held.last_recv = 1000, T + SECOND
    assert young(held) == START, "nor does a burst"


def test_each_stream_has_one_whichever_connection_carries_it():
    held = Rhythms()
    assert held.of("trade", "A") is held.of("trade", "A")
    assert held.of("trade", "A") is not held.of("quote", "A")
