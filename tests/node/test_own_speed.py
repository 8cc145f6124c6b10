"""A node measures itself once, in the background, and everybody learns of it."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from exo_lab.core.device import Device, DeviceSpeed, Flops
from exo_lab.node import own_speed
from exo_lab.node.build import with_known_speed
from exo_lab.node.own_speed import SpeedProbe
from exo_lab.telemetry.speed_cache import SpeedCache
from tests.engines.test_speed import FakeKit
from tests.node.clusters import DEADLINE_S, cluster, until

SPEED = DeviceSpeed(flops=Flops(fp32=0.2, fp16=1.0), memory_bandwidth_bytes_per_s=4e10, note="measured")
DEVICE = Device(id="x", name="x", chip="A", cores=4, computes_on="cpu")


class InstantKit(FakeKit):
    """Takes no real time: the real clock sees every part end after one run."""

    def reader(self, size_bytes):
        self.read = True
        return super().reader(size_bytes)


def undisturbed():
    return lambda: 0.0


def probe(tmp_path, busy, made=None, disturbed=undisturbed):
    def make(engine, threads):
        if made is not None:
            made.append((engine, threads))
        return InstantKit({}, 1e10)

    cache = SpeedCache(tmp_path / "speeds.json")
    return SpeedProbe(DEVICE, "numpy", 2, cache, make_kit=make, busy=busy, disturbed=disturbed, look_again_s=0.0)


def test_a_quiet_machine_is_measured_once_and_then_known(tmp_path):
    made = []
    first = probe(tmp_path, lambda: 0.0, made)
    assert first.known is None
    assert first.measure(threading.Event()) == first.known
    assert made == [("numpy", 2)]
    assert probe(tmp_path, lambda: pytest.fail("looked again")).measure(threading.Event()) == first.known


def test_a_busy_machine_is_measured_when_it_is_quiet(tmp_path):
    made, loads = [], iter([0.9, 0.6, 0.1])
    assert probe(tmp_path, lambda: next(loads), made).measure(threading.Event()) is not None
    assert len(made) == 1
    assert list(loads) == []


def test_a_measurement_that_others_disturbed_is_thrown_away_and_made_again(tmp_path):
    made, shares = [], iter([0.8, 0.3, 0.05])

    def disturbed():
        share = next(shares)
        return lambda: share

    measuring = probe(tmp_path, lambda: 0.0, made, disturbed)
    assert measuring.measure(threading.Event()) is not None
    assert len(made) == 3
    assert measuring.known is not None


def test_what_others_use_is_a_share_of_the_machine_and_not_what_this_process_uses():
    share = own_speed.used_by_others()
    began = time.process_time()
    while time.process_time() - began < 0.3:
        pass
    assert 0.0 <= share() <= 1.0


def test_a_machine_that_is_always_busy_is_not_measured(tmp_path):
    looks = []
    assert probe(tmp_path, lambda: looks.append(1) or 1.0).measure(threading.Event()) is None
    assert len(looks) == own_speed.LOOKS


def test_while_another_process_measures_it_is_waited_for_and_its_figures_are_taken(tmp_path):
    cache, stopping = SpeedCache(tmp_path / "speeds.json"), threading.Event()
    results = []
    waiting = probe(tmp_path, lambda: pytest.fail("measured beside another"))
    waiting._look_again_s = 0.01
    with cache.alone():
        thread = threading.Thread(target=lambda: results.append(waiting.measure(stopping)))
        thread.start()
        cache.keep(waiting._key, SPEED)
    thread.join(DEADLINE_S)
    assert results == [SPEED]


def test_told_to_stop_it_stops(tmp_path):
    stopping = threading.Event()
    stopping.set()
    assert probe(tmp_path, lambda: 0.0).measure(stopping) is None
    assert probe(tmp_path, lambda: 1.0).measure(stopping) is None


def test_a_node_that_measured_itself_tells_its_peers_and_keeps_what_they_know_of_it():
    async def check():
        gate = threading.Event()

        def measure(stopping):
            assert gate.wait(DEADLINE_S)
            return SPEED

        async with cluster(1) as made:
            await made.add(measure_speed=measure, slowdown=2.0, emulated="2x slower")
            await made.all_met()

            def peer():
                return made[0].members.peers[made[1].id]

            await until(lambda: peer().latency_s is not None, "a ping is answered")
            changes = []
            made[0].listeners.add(changes.append)
            before = peer()
            gate.set()
            await until(lambda: peer().card.device.speed_origin == "measured", "the peer learns of it")
            device = peer().card.device
            assert device.flops == SPEED.flops
            assert (device.emulated, device.slowdown, device.speed_note) == ("2x slower", 2.0, "measured")
            assert peer().latency_s is not None
            assert (peer().found_by, peer().liveness) == (before.found_by, "alive")
            assert peer().card.version > before.card.version
            assert "nodes" in changes
            assert {one.flops for one in made[0].topology.devices} == {Flops(), SPEED.flops}

    asyncio.run(check())


def test_a_node_stops_while_it_is_measured_and_a_measurement_that_fails_leaves_the_node_as_it_was(caplog):
    async def check():
        began = threading.Event()

        def endless(stopping):
            began.set()
            assert stopping.wait(DEADLINE_S), "nobody told it to stop"

        def failing(stopping):
            raise OSError("no such library")

        async with cluster(0) as made:
            stopped = await made.add(measure_speed=endless)
            failed = await made.add(measure_speed=failing)
            await until(began.is_set, "it measures")
            await stopped.stop()
            await until(lambda: "no such library" in caplog.text, "the failure is logged")
            assert failed.device.speed_origin == ""

    asyncio.run(check())


def test_what_was_measured_is_on_the_card_from_the_start_and_the_switch_forbids_it(tmp_path, monkeypatch):
    monkeypatch.setenv("EXO_LAB_CACHE", str(tmp_path))
    monkeypatch.setenv("EXO_LAB_PROBE", "on")
    device, measure = with_known_speed(DEVICE, "numpy", 1)
    assert (device, measure is None) == (DEVICE, False)
    SpeedCache(tmp_path / "speeds.json").keep(measure.__self__._key, SPEED)
    device, measure = with_known_speed(DEVICE, "numpy", 1)
    assert (device.flops, device.speed_origin, measure) == (SPEED.flops, "measured", None)
    monkeypatch.setenv("EXO_LAB_PROBE", "off")
    assert with_known_speed(DEVICE, "numpy", 1) == (DEVICE, None)
