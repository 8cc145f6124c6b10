from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from exo_lab.core.telemetry import Sample
from exo_lab.core.watching import RULES, Watching
from exo_lab.telemetry.forecast import HORIZON_S, blocks, foresee, trend, turned_at
from exo_lab.telemetry.foresight import AGREED, LET_GO, LOOK_S, Foresight

NOON = 1e9
MEMORY = next(rule for rule in RULES if rule.quantity == "memory")
HEAT = next(rule for rule in RULES if rule.quantity == "temperature")


def samples(values, every_s=3.0, quantity="memory", about=""):
    return [Sample(NOON + count * every_s, quantity, float(value), about) for count, value in enumerate(values)]


def ramp(rate_per_s, count=60, start=0.3, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    return samples(start + rate_per_s * 3.0 * np.arange(count) + rng.normal(0, noise, count))


@settings(max_examples=50)
@given(st.floats(0.0008, 0.004), st.floats(0.1, 0.6), st.integers(45, 120))
def test_a_steady_growth_reaches_the_threshold_when_arithmetic_says_so(rate, start, count):
    readings = ramp(rate, count, start)
    left_s = (MEMORY.threshold - readings[-1].value) / rate
    assume(5 < left_s < HORIZON_S - 1)
    found = foresee("n", MEMORY, readings)
    assert found is not None
    assert found.lead_s == pytest.approx(left_s, rel=1e-3, abs=0.1)
    assert found.soonest_s <= found.lead_s + 1e-6
    assert found.latest_s is not None
    assert found.latest_s >= found.lead_s - 1e-6


@settings(max_examples=50)
@given(st.floats(-0.004, 0.0), st.floats(0.2, 0.8), st.integers(0, 100))
def test_what_does_not_grow_is_never_foreseen(rate, start, seed):
    assert foresee("n", MEMORY, ramp(rate, 50, start, noise=0.002, seed=seed)) is None


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1), max_size=80), st.floats(0.5, 20.0))
def test_whatever_is_measured_figures_of_a_forecast_are_in_order(values, every_s):
    found = foresee("n", MEMORY, samples(values, every_s))
    if found is not None:
        assert 0 <= found.soonest_s <= found.lead_s <= HORIZON_S
        assert found.latest_s is None or math.isfinite(found.latest_s)
        assert found.latest_s is None or found.latest_s >= found.lead_s


def test_what_is_too_far_away_is_not_foreseen():
    assert foresee("n", MEMORY, ramp(0.0002)) is None


def test_too_few_readings_are_no_trend():
    assert foresee("n", MEMORY, ramp(0.003, 7)) is None
    assert foresee("n", MEMORY, []) is None


def test_a_step_is_no_trend():
    assert foresee("n", MEMORY, samples([0.3] * 30 + [0.7] * 10)) is None


def test_what_levels_off_below_the_threshold_is_no_warning_once_it_can_be_seen():
    t = np.arange(0, 400, 10.0)
    levels_off = samples(50 + 27 * (1 - np.exp(-t / 60)), 10.0, "temperature")
    assert foresee("n", HEAT, levels_off[:30]) is None
    hot = samples(50 + 50 * (1 - np.exp(-t / 200)), 10.0, "temperature")
    found = foresee("n", HEAT, hot[:17])
    crossing_s = -200 * math.log(1 - 30 / 50) - 160
    assert found is not None
    assert found.lead_s == pytest.approx(crossing_s, rel=0.6)


def test_single_readings_that_stand_out_change_little():
    plain = ramp(0.002, 60)
    values = [one.value for one in plain]
    for at in (10, 25, 40, 55):
        values[at] = 0.84
    one, other = foresee("n", MEMORY, plain), foresee("n", MEMORY, samples(values))
    assert one is not None
    assert other is not None
    assert other.lead_s == pytest.approx(one.lead_s, rel=0.1)


def test_what_has_just_fallen_is_no_warning():
    rising = [one.value for one in ramp(0.004, 40)]
    assert foresee("n", MEMORY, samples(rising)) is not None
    assert foresee("n", MEMORY, samples([*rising, 0.3, 0.3, 0.3])) is None


def test_what_turns_around_again_and_again_is_no_warning_until_it_is_higher():
    teeth = [0.4 + 0.3 * (count % 40) / 40 for count in range(160)]
    assert foresee("n", MEMORY, samples(teeth[:150])) is None
    higher = [*teeth, *[0.4 + 0.3 * count / 40 for count in range(50)]]
    assert foresee("n", MEMORY, samples(higher)) is not None


def test_the_slope_is_the_one_that_was_published():
    # Sen (1968), the example of section 6: x 1, 2, 3, 4, 10, 12, 18 and y 9, 15, 19, 20, 45, 55, 78 give 4.
    x, y = np.array([1, 2, 3, 4, 10, 12, 18.0]), np.array([9, 15, 19, 20, 45, 55, 78.0])
    assert trend(x, y).slope == pytest.approx(4.0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=100), st.integers(1, 60))
def test_blocks_keep_the_latest_readings_and_are_few(values, most):
    readings = samples(values)
    at_s, middles = blocks(readings, most)
    assert len(at_s) == len(middles) <= most
    assert at_s[-1] <= readings[-1].at_s
    assert all(min(values) <= middle <= max(values) for middle in middles)


def test_turns_are_ascents_that_were_followed_by_descents():
    assert turned_at([0, 1, 2, 3, 1, 0, 2, 4, 1], 2) == [3, 4]
    assert turned_at([0, 1, 2, 3], 2) == []
    assert turned_at([3, 2, 1, 0], 2) == []


# -- shown -------------------------------------------------------------------------------------------------------


def test_a_forecast_is_shown_when_looks_agree_and_is_taken_back_later():
    foresight, shown = Foresight("n", Watching()), []
    values = [0.3] * 50 + [0.3 + 0.003 * 3 * count for count in range(50)] + [0.3] * 50
    for sample in samples(values):
        foresight.add([sample])
        shown.append(bool(foresight.look(sample.at_s)))
    first, last = shown.index(True), len(shown) - 1 - shown[::-1].index(True)
    assert first > 50
    assert shown[first : last + 1] == [True] * (last - first + 1)
    readings_a_look = math.ceil(LOOK_S / 3)
    assert first - 50 >= (AGREED - 1) * readings_a_look
    assert 100 <= last <= 100 + (LET_GO + 2) * readings_a_look


def test_what_has_no_threshold_is_not_looked_at():
    foresight = Foresight("n", Watching())
    foresight.add(samples([0.1 * count for count in range(60)], quantity="bandwidth"))
    assert foresight.look(NOON + 180) == ()


def test_a_link_that_is_gone_is_foreseen_no_more():
    foresight = Foresight("n", Watching())
    for sample in samples([0.001 * count for count in range(90)], 1.0, "latency", "b"):
        foresight.add([sample])
        foresight.look(sample.at_s)
    assert [one.about for one in foresight.forecasts] == ["b"]
    foresight.keep_only("latency", {"c"})
    assert foresight.look(NOON + 120) == ()


def test_a_clock_that_is_set_back_begins_anew():
    foresight = Foresight("n", Watching())
    foresight.add(ramp(0.003, 50))
    foresight.add([Sample(NOON - 1000, "memory", 0.5)])
    assert foresight.look(NOON - 1000) == ()
