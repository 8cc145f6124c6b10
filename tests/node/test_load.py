"""How busy a machine is: one reading for everybody, which does not jump when several ask."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exo_lab.node.load import FRESH_S, Load


class Machine:
    """Two cores, of which some part is in use; a clock that the test moves."""

    def __init__(self) -> None:
        self.now = self.used_s = 0.0

    def work(self, seconds: float, share: float) -> None:
        self.now += seconds
        self.used_s += seconds * share * 2

    def load(self) -> Load:
        return Load(lambda: self.used_s, lambda: self.now, cores=2)


@given(share=st.floats(0, 1), asked=st.lists(st.floats(0, 0.3), min_size=1, max_size=40))
def test_however_often_somebody_asks_a_steady_load_is_that_load(share, asked):
    machine = Machine()
    load = machine.load()
    assert load.value == 0
    machine.work(FRESH_S, share)
    for seconds in asked:
        assert abs(load.value - share) < 1e-6
        machine.work(seconds, share)


def test_the_real_processor_is_between_nothing_and_everything():
    now = 0.0
    load = Load(clock=lambda: now)
    now = 1.0
    assert 0 <= load.value <= 1
