"""What a plan costs: seconds of a decoded token, of a prompt, and of the busiest stage. Pure; a prediction, always.

Decode of one token, one request: the sum over stages of max(FLOPs / speed, bytes / bandwidth) per layer plus each
stage's overhead, plus n hops for n stages: n - 1 carry hidden states, the last one carries the token back to the first;
one stage alone has no hop. Prefill: chunks run behind each other along the ring, so its time is one chunk through all
stages and hops, plus (chunks - 1) times the slowest of them, plus the head and the way back of the first token.
Throughput of many requests: one token per time of the slowest stage or link. A link is busy for bytes / bandwidth: its
latency delays a frame and does not keep the next one from following.
The roofline form is that of Williams, Waterman and Patterson (2009).
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.wire import row_bytes
from exo_lab.planning.layer_times import Limit, head_s, layer_times, rates_of
from exo_lab.planning.links import Hop, links_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.core.device import Device
    from exo_lab.core.plan import Plan
    from exo_lab.core.wire import Wire
    from exo_lab.planning.problem import Problem

ACTIVATION_BYTES = 4  # of one element of hidden states in float32
# A measured link whose time for a chunk in float32 is more than this part of computing the chunk, by the faster of its
# two ends, all layers: from there on fewer bytes are felt (SmolLM2-135M on one core: 3 % at 1 Gbit/s, 25 % at 100).
WIRE_MATTERS = 0.05
TOKEN_BYTES = 256  # of the frame that carries a token back: header and timings, mostly


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan is predicted to do. Seconds, bytes; stage i is the plan's stage i.

    `token_s`: one decoded token of one request. `ttft_s`: a prompt of the problem's length, and the first token.
    `bottleneck_s`: the busiest stage or link for one position of many requests. `stage_s`, `hop_s`: of one decoded
    token; the last hop carries the token back. `chunk_s`, `chunk_hop_s`: of one chunk of the prompt. `memory_bytes`: of
    a stage.
    """

    token_s: float
    ttft_s: float
    bottleneck_s: float
    stage_s: tuple[float, ...]
    hop_s: tuple[float, ...]
    chunk_s: tuple[float, ...]
    chunk_hop_s: tuple[float, ...]
    memory_bytes: tuple[int, ...]

    @property
    def tokens_per_s(self) -> float:
        """Of one request."""
        return 1 / self.token_s

    @property
    def throughput_per_s(self) -> float:
        """Tokens a second of many requests together, at most."""
        return 1 / self.bottleneck_s

    @property
    def sessions_to_fill(self) -> int:
        """How many requests at once it takes to keep the busiest stage busy."""
        return math.ceil(self.token_s / self.bottleneck_s)


class StageCost(msgspec.Struct, frozen=True, kw_only=True):
    """What one stage spends on one decoded token, in seconds, and what its layers wait for."""

    device: str
    start: int
    end: int
    layers_s: float
    embedding_s: float
    head_s: float
    overhead_s: float
    memory_bytes: int
    room_bytes: int
    limit: Limit

    @property
    def total_s(self) -> float:
        """Layers, ends and overhead."""
        return self.layers_s + self.embedding_s + self.head_s + self.overhead_s


