"""Figures of a link from round trips: what is one way, what is bandwidth, what is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exo_lab.core.probe import percentile, summarise


def test_half_of_the_round_trip_is_the_latency_and_the_rest_of_a_large_frame_its_bandwidth():
    found = summarise("a", "b", [0.002] * 99 + [0.02], [(1000, [0.003]), (100_000, [0.002 + 0.1] * 3)])
    assert found.p50_s == pytest.approx(0.001)
    assert found.p99_s == pytest.approx(0.001)  # of 100, the 99th
    assert [one.seconds for one in found.transfers] == pytest.approx([0.002, 0.101])
    assert found.transfers[1].bytes_per_s == pytest.approx(100_000 / 0.101)
    assert found.bandwidth_bytes_per_s == pytest.approx(1e6)
    assert (found.sent, found.lost, found.loss, found.sent_bytes) == (104, 0, 0.0, 301_000)


def test_what_did_not_come_back_is_lost_and_has_no_time():
    found = summarise("a", "b", [0.002, None, 0.002], [(1000, [None, None])])
    assert found.loss == pytest.approx(3 / 5)
    assert found.transfers[0].seconds is None
    assert found.transfers[0].bytes_per_s is None
    assert found.bandwidth_bytes_per_s is None


def test_a_link_that_gave_nothing_back_has_no_figures():
    found = summarise("a", "b", [None] * 3, [], "given up")
    assert (found.p50_s, found.p99_s, found.loss, found.remark) == (None, None, 1.0, "given up")
    assert summarise("a", "b", [], []).loss is None


def test_a_frame_that_was_faster_than_an_empty_one_says_nothing():
    found = summarise("a", "b", [0.002], [(1000, [0.0005])])
    assert found.transfers[0].seconds is None
    assert found.bandwidth_bytes_per_s is None


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=300), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_a_percentile_is_one_of_the_values_and_at_most_the_rest_is_above_it(values, share):
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert sum(value < found for value in values) < share * len(values) + 1e-9
