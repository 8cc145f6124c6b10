"""The sampler looks at most four times a second, hears of answers, and ends with the cluster."""

from __future__ import annotations

import threading

import pytest

from exo_lab import hearing
from exo_lab.core.errors import NodeError
from exo_lab.core.messages import StageTiming, Stats
from exo_lab.core.status import TokenEvent
from exo_lab.front.widgets.history import History
from exo_lab.front.widgets.sampler import FASTEST_S, Pulse, Sampler
from tests.front import scenes


class Watched:
    def __init__(self) -> None:
        self.closed, self.counts, self.fail = False, 0, False
        self.looked = threading.Semaphore(0)

    def status(self):
        self.looked.release()
        if self.fail:
            raise NodeError("gone for a moment")
        return scenes.status()

    def links(self):
        return ()

    def counters(self):
        self.counts += 1
        return {f"{1:012x}": Stats(sessions=1)}


def event(index: int, at_s: float, compute_s: float = 0.01) -> TokenEvent:
    timings = (StageTiming("a", compute_s, compute_s), StageTiming("b", 2 * compute_s, 2 * compute_s))
    return TokenEvent(index=index, token=1, text="x", logprob=-0.1, at_s=at_s, timings=timings)


def test_the_pulse_is_the_decode_rate_and_the_mean_of_each_stage():
    pulse = Pulse()
    for i in range(5):
        pulse.token("r", event(i, 0.5 + 0.1 * i, 9.0 if i == 0 else 0.01 * i))
    paced = pulse.take()
    assert paced.tokens_per_s == pytest.approx(10.0)
    assert dict(paced.stage_s) == pytest.approx({"a": 0.025, "b": 0.05})  # without the prompt's
    assert pulse.take().tokens_per_s is None  # nothing came since
    pulse.token("r", event(5, 1.0))
    assert pulse.take().tokens_per_s == pytest.approx(10.0)
    pulse.token("another", event(0, 0.2))
    assert pulse.take().tokens_per_s is None  # one token has no rate


def test_nobody_can_have_it_look_more_than_four_times_a_second():
    assert Sampler(Watched(), History(), lambda _: None, every_s=0.001).every_s == FASTEST_S == 0.25


def test_ten_minutes_of_a_fake_clock_fill_the_history_and_ask_the_nodes_every_two_seconds_only():
    watched, history, now = Watched(), History(), [0.0]
    sampler = Sampler(watched, history, lambda _: None, wall=lambda: 1e9 + now[0], clock=lambda: now[0])
    for _ in range(2400):
        sampler.look()
        now[0] += 0.25
    assert len(history.moments) == 2400
    assert watched.counts == 300
    size = len(history.moments)
    for _ in range(2400):
        sampler.look()
        now[0] += 0.25
    assert len(history.moments) == size


def test_an_error_is_a_gap_and_closing_the_cluster_is_the_end():
    watched, told = Watched(), threading.Semaphore(0)
    sampler = Sampler(watched, History(), lambda _: told.release(), every_s=0.25)
    sampler.start()
    try:
        assert told.acquire(timeout=10)
        watched.fail = True
        while watched.looked.acquire(blocking=False):
            pass
        assert watched.looked.acquire(timeout=10)
        assert watched.looked.acquire(timeout=10)  # it goes on after the first error
        watched.fail = False
        while told.acquire(blocking=False):
            pass
        assert told.acquire(timeout=10)
        watched.closed = True
        sampler._thread.join(10)
        assert not sampler.running
        assert hearing.ears() == ()
    finally:
        sampler.stop()


def test_stop_may_be_called_twice_and_leaves_no_ear_behind():
    sampler = Sampler(Watched(), History(), lambda _: None)
    sampler.start()
    assert len(hearing.ears()) == 1
    sampler.stop()
    sampler.stop()
    assert hearing.ears() == ()
    assert not sampler.running