class Costs:
    """The costs of one problem's devices, layers and links, computed once and then looked up.

    Devices are named by their place in `devices`.
    """

    token_bytes = TOKEN_BYTES

    def __init__(self, problem: Problem, devices: Sequence[Device]) -> None:
        self.problem, self.config, self.devices = problem, problem.config, tuple(devices)
        self.links = links_of(problem.topology)
        rates, prompt = [rates_of(problem, device) for device in devices], problem.prompt_tokens
        self.speeds = [one.speed for one in rates]
        self.held = [one.held for one in rates]
        self.chunks = math.ceil(problem.prompt_tokens / problem.chunk)
        self.chunk_tokens = problem.prompt_tokens / self.chunks  # of a mean chunk
        self._decode = [layer_times(problem, one, tokens=1, looks_at=prompt, prefill=False) for one in rates]
        # Every position of a prompt looks back at half of it on average.
        self._chunk = [
            layer_times(problem, one, tokens=self.chunk_tokens, looks_at=prompt / 2, prefill=True) for one in rates
        ]
        self._head = [head_s(problem, one) for one in rates]
        caches = [problem.kv_bytes_per_layer(device) for device in devices]
        # Of layers [0, j) on each device, for j = 0 .. n_layers.
        self.memory_before = [
            [0, *itertools.accumulate(size + kv for size in held.layers)]
            for held, kv in zip(self.held, caches, strict=True)
        ]

    def before(self, place: int, *, prefill: bool = False) -> list[float]:
        """Time of layers [0, j) on a device for j = 0 .. n_layers: one position, or one chunk."""
        return (self._chunk if prefill else self._decode)[place].before

    def layer_s(self, place: int, *, prefill: bool = False) -> list[float]:
        """Time of each layer on a device."""
        return [after - earlier for earlier, after in itertools.pairwise(self.before(place, prefill=prefill))]

    def embedding_s(self, place: int, *, prefill: bool = False) -> float:
        """What the first stage does besides."""
        return (self._chunk if prefill else self._decode)[place].embedding

    def head_s(self, place: int) -> float:
        """What the last stage does besides, for the one position that is sampled."""
        return self._head[place]

    def stage_s(self, place: int, start: int, end: int, *, prefill: bool = False) -> float:
        """Time of layers [start, end) on a device with overhead and ends: one position, or one chunk without the head.

        The head multiplies the last position of a prompt only.
        """
        before = self.before(place, prefill=prefill)
        total = before[end] - before[start] + self.speeds[place].overhead.value
        if start == 0:
            total += self.embedding_s(place, prefill=prefill)
        if end == self.config.n_layers and not prefill:
            total += self._head[place]
        return total

    def hop(self, a: int, b: int) -> Hop:
        """From one device to another."""
        return self.links.hop(self.devices[a].id, self.devices[b].id)

    def wire(self, a: int, b: int) -> Wire:
        """In what precision hidden states go from one device to another: as asked for, or by what the link takes."""
        wish = self.problem.wire
        if wish != "auto":
            return wish
        hop = self.hop(a, b)
        if hop.bandwidth.origin != "measured":
            return "float32"
        compute_s = min(self._chunk[a].before[-1], self._chunk[b].before[-1])
        slow = hop.busy_s(self.hidden_bytes("float32", prefill=True)) > WIRE_MATTERS * compute_s
        return "bfloat16" if slow else "float32"

    def hidden_bytes(self, wire: Wire, *, prefill: bool = False) -> float:
        """What a hop carries: hidden states of one position, or of a chunk."""
        return (self.chunk_tokens if prefill else 1) * row_bytes(self.config.hidden_size, wire)

    def hop_s(self, a: int, b: int, *, prefill: bool = False) -> float:
        """Time to hand hidden states on."""
        return self.hop(a, b).seconds(self.hidden_bytes(self.wire(a, b), prefill=prefill))

    def return_s(self, last: int, first: int) -> float:
        """Time to carry the token back to the first stage."""
        return self.hop(last, first).seconds(TOKEN_BYTES)

    def memory_bytes(self, place: int, start: int, end: int) -> int:
        """As `Problem.shard_memory_bytes`."""
        before, held = self.memory_before[place], self.held[place]
        total = before[end] - before[start] + self.problem.activation_bytes
        if start == 0:
            total += held.embedding
        if end == self.config.n_layers:
            total += held.head - (held.shared if start == 0 else 0)
        return total

    def fits(self, place: int, start: int, end: int) -> bool:
        """Has the device room for these layers?"""
        return self.problem.force or self.memory_bytes(place, start, end) <= self.problem.room_bytes(
            self.devices[place]
        )

    def stage(self, place: int, start: int, end: int) -> StageCost:
        """The parts of a stage's time."""
        times, device = self._decode[place], self.devices[place]
        return StageCost(
            device=device.id,
            start=start,
            end=end,
            layers_s=times.before[end] - times.before[start],
            embedding_s=times.embedding if start == 0 else 0.0,
            head_s=self._head[place] if end == self.config.n_layers else 0.0,
            overhead_s=self.speeds[place].overhead.value,
            memory_bytes=self.memory_bytes(place, start, end),
            room_bytes=self.problem.room_bytes(device),
            limit=times.limit,
        )

    def predict(self, places: Sequence[int], cuts: Sequence[int], wires: Sequence[Wire] | None = None) -> Prediction:
        """Stage i is device `places[i]` with layers [cuts[i], cuts[i + 1]); `wires` are the hops', those of `wire`."""
        spans = list(zip(places, cuts, cuts[1:], strict=False))
        stages = [self.stage_s(*span) for span in spans]
        chunk = [self.stage_s(*span, prefill=True) for span in spans]
        hops = [self.hop(a, b) for a, b in itertools.pairwise(places)]
        wires = [self.wire(a, b) for a, b in itertools.pairwise(places)] if wires is None else wires
        hop_s = [hop.seconds(self.hidden_bytes(wire)) for hop, wire in zip(hops, wires, strict=True)]
        bulk = [self.hidden_bytes(wire, prefill=True) for wire in wires]
        chunk_hop_s = [hop.seconds(size) for hop, size in zip(hops, bulk, strict=True)]
        busy = [hop.busy_s(self.hidden_bytes(wire)) for hop, wire in zip(hops, wires, strict=True)]
        back = 0.0
        if hops:
            closing = self.hop(places[-1], places[0])
            back = closing.seconds(TOKEN_BYTES)
            hop_s.append(back)
            busy.append(closing.busy_s(TOKEN_BYTES))
        slowest = max(itertools.chain(chunk, (hop.busy_s(size) for hop, size in zip(hops, bulk, strict=True))))
        waiting = (self.chunks - 1) * slowest
        return Prediction(
            token_s=sum(stages) + sum(hop_s),
            ttft_s=sum(chunk) + sum(chunk_hop_s) + waiting + self._head[places[-1]] + back,
            bottleneck_s=max(itertools.chain(stages, busy)),
            stage_s=tuple(stages),
            hop_s=tuple(hop_s),
            chunk_s=tuple(chunk),
            chunk_hop_s=tuple(chunk_hop_s),
            memory_bytes=tuple(self.memory_bytes(*span) for span in spans),
        )

    def objective(self, prediction: Prediction) -> float:
        """What the problem wants small, in seconds (weighted, if it is a mix)."""
        mix = self.problem.mix
        if mix is not None:
            terms = (
                (mix.decode, prediction.token_s),
                (mix.throughput, prediction.bottleneck_s),
                (mix.prefill, prediction.ttft_s),
            )
            return sum(weight * seconds for weight, seconds in terms if weight)
        match self.problem.objective:
            case "decode":
                return prediction.token_s
            case "prefill":
                return prediction.ttft_s
            case "throughput":
                return prediction.bottleneck_s


def predict(problem: Problem, plan: Plan) -> Prediction:
    """What a plan is predicted to do, with hidden states in the precision and prompts in the pieces that it says.

    Raises:
        ConfigError: the plan has a device that the problem's topology has not.
    """
    devices = [problem.device(device) for device in plan.devices]
    costs = Costs(msgspec.structs.replace(problem, chunk=plan.chunk), devices)
    cuts = [shard.start for shard in plan.shards] + [plan.n_layers]
    wires: list[Wire] = [plan.wire_out_of(stage) for stage in range(len(devices) - 1)]
    return costs.predict(range(len(devices)), cuts, wires)
