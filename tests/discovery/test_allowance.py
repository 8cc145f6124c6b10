"""Nobody makes a node work more than it allows, and one loud source does not silence the others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exo_lab.discovery.allowance import MAX_SOURCES, Allowance


def test_a_source_may_send_a_burst_and_then_its_rate():
    allowance = Allowance(per_s=2, burst=3)
    assert [allowance.take("a", 0.0) for _ in range(5)] == [True, True, True, False, False]
    assert [allowance.take("a", 1.0) for _ in range(3)] == [True, True, False]


def test_a_loud_source_leaves_the_others_their_share():
    allowance = Allowance(per_s=1, burst=1, all_per_s=10, all_burst=10)
    assert sum(allowance.take("loud", 0.0) for _ in range(1000)) == 1
    assert all(allowance.take(f"quiet {i}", 0.0) for i in range(9))


def test_made_up_sources_are_limited_together_and_not_remembered_for_ever():
    allowance = Allowance(all_per_s=10, all_burst=20)
    assert sum(allowance.take(f"made up {i}", 0.0) for i in range(5000)) == 20
    assert len(allowance._sources) <= MAX_SOURCES


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 2)), max_size=200))
def test_over_any_time_no_source_gets_more_than_burst_and_rate(arrivals):
    allowance = Allowance(per_s=5, burst=4, all_per_s=8, all_burst=6)
    now, taken = 0.0, dict.fromkeys("abc", 0)
    for source, later in arrivals:
        now += later
        taken[source] += allowance.take(source, now)
    assert all(count <= 4 + 5 * now + 1e-6 for count in taken.values())
    assert sum(taken.values()) <= 6 + 8 * now + 1e-6


def test_a_clock_that_stands_still_or_goes_back_gives_nothing_away():
    allowance = Allowance(per_s=1, burst=1)
    assert allowance.take("a", 100.0)
    assert not allowance.take("a", 50.0)
