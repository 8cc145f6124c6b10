"""What a planner is given: a model, devices, and what the user wants of them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from exo_lab.core.errors import ConfigError, DoesNotFit
from exo_lab.core.model import ModelConfig
from exo_lab.core.topology import Topology
from exo_lab.planning.coefficients import Measured

if TYPE_CHECKING:
    from exo_lab.core.device import Device

Objective = Literal["decode", "throughput", "prefill"]
MARGIN = 0.05  # of a device's memory, kept free


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One planning task.

    `order`: device ids in ring order as the user chose them; every one of them is used. Empty: all devices of the
    topology, in an order that the strategy chooses. `context_tokens` of `sessions` requests must fit in the KV caches.
    """

    config: ModelConfig
    topology: Topology
    order: tuple[str, ...] = ()
    context_tokens: int = 2048
    sessions: int = 1
    prompt_tokens: int = 512
    objective: Objective = "decode"
    memory_margin: float = MARGIN
    force: bool = False
    measured: tuple[tuple[str, Measured], ...] = ()  # (device id, what was measured of this model on it)

    @property
    def devices(self) -> tuple[Device, ...]:
        """The devices to plan for, in the order given, else by id. ConfigError if there are none."""
        if not self.order:
            if not self.topology.devices:
                raise ConfigError("there is no device to plan for")
            return self.topology.devices
        return tuple(self.device(device) for device in self.order)

    def device(self, device_id: str) -> Device:
        """The device with this id. ConfigError if the cluster has none."""
        found = self.topology.device(device_id)
        if found is None:
            raise ConfigError(f"device {device_id} is not in the cluster")
        return found

    def measured_of(self, device_id: str) -> Measured | None:
        """What was measured of the model on a device."""
        return next((measured for device, measured in self.measured if device == device_id), None)

    @property
    def kv_bytes_per_layer(self) -> int:
        """KV cache of one layer for all sessions at full context."""
        return self.config.kv_bytes_per_token_per_layer * self.context_tokens * self.sessions

    def room_bytes(self, device: Device) -> int:
        """Memory of a device that a shard may fill. 0 if it does not say how much it has."""
        free = device.memory_available_bytes or device.memory_bytes
        return max(0, int(free * (1 - self.memory_margin)))

    def shard_memory_bytes(self, start: int, end: int) -> int:
        """Memory that layers [start, end) need: weights as stored, embedding and head on the ends, KV caches."""
        return self.config.shard_bytes(start, end) + (end - start) * self.kv_bytes_per_layer


def layers_that_fit(problem: Problem, device: Device, *, first: bool, last: bool) -> int:
    """How many layers a device can hold when it is the first or the last stage; all if forced."""
    config = problem.config
    if problem.force:
        return config.n_layers
    ends = config.embedding_bytes * first + config.head_bytes * last
    if first and last and config.tied_embeddings:
        ends -= config.embedding_bytes
    left = problem.room_bytes(device) - ends
    largest = max(config.layer_bytes, default=0) + problem.kv_bytes_per_layer
    if not largest:
        return config.n_layers
    return max(0, min(config.n_layers, left // largest))


def does_not_fit(problem: Problem) -> DoesNotFit:
    """The error that says what is short by how much."""
    config = problem.config
    needed = problem.shard_memory_bytes(0, config.n_layers)
    offered = sum(problem.room_bytes(device) for device in problem.devices)
    count = len(problem.devices)
    return DoesNotFit(
        f"{config.name} needs {_gib(needed)} for weights and {problem.context_tokens} tokens of KV cache; the "
        f"{count} node{'s' * (count != 1)} offer{'s' * (count == 1)} {_gib(offered)} of memory, in portions that whole "
        f"layers must fit in. Add a device, load a smaller file, or ask for a shorter context."
    )


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
