"""GPUs by way of a stand-in for NVIDIA's library; there is no GPU where this was written."""

# ruff: noqa: N802 - the stand-in has the library's names

from __future__ import annotations

from types import SimpleNamespace

import pynvml

from exo_lab.telemetry.machine import ThisMachine
from exo_lab.telemetry.nvidia import GpuReading, Nvidia


class Library:
    """Behaves as pynvml: functions at the top, errors of one class. `broken` names functions that fail."""

    class NVMLError(Exception):
        pass

    def __init__(self, names, broken=()):
        self.names, self.broken, self.starts = names, set(broken), 0

    def _may(self, function):
        if function in self.broken:
            raise self.NVMLError(function)

    def nvmlInit(self):
        self.starts += 1
        self._may("init")

    def nvmlDeviceGetCount(self):
        self._may("count")
        return len(self.names)

    def nvmlDeviceGetHandleByIndex(self, index):
        self._may(f"handle {index}")
        return index

    def nvmlDeviceGetName(self, handle):
        return self.names[handle]

    def nvmlDeviceGetUUID(self, handle):
        self._may("uuid")
        return f"GPU-{handle}"

    def nvmlDeviceGetMemoryInfo(self, handle):
        self._may("memory")
        return SimpleNamespace(total=(handle + 1) << 30, free=handle << 30, used=1 << 30)


def test_every_gpu_is_read_and_not_only_the_first():
    library = Library(["Tesla T4", b"NVIDIA A100-SXM4-80GB"])  # old versions gave bytes
    nvidia = Nvidia(library)
    assert nvidia.gpus() == (
        GpuReading(name="Tesla T4", uuid="GPU-0", memory_bytes=1 << 30, memory_free_bytes=0),
        GpuReading(
            name="NVIDIA A100-SXM4-80GB", index=1, uuid="GPU-1", memory_bytes=2 << 30, memory_free_bytes=1 << 30
        ),
    )
    assert nvidia.gpu(1) == nvidia.gpus()[1]
    assert library.starts == 1


def test_no_driver_is_no_gpu_and_is_asked_for_once():
    library = Library(["Tesla T4"], broken=["init"])
    nvidia = Nvidia(library)
    assert nvidia.gpus() == ()
    assert nvidia.gpu(0) is None
    assert library.starts == 1


def test_a_gpu_that_cannot_be_asked_leaves_the_others():
    left = Nvidia(Library(["A", "B", "C"], broken=["handle 1"])).gpus()
    assert [(one.name, one.index) for one in left] == [("A", 0), ("C", 2)]
    assert Nvidia(Library(["A"], broken=["count"])).gpus() == ()


def test_a_gpu_without_a_memory_of_its_own_has_none():
    assert Nvidia(Library(["NVIDIA GB10"], broken=["memory", "uuid"])).gpu(0) == GpuReading(name="NVIDIA GB10")


def test_the_real_library_has_what_the_stand_in_has():
    for name in ("nvmlInit", *(name for name in vars(Library) if name.startswith("nvmlDevice"))):
        assert callable(getattr(pynvml, name))
    assert issubclass(pynvml.NVMLError, Exception)


def test_this_machine_answers_whether_or_not_there_is_a_driver():
    machine = ThisMachine()
    assert isinstance(machine.gpus(), tuple)
    assert machine.text("/no/such/file") is None
    assert machine.sysctl("exo_lab.none") is None
    assert machine.registry("SOFTWARE", "none") is None
    assert machine.module_text("no_such_module_of_ours", "version.py") is None
