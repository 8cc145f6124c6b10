from __future__ import annotations

from types import SimpleNamespace

import pytest

from exo_lab.telemetry.nvidia_sensors import NvidiaSensors
from exo_lab.telemetry.sensors import MachineSensors


class System:
    """What psutil says on a machine."""

    def __init__(self, temperatures=None):
        if temperatures is not None:
            self.sensors_temperatures = lambda: {
                driver: [SimpleNamespace(label="", current=value, high=None) for value in values]
                for driver, values in temperatures.items()
            }


class NvmlError(Exception):
    pass


class Nvml:
    """Two GPUs, of which the second says nothing of its load."""

    NVMLError = NvmlError
    NVML_TEMPERATURE_GPU = 0

    def nvmlInit(self):  # noqa: N802 - as the library calls it
        pass

    def nvmlDeviceGetCount(self):  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802
        return index

    def nvmlDeviceGetUtilizationRates(self, handle):  # noqa: N802
        if handle == 1:
            raise NvmlError("not supported")
        return SimpleNamespace(gpu=30, memory=5)

    def nvmlDeviceGetTemperature(self, handle, sensor):  # noqa: N802
        return 60 + handle


@pytest.mark.parametrize(
    ("temperatures", "hottest"),
    [
        ({"coretemp": [50.0, 71.0, 60.0], "nvme": [90.0]}, 71.0),
        ({"k10temp": [55.5]}, 55.5),
        ({"acpitz": [27.8], "coretemp": [64.0]}, 64.0),
        ({"cpu_thermal": [None, 48.0]}, 48.0),
    ],
)
def test_the_processors_hottest_sensor_counts(temperatures, hottest):
    assert MachineSensors(System(temperatures)).temperature() == {"cpu": hottest}


@pytest.mark.parametrize(
    "temperatures", [None, {}, {"nvme": [40.0]}, {"coretemp": [0.0]}, {"acpitz": [-273.0]}, {"coretemp": [255.0]}]
)
def test_a_sensor_that_is_missing_is_absent_and_not_zero(temperatures):
    assert MachineSensors(System(temperatures)).temperature() == {}


def test_a_driver_that_cannot_be_read_is_absent():
    system = System({})
    system.sensors_temperatures = lambda: (_ for _ in ()).throw(OSError("no such device"))
    assert MachineSensors(system).temperature() == {}


def test_gpus_are_places_of_their_own_and_say_what_they_can():
    sensors = MachineSensors(System({"coretemp": [50.0]}), NvidiaSensors(Nvml()))
    assert sensors.load() == {"gpu 0": 0.3}
    assert sensors.temperature() == {"cpu": 50.0, "gpu 0": 60.0, "gpu 1": 61.0}


def test_a_machine_without_a_driver_has_no_gpus():
    library = Nvml()
    library.nvmlInit = lambda: (_ for _ in ()).throw(NvmlError("driver not loaded"))
    assert NvidiaSensors(library).load() == {}
    assert NvidiaSensors(library).temperature() == {}


def test_this_machine_answers():
    sensors = MachineSensors(gpus=NvidiaSensors())
    assert all(0 <= share <= 1 for share in sensors.load().values())
    assert all(-50 < celsius < 200 for celsius in sensors.temperature().values())
