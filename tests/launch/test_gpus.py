"""A kernel that is started on a machine with several GPUs has one of its own."""

from __future__ import annotations

import os

import msgspec
import pytest

from exo_lab.core.device import Device, Gpu
from exo_lab.launch.gpus import gpus_for
from exo_lab.launch.worker import WorkerOrder, become


def machine(gpus: int, **fields) -> Device:
    listed = tuple(Gpu(name="RTX", place=f"cuda:{at}") for at in range(gpus))
    return Device(**{"id": "x", "name": "x", "computes_on": "cuda:0", "gpus": (*listed, Gpu(name="hidden")), **fields})


@pytest.mark.parametrize(
    ("shown", "started", "gpus"),
    [
        (None, 0, ["1", "2", "0", "1"]),
        (None, 1, ["2", "0", "1", "2"]),
        ("GPU-a, GPU-b,GPU-c", 0, ["GPU-b", "GPU-c", "GPU-a", "GPU-b"]),
    ],
)
def test_kernels_take_gpus_in_turn_and_leave_the_first_to_the_notebooks_node(monkeypatch, shown, started, gpus):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if shown is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    assert gpus_for(machine(3), 4, started) == gpus


@pytest.mark.parametrize("device", [machine(1), machine(0), machine(2, computes_on="cpu")])
def test_without_a_choice_a_kernel_sees_what_this_process_sees(device):
    assert gpus_for(device, 2, 0) == ["", ""]


def test_a_kernel_sees_its_own_gpu_before_it_looks_for_one(monkeypatch):
    seen = []

    class Enough(Exception):
        """Nothing more is needed of this."""

    def connect(*_, **__):
        seen.append(os.environ.get("CUDA_VISIBLE_DEVICES"))
        raise Enough

    monkeypatch.setattr("exo_lab.cluster.connect", connect)
    for gpu in ("", "1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
        with pytest.raises(Enough):
            become(msgspec.json.encode(WorkerOrder(name="kernel-1", gpu=gpu)).decode())
    assert seen == ["0,1", "1"]
