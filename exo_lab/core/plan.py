"""Who holds which layers. A plan is valid by construction (law 1)."""

from __future__ import annotations

import itertools

import msgspec

from exo_lab.core.errors import BadPlan
from exo_lab.core.shard import Shard
from exo_lab.core.wire import Rounding, Wire

MAX_STAGES = 1024
MAX_LAYERS = 1 << 16
LEAST_CHUNK, MOST_CHUNK = 16, 128
MAX_EPOCH = 1 << 53  # what JavaScript counts exactly
CONTEXT_TOKENS = 2048  # where nobody said


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Stage i is `devices[i]` holding `shards[i]`; stages are in layer order and cover every layer once.

    `epoch` orders the plans of one model; `proposer` (a node id) breaks ties, so that all nodes agree on
    which of two plans is newer. `why` holds one sentence per remark, for people. `roundings`: in the order of layers,
    where hidden states are rounded; they are float32 everywhere else. `chunk`: tokens of a piece of a prompt.
    `context_tokens`: of prompt and answer, for which the memory of its devices was asked.
    """

    model: str
    n_layers: int
    devices: tuple[str, ...]
    shards: tuple[Shard, ...]
    epoch: int = 0
    proposer: str = ""
    strategy: str = "manual"
    why: tuple[str, ...] = ()
    dtype: str = "auto"
    engine: str = "auto"
    roundings: tuple[Rounding, ...] = ()
    chunk: int = MOST_CHUNK
    context_tokens: int = CONTEXT_TOKENS

    def __post_init__(self) -> None:
        if not self.shards or len(self.devices) != len(self.shards):
            raise BadPlan(f"plan for {self.model}: {len(self.devices)} devices but {len(self.shards)} shards")
        if len(set(self.devices)) != len(self.devices):
            raise BadPlan(f"plan for {self.model}: a device appears in two stages; a stage is one device")
        if len(self.devices) > MAX_STAGES or self.n_layers > MAX_LAYERS:
            raise BadPlan(
                f"plan for {self.model}: {len(self.devices)} stages and {self.n_layers} layers; at most {MAX_STAGES} "
                f"and {MAX_LAYERS} are possible"
            )
        if not 0 <= self.epoch < MAX_EPOCH:
            raise BadPlan(f"plan for {self.model}: epoch {self.epoch} is not in [0, 2^53)")
        if not LEAST_CHUNK <= self.chunk <= MOST_CHUNK:
            raise BadPlan(
                f"plan for {self.model}: chunks of {self.chunk} tokens; {LEAST_CHUNK} to {MOST_CHUNK} are possible"
            )
        if not 0 < self.context_tokens < MAX_EPOCH:
            raise BadPlan(f"plan for {self.model}: a context of {self.context_tokens} tokens is not in [1, 2^53)")
        layers = [0, *(rounding.layer for rounding in self.roundings), self.n_layers]
        if any(before >= after for before, after in itertools.pairwise(layers)) and self.roundings:
            raise BadPlan(f"plan for {self.model}: hidden states cannot be rounded before the layers {layers[1:-1]}")
        at = 0
        for shard in self.shards:
            if shard.model != self.model or shard.n_layers != self.n_layers:
                raise BadPlan(f"plan for {self.model}: a shard belongs to {shard.model} ({shard.n_layers} layers)")
            if shard.start != at:
                word = "missing" if shard.start > at else "held twice"
                raise BadPlan(f"plan for {self.model}: layer {min(at, shard.start)} is {word}")
            at = shard.end
        if at != self.n_layers:
            raise BadPlan(f"plan for {self.model}: layers {at} to {self.n_layers - 1} are held by nobody")

    @property
    def rank(self) -> tuple[int, str]:
        """Newer plans rank higher; total order, equal only for the same plan."""
        return self.epoch, self.proposer

    def stage_of(self, device: str) -> int | None:
        """The index of the stage that a device is, or None."""
        return self.devices.index(device) if device in self.devices else None

    def wire_into(self, stage: int) -> Wire:
        """In what precision hidden states come to a stage."""
        start = self.shards[stage].start
        for rounding in self.roundings:
            if rounding.layer == start:
                return rounding.dtype
        return "float32"

    def wire_out_of(self, stage: int) -> Wire:
        """In what precision a stage sends them on; the last one sends none."""
        return "float32" if stage + 1 == len(self.shards) else self.wire_into(stage + 1)

    def roundings_within(self, stage: int) -> tuple[Rounding, ...]:
        """Where a stage rounds between layers of its own."""
        shard = self.shards[stage]
        return tuple(rounding for rounding in self.roundings if shard.start < rounding.layer < shard.end)


def plan_from_counts(
    model: str,
    devices: tuple[str, ...],
    counts: tuple[int, ...],
    *,
    strategy: str = "manual",
    why: tuple[str, ...] = (),
) -> Plan:
    """A plan that gives `counts[i]` layers to `devices[i]`; devices with none are left out (with their counts)."""
    if len(devices) != len(counts):
        raise BadPlan(f"{len(counts)} layer counts for {len(devices)} devices; give one count per device")
    if any(count < 0 for count in counts) or sum(counts) <= 0:
        raise BadPlan(f"layer counts must not be negative and must add up to the model's layers, got {list(counts)}")
    n_layers, at = sum(counts), 0
    kept: list[str] = []
    shards: list[Shard] = []
    for device, count in zip(devices, counts, strict=True):
        if count:
            kept.append(device)
            shards.append(Shard(model=model, start=at, end=at + count, n_layers=n_layers))
            at += count
    return Plan(model=model, n_layers=n_layers, devices=tuple(kept), shards=tuple(shards), strategy=strategy, why=why)
