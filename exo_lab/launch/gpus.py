"""Which GPU each kernel of one machine gets. Starts nothing, and knows of a GPU only what the node's device says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from exo_lab.launch.worker import CUDA_VISIBLE

if TYPE_CHECKING:
    from exo_lab.core.device import Device


def gpus_for(device: Device, count: int, started: int) -> list[str]:
    """A GPU for each of `count` kernels, in turn, as `CUDA_VISIBLE_DEVICES` names it; empty where there is no choice.

    The first one computes for this process's own node, so that the others come before it; `started` kernels have
    theirs already.
    """
    seen = [int(gpu.place.partition(":")[2]) for gpu in device.gpus if gpu.place.startswith("cuda:")]
    if len(seen) < 2 or not device.computes_on.startswith("cuda:"):
        return [""] * count
    shown = [name.strip() for name in os.environ.get(CUDA_VISIBLE, "").split(",") if name.strip()]
    names = [shown[place] if shown else str(place) for place in sorted(seen)]
    return [names[(1 + started + i) % len(names)] for i in range(count)]
