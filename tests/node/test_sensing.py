from __future__ import annotations

import asyncio
from itertools import pairwise

import msgspec
import pytest

from exo_lab.core.device import Flops
from exo_lab.core.errors import NodeError
from exo_lab.core.messages import Acknowledge, GetHistory, History
from exo_lab.core.telemetry import Sample
from exo_lab.core.watching import OFF, Watching, with_thresholds
from exo_lab.node.node import Node
from exo_lab.node.sensing import Sensing
from exo_lab.telemetry.recorder import Recorder
from tests.node.clusters import Cluster, cluster, until

NOON = 1_700_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now_s = NOON

    def __call__(self) -> float:
        return self.now_s


class FakeSensors:
    """A machine that is as warm as it is told to be."""

    def __init__(self) -> None:
        self.celsius = 50.0

    def load(self):
        return {"gpu 0": 0.25}

    def temperature(self):
        return {"cpu": self.celsius}


class Machine:
    """A node that is never started, its clock and its machine."""

    def __init__(self, watching: Watching | None = None, memory_bytes: int = 1000) -> None:
        self.clock, self.sensors, self.free = Clock(), FakeSensors(), 600
        parts = Cluster().parts(
            "n", memory_bytes=memory_bytes, flops=Flops(fp32=1e-6, fp16=2e-6), free_memory=lambda: self.free
        )
        self.node = Node(parts)
        self.recorder = Recorder(None, "n", self.clock)
        self.sensing = Sensing(self.node, self.sensors, self.recorder, watching or Watching(), self.clock)
        self.changes = 0
        self.node.listeners.add(self._heard)

    def _heard(self, what: str) -> None:
        self.changes += what == "alerts"

    def run(self, seconds: float) -> None:
        """Let the node look as its loop would, for so long."""
        end_s = self.clock.now_s + seconds
        while self.clock.now_s < end_s:
            wait_s = self.sensing.look()
            assert wait_s > 0, "it would never sleep"
            self.clock.now_s += min(wait_s, end_s - self.clock.now_s)

    def points(self, quantity: str):
        return [point for one in self.recorder.series(NOON, (quantity,)) for point in one.points]


@pytest.fixture
def machine():
    made = Machine()
    yield made
    made.recorder.close()


def gaps(points):
    return {round(later - earlier, 6) for (earlier, _), (later, _) in pairwise(points)}


def test_each_sensor_is_read_as_often_as_it_should_be(machine):
    machine.run(61)
    assert {quantity: gaps(machine.points(quantity)) for quantity in ("compute", "memory", "temperature")} == {
        "compute": {5.0}, "memory": {3.0}, "temperature": {10.0},
    }  # fmt: skip
    assert [(one.about, gaps(one.points)) for one in machine.recorder.series(NOON, ("load",))] == [
        ("cpu", {10.0}), ("gpu 0", {10.0}),
    ]  # fmt: skip
    assert len(machine.points("memory")) == 21


def test_other_intervals_are_kept_and_zero_is_never():
    machine = Machine(Watching(memory_s=0.5, compute_s=0.0, device_s=0.0))
    machine.run(10)
    assert gaps(machine.points("memory")) == {0.5}
    assert not machine.points("compute") + machine.points("temperature")
    machine.recorder.close()


def test_with_every_sensor_off_nothing_is_read():
    machine = Machine(OFF)
    machine.run(300)
    assert machine.recorder.series(NOON) == ()
    machine.recorder.close()


def test_a_clock_that_is_set_back_does_not_stop_the_sensors(machine):
    machine.run(30)
    machine.clock.now_s -= 3600
    before = len(machine.recorder.series(0.0, ("memory",))[0].points)
    machine.run(30)
    assert len(machine.recorder.series(0.0, ("memory",))[0].points) == before + 10


def test_what_cannot_be_read_is_absent(machine):
    machine.sensors.temperature = dict
    machine.run(30)
    assert machine.points("temperature") == []
    assert machine.sensing.vitals.value("temperature") is None
    assert machine.points("latency") == []


def test_memory_is_the_share_that_is_used(machine):
    machine.run(1)
    assert machine.sensing.vitals.value("memory") == pytest.approx(0.4)


def test_compute_is_what_was_computed_of_what_could_have_been(machine):
    machine.run(5)
    machine.node.stages.flops += 2e6 * 5 / 4  # the device can do 2e-6 TFLOPS
    machine.run(1)
    assert machine.sensing.vitals.value("compute") == pytest.approx(0.25)


def test_heat_raises_an_alert_after_its_duration_and_clears_it_once(machine):
    machine.run(10)
    machine.sensors.celsius = 81.0
    machine.run(20)
    assert machine.sensing.vitals.alerts == ()
    machine.run(10)
    (alert,) = machine.sensing.vitals.alerts
    assert (alert.quantity, alert.about, alert.value, alert.threshold, alert.state) == (
        "temperature", "cpu", 81.0, 80.0, "raised",
    )  # fmt: skip
    assert alert.since_s == NOON + 10
    assert machine.changes == 1
    machine.sensors.celsius = 78.0  # within the band
    machine.run(120)
    assert len(machine.sensing.vitals.alerts) == 1
    machine.sensors.celsius = 70.0
    machine.run(60)
    assert machine.sensing.vitals.alerts == ()
    assert machine.changes == 2


