"""What a node says of its speed: calibrated at first, then what answers really took."""

from __future__ import annotations

import asyncio
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exo_lab.core.pace import Measured, Pace
from exo_lab.core.plan import plan_from_counts
from exo_lab.node.pace import COUNTS_FOR_S, ENOUGH, KEPT, SAMPLES, Meter, Paces, measured_of
from tests.node.clusters import MODEL, cluster, until

KNOWN = Measured(layer_s=1e-3, attend_s=1e-6, prefill_layer_s=1e-4, head_s=5e-3)


def test_before_any_answer_the_calibration_counts_stretched_by_the_emulated_slowness():
    found = Meter(10, KNOWN, slowdown=2.0).measured
    assert found.layer_s == pytest.approx(2e-3)
    assert found.head_s == pytest.approx(1e-2)
    assert found.prefill_layer_s == pytest.approx(2e-4)
    assert found.overhead_s is None


@given(factor=st.floats(0.2, 5.0), before=st.integers(0, 4000))
def test_answers_that_took_longer_stretch_layers_and_head_alike(factor, before):
    meter = Meter(10, KNOWN)
    for _ in range(ENOUGH):
        meter.computed(1, before, factor * (10 * (1e-3 + before * 1e-6) + 5e-3), head=True)
    found = meter.measured
    assert found.layer_s == pytest.approx(factor * 1e-3)
    assert found.head_s == pytest.approx(factor * 5e-3)
    assert found.attend_s == pytest.approx(factor * 1e-6)
    assert found.prefill_layer_s == pytest.approx(1e-4)


def test_a_few_steps_are_no_evidence_and_one_slow_one_among_many_is_none_either():
    meter = Meter(10, KNOWN)
    for _ in range(ENOUGH - 1):
        meter.computed(1, 0, 1.0, head=False)
    assert meter.measured.layer_s == pytest.approx(1e-3)
    for _ in range(SAMPLES):
        meter.computed(1, 0, 1e-2, head=False)
    meter.computed(1, 0, 1.0, head=False)
    assert meter.measured.layer_s == pytest.approx(1e-3)


def test_prompts_correct_the_prefill_and_nothing_else():
    meter = Meter(10, KNOWN)
    meter.computed(128, 0, 3 * 128 * 10 * 1e-4, head=False)
    assert meter.measured.prefill_layer_s == pytest.approx(3e-4)
    assert meter.measured.layer_s == pytest.approx(1e-3)


def test_the_overhead_is_the_median_of_what_book_keeping_took():
    meter = Meter(10, KNOWN)
    for beyond_s in (1e-4,) * ENOUGH + (1.0,):
        meter.handled(beyond_s)
    assert meter.measured.overhead_s == pytest.approx(1e-4)


def test_only_the_models_held_last_are_remembered():
    paces = Paces()
    plan = plan_from_counts("tiny", ("a",), (4,))
    for number in range(KEPT + 3):
        paces.keep(f"digest {number}", plan, Meter(4, KNOWN))
    assert [pace.digest for pace in paces.all] == [f"digest {number}" for number in range(3, KEPT + 3)]
    assert measured_of(paces.all, "digest 5", plan.dtype, plan.engine) is not None
    assert measured_of(paces.all, "digest 5", "float32", plan.engine) is None


@pytest.mark.parametrize("figure", [-1.0, math.inf, math.nan])
def test_figures_of_a_peer_that_cannot_be_are_as_good_as_none(figure):
    said = Pace(digest="d", dtype="auto", engine="auto", measured=msgspec.structs.replace(KNOWN, layer_s=figure))
    assert measured_of((said,), "d", "auto", "auto") is None


def test_every_node_learns_what_the_others_measured_and_how_far_they_are():
    async def check():
        async with cluster(3) as made:
            plan = await made.load((2, 2), (0, 1))
            digest = made[2].models[MODEL].digest

            def known() -> bool:
                peers = [made[2].members.peers[made[number].id] for number in (0, 1)]
                found = [measured_of(peer.paces, digest, plan.dtype, plan.engine) for peer in peers]
                return all(one is not None and one.layer_s for one in found)

            await until(known, "their paces are told")
            assert measured_of(made[2].paces.all, digest, plan.dtype, plan.engine) is None
            links = made[2].ring.echoes
            await until(lambda: len(links.links) == 2, "both links are measured")
            for link in made[2].topology.links:
                assert link.latency_s is not None
                assert 0 < link.latency_s < 1
                assert any(link.latency_s == figures.latency_s for figures in links.links.values())

    asyncio.run(check())


def test_what_was_measured_long_ago_does_not_count_any_more():
    now = 0.0
    meter = Meter(10, KNOWN, clock=lambda: now)
    for _ in range(SAMPLES):
        meter.computed(1, 0, 1.0, head=False)
        meter.handled(1.0)
    assert meter.measured.layer_s == pytest.approx(0.1)
    now = COUNTS_FOR_S + 1
    assert meter.measured.layer_s == pytest.approx(1e-3)
    assert meter.measured.overhead_s is None
