"""Real kernels that are killed, frozen, starved of processor time: what is noticed, how soon, and what is not."""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing import resource_tracker

import pytest
import zmq

from tests.faults.kernel_storm import KINDS, KernelStorm
from tests.faults.leftovers import nothing_left

pytestmark = [pytest.mark.kernels, pytest.mark.real_model, pytest.mark.slow, pytest.mark.timeout(300)]

KILLED_WITHIN_S, FROZEN_WITHIN_S = 1.0, 3.0
LOAD_S = 8.0


@pytest.fixture(scope="module")
def weather(real_model):
    resource_tracker.ensure_running()  # Python's own, which starts with the first process and stays
    zmq.Context.instance().socket(zmq.PAIR).close()  # jupyter_client's context lives as long as the process
    with nothing_left(), KernelStorm(seed=5) as made:
        yield made


@pytest.mark.parametrize("time_", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_signals_at_random_tokens_change_no_token(weather, kind, time_):
    outcome = weather.strike(kind)
    assert not outcome["hung"], outcome
    assert not outcome["wrong"], outcome
    assert outcome["same"], outcome
    if kind == "kill":
        assert outcome["noticed_s"] < KILLED_WITHIN_S, outcome
    elif kind == "freeze":
        assert outcome["noticed_s"] < FROZEN_WITHIN_S, outcome
    else:
        assert outcome["noticed_s"] is None, outcome


def burn(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(n * n for n in range(1000))


def test_nobody_is_taken_for_dead_on_a_machine_that_is_fully_loaded(weather):
    weather._heal()
    lost: list[str] = []
    node = weather.cluster.node
    before = {peer.id for peer in node.members.alive()}
    spawn = multiprocessing.get_context("spawn")
    burners = [spawn.Process(target=burn, args=(LOAD_S,)) for _ in range(3 * (os.cpu_count() or 1))]
    for burner in burners:
        burner.start()
    try:
        end = time.monotonic() + LOAD_S
        while time.monotonic() < end:
            lost += [peer.id for peer in node.members.peers.values() if peer.id in before and peer.liveness == "lost"]
            time.sleep(0.02)
    finally:
        for burner in burners:
            burner.join(30)
    assert lost == []
