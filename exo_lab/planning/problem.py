"""What a planner is given: a model, devices, and what the user wants of them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from exo_lab.core.errors import ConfigError
from exo_lab.core.model import ModelConfig
from exo_lab.core.pace import Measured
from exo_lab.core.topology import Topology
from exo_lab.core.wire import Wire
from exo_lab.planning.footprint import footprint_of

if TYPE_CHECKING:
    from exo_lab.core.device import Device
    from exo_lab.planning.footprint import Footprint

Objective = Literal["decode", "throughput", "prefill"]
OBJECTIVES: tuple[Objective, ...] = ("decode", "throughput", "prefill")
MARGIN = 0.05  # of a device's memory, kept free
PROMPT_TOKENS = 512  # of a prompt that nobody described
PREFILL_CHUNK = 128  # tokens; the chunk of engines/base


class Mix(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A weighted sum of the objectives, all in seconds: decode x token + throughput x bottleneck + prefill x TTFT.

    A request of n answer tokens takes `Mix(decode=n, prefill=1)`.
    """

    decode: float = 0.0
    throughput: float = 0.0
    prefill: float = 0.0


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One planning task.

    `order`: device ids in ring order as the user chose them. Empty: all devices of the topology, in an order that the
    strategy chooses. `required`: ids that must get a layer; None means all of `order` (and nobody where that is empty).
    `context_tokens` of `sessions` requests must fit in the KV caches. `mix`, if given, replaces `objective`.
    `dtype`, `engine`: as what and with what it is loaded; both decide what weights take in memory (`footprint`).
    `force` overrides the memory check. `wire`: the precision of hidden states on their way, "auto" where the links
    decide. `chunk`: tokens of a piece of a prompt. `measured`: what was measured of this model, by device id; it beats
    every table.
    """

    config: ModelConfig
    topology: Topology
    order: tuple[str, ...] = ()
    required: tuple[str, ...] | None = None
    context_tokens: int = 2048
    sessions: int = 1
    prompt_tokens: int = PROMPT_TOKENS
    objective: Objective = "decode"
    mix: Mix | None = None
    memory_margin: float = MARGIN
    dtype: str = "auto"
    engine: str = "auto"
    force: bool = False
    wire: Wire | Literal["auto"] = "float32"
    chunk: int = PREFILL_CHUNK
    measured: tuple[tuple[str, Measured], ...] = ()

    def __post_init__(self) -> None:
        checks = (
            (self.context_tokens > 0, "context_tokens", self.context_tokens, "1 or more"),
            (self.sessions > 0, "sessions", self.sessions, "1 or more"),
            (self.prompt_tokens > 0, "prompt_tokens", self.prompt_tokens, "1 or more"),
            (0 <= self.memory_margin < 1, "memory_margin", self.memory_margin, "in [0, 1)"),
            (self.objective in OBJECTIVES, "objective", repr(self.objective), f"one of {', '.join(OBJECTIVES)}"),
            (len(set(self.order)) == len(self.order), "order", list(self.order), "free of repeats"),
            (not self.config.layer_bytes or len(self.config.layer_bytes) == self.config.n_layers,
             "layer_bytes", len(self.config.layer_bytes), f"one for each of the {self.config.n_layers} layers"),
        )  # fmt: skip
        for good, field, value, rule in checks:
            if not good:
                raise ConfigError(f"{field} must be {rule}, got {value}")
        mix = self.mix
        if mix is not None and not (min(mix.decode, mix.throughput, mix.prefill) >= 0 and mix != Mix()):
            raise ConfigError(f"the weights of a mix must be 0 or more, and one of them above 0; got {mix}")

    @property
    def devices(self) -> tuple[Device, ...]:
        """The devices to plan for, in the order given, else by id. ConfigError if there are none."""
        if not self.order:
            if not self.topology.devices:
                raise ConfigError("there is no device to plan for. Connect one, or describe it by hand.")
            return self.topology.devices
        return tuple(self.device(device) for device in self.order)

    @property
    def must_use(self) -> frozenset[str]:
        """Ids of the devices that must get a layer."""
        return frozenset(self.order if self.required is None else self.required)

    def device(self, device_id: str) -> Device:
        """The device with this id. ConfigError if the cluster has none."""
        found = self.topology.device(device_id)
        if found is None:
            raise ConfigError(f"device {device_id} is not in the cluster")
        return found

    def measured_of(self, device_id: str) -> Measured | None:
        """What was measured of the model on a device."""
        return next((measured for device, measured in self.measured if device == device_id), None)

    def footprint(self, device: Device) -> Footprint:
        """What the model's weights and caches take in the memory of a device."""
        return footprint_of(self.config, device, self.dtype, self.engine)

    def kv_bytes_per_layer(self, device: Device) -> int:
        """KV cache of one layer for all sessions at full context."""
        return self.footprint(device).cached * self.context_tokens * self.sessions

    @property
    def activation_bytes(self) -> int:
        """Working space of a stage: one chunk through one layer, float32 (hidden states, queries, feed-forward)."""
        config = self.config
        width = 4 * config.hidden_size + 2 * config.n_heads * config.head_dim + 2 * config.intermediate_size
        return 4 * min(PREFILL_CHUNK, self.prompt_tokens) * width

    def memory_bytes(self, device: Device) -> int:
        """What counts as a device's memory: what is free if it says so, else all; its share, where others draw on it.

        Raises:
            ConfigError: it says that it has less than nothing.
        """
        free = device.memory_available_bytes or device.memory_bytes
        if free < 0:
            raise ConfigError(f"{device.name} says that it has {free} bytes of memory; that must be 0 or more")
        if not device.memory_id:
            return free
        return free // max(1, sum(one.memory_id == device.memory_id for one in self.devices))

    def room_bytes(self, device: Device) -> int:
        """Memory of a device that a shard may fill. 0 if it does not say how much it has; errors as `memory_bytes`."""
        return int(self.memory_bytes(device) * (1 - self.memory_margin))

    def shard_memory_bytes(self, device: Device, start: int, end: int) -> int:
        """Memory of layers [start, end) on a device: weights with those of the ends, KV caches, working space."""
        held = self.footprint(device)
        cached = (end - start) * held.cached * self.context_tokens * self.sessions
        return held.weights(start, end) + cached + self.activation_bytes

    @property
    def least_memory_bytes(self) -> int:
        """Memory of the whole model on that of the devices where it takes the least."""
        return min(self.shard_memory_bytes(device, 0, self.config.n_layers) for device in self.devices)

    def layer_memory_bytes(self, device: Device) -> int:
        """Memory of the largest layer on a device, its KV cache included."""
        return max(self.footprint(device).layers) + self.kv_bytes_per_layer(device)
