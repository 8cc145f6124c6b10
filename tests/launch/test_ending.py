"""Only processes that were started here are ended or troubled, and whatever goes wrong the node leaves its cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest

from exo_lab.cluster import Cluster
from exo_lab.core.errors import ConfigError
from exo_lab.launch.kernels import Kernels, _Set
from exo_lab.launch.leash import Holder
from exo_lab.launch.trouble import trouble
from exo_lab.launch.worker import WorkerReport
from exo_lab.node.parts import NodeOptions
from exo_lab.transport.keys import new_token

WITHIN_S = 10.0


class Parallel:
    """What `_Set` needs of ipyparallel: none of its engines is there any more."""

    ids = ()

    def __init__(self, stumbles: bool = False) -> None:
        self.stumbles = stumbles
        self.stopped = False

    def close(self) -> None:
        if self.stumbles:
            raise OSError("the connection is gone")

    def stop_cluster_sync(self) -> None:
        self.stopped = True


@pytest.fixture
def somebody():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def kernels_with(process: Holder, *, local: bool = True, parallel: Parallel | None = None) -> Kernels:
    parallel = parallel or Parallel()
    report = WorkerReport(id="n1", name="kernel-1", control="tcp://10.0.0.9:1", process=process)
    made = Kernels("token")
    made._sets.append(_Set(parallel, parallel, {"kernel-1": (0, report)}, None, local))
    return made


def test_a_kernel_of_this_machine_is_ended_also_when_ipyparallel_stumbles(somebody):
    parallel = Parallel(stumbles=True)
    kernels = kernels_with(Holder.of(somebody.pid), parallel=parallel)
    assert kernels.stop() == 1
    assert somebody.wait(WITHIN_S) != 0
    assert parallel.stopped


def test_the_process_id_of_a_kernel_on_another_machine_says_nothing_here(somebody):
    there = kernels_with(Holder.of(somebody.pid), local=False)
    with pytest.raises(ConfigError, match="on another machine"):
        trouble(there, "kernel-1", "kill")
    assert there.stop() == 1
    assert somebody.poll() is None


def test_a_process_that_only_has_the_id_of_a_kernel_now_is_left_alone(somebody):
    earlier = Holder(somebody.pid, Holder.of(somebody.pid).started - 60)
    with pytest.raises(ConfigError, match="gone already"):
        trouble(kernels_with(earlier), "kernel-1", "kill")
    assert kernels_with(earlier).stop() == 1
    assert somebody.poll() is None


def test_a_process_that_may_not_be_ended_keeps_nothing_else_from_ending(monkeypatch):
    def refuse(self: psutil.Process, *_: object) -> None:
        raise psutil.AccessDenied(self.pid)

    for name in ("kill", "send_signal"):
        monkeypatch.setattr(psutil.Process, name, refuse)
    kernels = kernels_with(Holder.of(os.getpid()))
    with pytest.raises(ConfigError, match="does not let"):
        trouble(kernels, "kernel-1", "freeze")
    assert kernels.stop() == 1


def test_a_node_leaves_its_cluster_also_when_its_kernels_do_not_end():
    def fail() -> None:
        raise OSError("a kernel does not end")

    cluster = Cluster(NodeOptions(name="notebook", threads=1), new_token())
    cluster._kernels = SimpleNamespace(close=fail)
    stopped = []
    stop = cluster.node.stop
    cluster.node.stop = lambda: stopped.append(True) or stop()
    with pytest.raises(OSError, match="does not end"):
        cluster.close()
    assert stopped
