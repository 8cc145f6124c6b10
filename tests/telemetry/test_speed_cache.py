"""What was measured is kept, by this user alone, and a broken file is no file."""

from __future__ import annotations

import os
import stat
import threading

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exo_lab.core.device import Device, DeviceSpeed, Flops
from exo_lab.telemetry.speed_cache import MAX_KEPT, SpeedCache, key_of

SPEED = DeviceSpeed(flops=Flops(fp32=0.2, fp16=1.0), memory_bandwidth_bytes_per_s=4e10, note="measured")


def test_what_is_kept_is_there_for_another_process_and_for_this_user_only(tmp_path):
    path = tmp_path / "made" / "speeds.json"
    SpeedCache(path).keep("a", SPEED)
    SpeedCache(path).keep("b", msgspec.structs.replace(SPEED, note="other"))
    assert SpeedCache(path).get("a") == SPEED
    assert SpeedCache(path).get("b").note == "other"
    assert SpeedCache(path).get("c") is None
    assert os.name == "nt" or stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["speeds.json"]


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_a_broken_file_holds_nothing_and_is_replaced(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "broken.json"
    path.write_bytes(content)
    cache = SpeedCache(path)
    assert cache.get("a") is None
    cache.keep("a", SPEED)
    assert cache.get("a") == SPEED


@pytest.mark.parametrize("figure", ["-1.0", "1e999", '"fast"', "null"])
def test_figures_that_cannot_be_are_not_believed(tmp_path, figure):
    path = tmp_path / "speeds.json"
    SpeedCache(path).keep("a", SPEED)
    path.write_text(path.read_text().replace("40000000000.0", figure))
    assert figure in path.read_text()
    assert SpeedCache(path).get("a") is None


def test_a_file_of_a_later_version_is_left_unread(tmp_path):
    path = tmp_path / "speeds.json"
    SpeedCache(path).keep("a", SPEED)
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    assert SpeedCache(path).get("a") is None


def test_the_file_does_not_grow_for_ever(tmp_path):
    cache = SpeedCache(tmp_path / "speeds.json")
    for number in range(MAX_KEPT + 2):
        cache.keep(str(number), SPEED)
    assert cache.get("1") is None
    assert cache.get(str(MAX_KEPT + 1)) == SPEED


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    cache = SpeedCache(tmp_path / "file" / "speeds.json")
    cache.keep("a", SPEED)
    assert cache.get("a") is None
    with cache.alone() as alone:
        assert not alone


def test_one_measures_at_a_time(tmp_path):
    path, answers = tmp_path / "speeds.json", []

    def other():
        with SpeedCache(path).alone() as alone:
            answers.append(alone)

    with SpeedCache(path).alone() as alone:
        assert alone
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(10)
    other()
    assert answers == [False, True]


def test_another_chip_count_of_cores_threads_place_engine_or_version_is_another_key():
    device = Device(id="x", name="x", chip="A", cores=4, computes_on="cpu")
    options = {"engine": "torch", "version": "2.9", "threads": 0}
    keys = [key_of(device, **options)]
    keys += [key_of(device, **{**options, name: value}) for name, value in (("threads", 2), ("version", "3"))]
    keys += [key_of(device, **{**options, "engine": "numpy"})]
    for change in ({"chip": "B"}, {"cores": 8}, {"computes_on": "cuda:0"}):
        keys.append(key_of(msgspec.structs.replace(device, **change), **options))
    assert len(set(keys)) == 7
    assert key_of(msgspec.structs.replace(device, id="y", name="y", memory_bytes=5), **options) == keys[0]