def test_memory_above_its_threshold_is_an_alert_that_can_be_acknowledged(machine):
    machine.free = 100
    machine.run(20)
    (alert,) = machine.sensing.vitals.alerts
    assert machine.sensing.acknowledge(alert.id)
    machine.run(20)
    assert [one.state for one in machine.sensing.vitals.alerts] == ["acknowledged"]
    assert not machine.sensing.acknowledge("other")


def test_thresholds_can_be_others():
    machine = Machine(with_thresholds(Watching(), {"memory": 30}))
    machine.run(20)
    assert [one.threshold for one in machine.sensing.vitals.alerts] == [0.3]
    machine.recorder.close()


def test_a_history_that_cannot_be_kept_is_a_problem_of_the_node_and_stops_nothing(machine):
    machine.recorder.problem = "measurements cannot be kept: no room"
    machine.run(1)
    assert machine.node.problems.values() == ("measurements cannot be kept: no room",)
    machine.recorder.problem = ""
    machine.run(5)
    assert machine.node.problems.values() == ()


def test_memory_that_grows_is_foreseen_and_every_change_of_that_is_told(machine):
    machine.run(60)
    assert machine.sensing.vitals.forecasts == ()
    for _ in range(60):  # 2 a second of 1000: it goes from 40 % to 64 %
        machine.free -= 4
        machine.run(2)
    (forecast,) = machine.sensing.vitals.forecasts
    now_s = machine.clock.now_s
    assert (forecast.node, forecast.quantity, forecast.threshold) == (machine.node.id, "memory", 0.85)
    assert forecast.made_at_s + forecast.lead_s == pytest.approx(now_s + 105, abs=15)
    assert forecast.soonest_s <= forecast.lead_s
    assert machine.sensing.vitals.alerts == ()
    assert machine.changes == 1
    machine.free = 900
    machine.run(60)
    assert machine.sensing.vitals.forecasts == ()
    assert machine.changes == 2


def test_a_sensor_that_fails_is_a_problem_keeps_no_other_from_being_read_and_is_tried_again(machine):
    working = machine.sensors.temperature

    def broken():
        raise ValueError("65535 is no temperature")

    machine.sensors.temperature = broken
    machine.run(30)
    assert len(machine.points("memory")) == 10
    assert "65535" in (machine.node.problems.about("sensor device") or "")
    machine.sensors.temperature = working
    machine.run(20)
    assert machine.sensing.vitals.value("temperature") == 50.0
    assert machine.node.problems.values() == ()


# -- in a cluster ----------------------------------------------------------------------------------------------


def quick(**thresholds: float) -> Watching:
    plain = with_thresholds(Watching(compute_s=0.2, memory_s=0.2, network_s=0.2), thresholds)
    return Watching(
        compute_s=0.2,
        memory_s=0.2,
        network_s=0.2,
        rules=tuple(
            type(rule)(quantity=rule.quantity, threshold=rule.threshold, clear=rule.clear) for rule in plain.rules
        ),
    )


def test_every_node_learns_of_an_alert_and_may_acknowledge_it():
    async def main() -> None:
        async with cluster(0) as made:
            await made.add(watching=quick(memory=10), free_memory=lambda: 0)
            asker = await made.add(watching=OFF)
            await made.all_met()
            await until(lambda: alerts_of(asker), "the alert is told")
            (alert,) = alerts_of(asker)
            assert (alert.node, alert.quantity) == (made[0].id, "memory")
            await asker.parts.control.request(made[0].card.control, Acknowledge(alert=alert.id), timeout_s=5)
            await until(lambda: [one.state for one in alerts_of(asker)] == ["acknowledged"], "it is acknowledged")
            with pytest.raises(NodeError, match="no alert x-9"):
                await asker.parts.control.request(made[0].card.control, Acknowledge(alert="x-9"), timeout_s=5)

    asyncio.run(main())


def alerts_of(node):
    return [one for peer in node.members.alive() for one in peer.vitals.alerts]


def test_links_are_among_what_a_node_measures_and_its_peers_can_ask_for_all_of_it():
    async def main() -> None:
        recorder = Recorder(None, "n")
        async with cluster(0) as made:
            await made.add(watching=quick(), recorder=recorder)
            asker = await made.add()
            await made.all_met()
            question = GetHistory(since_s=0.0, quantities=("latency",))

            await until(lambda: recorder.series(0.0, ("latency",)), "the link is measured")
            answer = await asker.parts.control.request(made[0].card.control, question, timeout_s=5)
            assert isinstance(answer, History)
            assert [(one.quantity, one.about) for one in answer.series] == [("latency", asker.id)]

    asyncio.run(main())


def test_computing_counts_the_models_flops():
    async def main() -> None:
        async with cluster(0) as made:
            await made.add()
            await made.add()
            await made.all_met()
            await made.load((2, 2))
            prompt, answered = (5, 6, 7), 4
            await made.answer(prompt=prompt, max_tokens=answered)
            config = made.source.config
            positions = len(prompt) + answered - 1  # the last token is not put in again
            seen = sum(range(1, positions + 1)) * 4 * config.n_heads * config.head_dim
            layers = 2 * (positions * config.flops_per_token_per_layer + seen)
            assert made[0].stages.flops == layers
            assert made[1].stages.flops == layers + answered * config.head_flops_per_token

    asyncio.run(main())


def test_a_sample_travels_as_it_is():
    sample = Sample(1.0, "latency", 0.5, "b")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(sample), type=Sample) == sample
