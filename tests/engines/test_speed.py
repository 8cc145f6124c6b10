"""The one-second measurement of a device, by a clock of our own and by the real libraries."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exo_lab.core.errors import Cancelled
from exo_lab.engines.speed import FORMATS, measure
from exo_lab.engines.speed_numpy import NumpyKit
from exo_lab.engines.speed_torch import TorchKit


class FakeKit:
    """A device of known speed: what is called takes as long as it would there. `first_s`: a library's first call."""

    note = "made up"

    def __init__(self, tflops: dict[str, float], bandwidth: float, first_s: float = 0.0, launch_s: float = 0.0) -> None:
        self.now, self.tflops, self.bandwidth = 0.0, tflops, bandwidth
        self.first_s, self.launch_s = dict.fromkeys(tflops, first_s), launch_s
        self.owed = 0.0  # a GPU computes later, while we wait
        self.calls = 0

    def clock(self) -> float:
        return self.now

    def product(self, number, n):
        if number not in self.tflops:
            return None

        def run():
            self.calls += 1
            self.owed += 2 * n**3 / (self.tflops[number] * 1e12) + self.first_s[number] + self.launch_s
            self.first_s[number] = 0.0

        return run

    def reader(self, size_bytes):
        def run():
            self.owed += size_bytes / self.bandwidth + self.launch_s

        return run

    def wait(self):
        self.now, self.owed = self.now + self.owed, 0.0


SPEEDS = st.floats(0.002, 1000)


@given(SPEEDS, SPEEDS, SPEEDS, st.floats(1e9, 5e12))
@settings(max_examples=200, deadline=None)
def test_what_a_device_does_is_what_is_measured_in_about_a_second(fp32, fp16, int8, bandwidth):
    kit = FakeKit({"fp32": fp32, "fp16": fp16, "int8": int8}, bandwidth, first_s=0.1)
    found = measure(kit, clock=kit.clock)
    assert found.flops.fp32 == pytest.approx(fp32)
    assert found.flops.fp16 == pytest.approx(fp16)
    assert found.flops.int8 == pytest.approx(int8)
    assert found.memory_bandwidth_bytes_per_s == pytest.approx(bandwidth)
    # Four parts of a quarter of a second; in each at most one run too many, and first calls are not counted.
    assert kit.now <= 1.0 + 3 * 0.1 + 4 * 0.8


def test_a_device_of_this_decade_takes_little_more_than_a_second():
    for tflops, bandwidth in ((0.05, 8e9), (0.2, 40e9), (100, 2e12)):
        kit = FakeKit(dict.fromkeys(FORMATS, tflops), bandwidth)
        measure(kit, clock=kit.clock)
        assert kit.now < 1.4


def test_the_time_that_a_launch_takes_hardly_counts():
    kit = FakeKit(dict.fromkeys(FORMATS, 60.0), 2e12, launch_s=20e-6)
    found = measure(kit, clock=kit.clock)
    assert found.flops.fp16 == pytest.approx(60, rel=0.02)


def test_a_format_that_a_device_does_not_have_is_not_measured():
    found = measure(kit := FakeKit({"fp32": 1.0}, 1e10), clock=kit.clock)
    assert (found.flops.fp32, found.flops.fp16, found.flops.int8) == (pytest.approx(1.0), 0.0, 0.0)


def test_it_stops_between_two_runs():
    kit = FakeKit(dict.fromkeys(FORMATS, 1.0), 1e10)
    with pytest.raises(Cancelled):
        measure(kit, clock=kit.clock, stopping=lambda: kit.calls >= 3)
    assert kit.calls == 3


def test_a_clock_that_stands_still_for_a_moment_is_no_infinite_speed():
    kit = FakeKit(dict.fromkeys(FORMATS, 1.0), 1e10)
    ticks = iter(range(10**6))
    found = measure(kit, clock=lambda: next(ticks) // 3 * 0.01)
    assert found.flops.fp32 < 1e6


@pytest.mark.parametrize("kit", [TorchKit(threads=1), NumpyKit()], ids=["torch", "numpy"])
def test_the_real_libraries_compute_and_read(kit):
    found = measure(kit, budget_s=0.1, buffer_bytes=8 << 20)
    assert 1e-4 < found.flops.fp32 < 1e3
    assert 1e8 < found.memory_bandwidth_bytes_per_s < 1e13
    assert "measured with" in found.note


def test_the_products_are_those_of_the_formats():
    assert TorchKit().product("int8", 64) is not None
    assert str(TorchKit().product("fp16", 64)().dtype) == "torch.bfloat16"
    assert NumpyKit().product("int8", 64) is None
