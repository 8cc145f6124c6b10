"""What a plan costs: seconds of a decoded token, of a prompt, and of the busiest stage. Pure; a prediction, always.

Decode of one token, one request: the sum over stages of max(FLOPs / speed, bytes / bandwidth) plus each stage's
overhead, plus n hops for n stages (the last one carries the token back to the first); one stage alone has no hop.
Prefill: chunks run behind each other along the ring, so its time is one chunk through all stages and hops, plus
(chunks - 1) times the slowest of them. Throughput of many requests: one token per time of the slowest stage or hop.
The roofline form is that of Williams, Waterman and Patterson (2009).
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import msgspec

from exo_lab.planning.coefficients import Hop, Measured, Speed, hop_between, speed_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.core.device import Device
    from exo_lab.core.plan import Plan
    from exo_lab.planning.problem import Problem

PREFILL_CHUNK = 128  # tokens; the chunk of engines/base
ACTIVATION_BYTES = 4  # float32 on the wire


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan is predicted to do. Seconds, bytes; stage i is the plan's stage i.

    `token_s`: one decoded token of one request. `ttft_s`: a prompt of the problem's length, and the first token.
    `bottleneck_s`: the busiest stage or hop for one position. `memory_bytes`: of each stage.
    """

    token_s: float
    ttft_s: float
    bottleneck_s: float
    stage_s: tuple[float, ...]
    hop_s: tuple[float, ...]
    memory_bytes: tuple[int, ...]

    @property
    def tokens_per_s(self) -> float:
        """Of one request."""
        return 1 / self.token_s

    @property
    def throughput_per_s(self) -> float:
        """Tokens a second of many requests together, at most."""
        return 1 / self.bottleneck_s


class Costs:
    """The costs of one problem's devices, layers and links, computed once and then looked up.

    Devices are named by their place in `devices`.
    """

    def __init__(self, problem: Problem, devices: Sequence[Device]) -> None:
        self.problem, self.config, self.devices = problem, problem.config, tuple(devices)
        self.speeds: list[Speed] = [speed_of(device, problem.measured_of(device.id)) for device in devices]
        self.hops: list[list[Hop | None]] = [
            [None if a.id == b.id else hop_between(problem.topology, a.id, b.id) for b in devices] for a in devices
        ]
        self._decode = [_layer_times(self, place, 1) for place in range(len(devices))]
        self._chunk = [_layer_times(self, place, self.chunk_tokens) for place in range(len(devices))]
        self.layer_memory = [size + problem.kv_bytes_per_layer for size in self.layer_bytes()]
        self._memory_before = _running(self.layer_memory)

    @property
    def chunk_tokens(self) -> int:
        """Positions of one chunk of the problem's prompt."""
        return max(1, min(PREFILL_CHUNK, self.problem.prompt_tokens))

    def layer_bytes(self) -> Sequence[int]:
        """Weight bytes of each layer; zeros if the model does not say."""
        return self.config.layer_bytes or (0,) * self.config.n_layers

    def stage_s(self, place: int, start: int, end: int, *, prefill: bool = False) -> float:
        """Time of layers [start, end) on a device, ends and overhead included: one position, or one chunk."""
        times = (self._chunk if prefill else self._decode)[place]
        total = times.before[end] - times.before[start] + self.speeds[place].overhead.value
        if start == 0:
            total += times.embedding
        if end == self.config.n_layers:
            total += times.head
        return total

    def layer_s(self, place: int, *, prefill: bool = False) -> list[float]:
        """Time of each layer on a device."""
        before = (self._chunk if prefill else self._decode)[place].before
        return [after - earlier for earlier, after in itertools.pairwise(before)]

    def hop_s(self, a: int, b: int, *, prefill: bool = False) -> float:
        """Time to hand hidden states on: of one position, or of a chunk."""
        hop = self.hops[a][b]
        tokens = self.chunk_tokens if prefill else 1
        return 0.0 if hop is None else hop.seconds(tokens * self.config.hidden_size * ACTIVATION_BYTES)

    def memory_bytes(self, start: int, end: int) -> int:
        """Memory of layers [start, end): weights, KV caches, embedding and head on the ends."""
        total = self._memory_before[end] - self._memory_before[start]
        if start == 0:
            total += self.config.embedding_bytes
        if end == self.config.n_layers:
            shared = self.config.tied_embeddings and start == 0
            total += self.config.head_bytes - (self.config.embedding_bytes if shared else 0)
        return int(total)

    def fits(self, place: int, start: int, end: int) -> bool:
        """Has the device room for these layers?"""
        return self.problem.force or self.memory_bytes(start, end) <= self.problem.room_bytes(self.devices[place])

    def predict(self, places: Sequence[int], cuts: Sequence[int]) -> Prediction:
        """Stage i is device `places[i]` with layers [cuts[i], cuts[i + 1])."""
        spans = list(zip(places, cuts, cuts[1:], strict=False))
        stages = [self.stage_s(place, start, end) for place, start, end in spans]
        ring = [(places[i], places[(i + 1) % len(places)]) for i in range(len(places))] if len(places) > 1 else []
        hops = [self.hop_s(a, b) for a, b in ring]
        chunk = [self.stage_s(place, start, end, prefill=True) for place, start, end in spans]
        chunk_hops = [self.hop_s(a, b, prefill=True) for a, b in ring[:-1]]
        chunks = math.ceil(self.problem.prompt_tokens / self.chunk_tokens)
        return Prediction(
            token_s=sum(stages) + sum(hops),
            ttft_s=sum(chunk) + sum(chunk_hops) + (chunks - 1) * max([*chunk, *chunk_hops]),
            bottleneck_s=max([*stages, *hops]),
            stage_s=tuple(stages),
            hop_s=tuple(hops),
            memory_bytes=tuple(self.memory_bytes(start, end) for _, start, end in spans),
        )

    def objective(self, prediction: Prediction) -> float:
        """What the problem wants small, in seconds."""
        match self.problem.objective:
            case "decode":
                return prediction.token_s
            case "prefill":
                return prediction.ttft_s
            case "throughput":
                return prediction.bottleneck_s


class _Times(msgspec.Struct, frozen=True):
    before: list[float]  # running sum over layers, n_layers + 1 entries
    embedding: float
    head: float


def _layer_times(costs: Costs, place: int, tokens: int) -> _Times:
    """Times of `tokens` positions at once through each layer of a device."""
    config, speed = costs.config, costs.speeds[place]
    measured = costs.problem.measured_of(costs.devices[place].id) or Measured()

    def roofline(flops: float, size: float) -> float:
        return max(tokens * flops / speed.flops.value, size / speed.bandwidth.value)

    known = measured.layer_s if tokens == 1 else measured.prefill_layer_s
    sizes = costs.layer_bytes()
    if known is None:
        layers = [roofline(config.flops_per_token_per_layer, size) for size in sizes]
    else:
        # Measured over all layers of the model: shared out by size where the file's layers differ.
        mean = sum(sizes) / len(sizes) if sum(sizes) else 1.0
        layers = [tokens * known * (size / mean if sum(sizes) else 1.0) for size in sizes]
    head = measured.head_s if measured.head_s is not None else roofline(config.head_flops_per_token, config.head_bytes)
    return _Times(_running(layers), measured.embedding_s or 0.0, head)


def _running(values: Sequence[float]) -> list[float]:
    total, sums = 0.0, [0.0]
    for value in values:
        total += value
        sums.append(total)
    return sums


def predict(problem: Problem, plan: Plan) -> Prediction:
    """What a plan is predicted to do.

    Raises:
        ConfigError: the plan has a device that the problem's topology has not.
    """
    devices = [problem.device(device) for device in plan.devices]
    costs = Costs(problem, devices)
    cuts = [shard.start for shard in plan.shards] + [plan.n_layers]
    return costs.predict(range(len(devices)), cuts)
