"""Seconds of a plan's steps: the cost model's figures, for chunks of any length. Pure."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from exo_lab.core.errors import ConfigError
from exo_lab.core.wire import row_bytes
from exo_lab.planning.cost import TOKEN_BYTES
from exo_lab.planning.layer_times import head_s, layer_times, rates_of
from exo_lab.planning.links import links_of
from exo_lab.planning.problem import PREFILL_CHUNK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exo_lab.core.plan import Plan
    from exo_lab.planning.problem import Problem


class Job(NamedTuple):
    """A piece of a request's work. `position`: of its first token; `looks_at`: as `layer_times` takes it.

    `prompt`: a chunk of a prompt, else one token to decode. `final`: the head follows, and a token comes back.
    """

    session: int
    position: int
    tokens: int
    looks_at: float
    prompt: bool
    final: bool


def chunks(session: int, total_tokens: int, most: int = PREFILL_CHUNK) -> Iterator[Job]:
    """A prompt in pieces as engines take them; on average each position looks back at half of the prompt."""
    for at in range(0, total_tokens, most):
        size = min(most, total_tokens - at)
        yield Job(session, at, size, total_tokens / 2, prompt=True, final=at + size == total_tokens)


class Timing:
    """What each stage and hop of one plan takes.

    Raises:
        ConfigError: two stages that follow each other cannot reach each other, or a device is not in the topology.
    """

    def __init__(self, problem: Problem, plan: Plan) -> None:
        self._problem, self._shards = msgspec.structs.replace(problem, chunk=plan.chunk), plan.shards
        devices = [problem.device(device) for device in plan.devices]
        self._rates = [rates_of(problem, device) for device in devices]
        self._known: dict[tuple[int, int, float, bool], float] = {}
        self._heads: dict[int, float] = {}
        hidden = problem.config.hidden_size
        self._rows = [row_bytes(hidden, plan.wire_out_of(stage)) for stage in range(len(devices))]
        links = links_of(problem.topology)
        ring = [*plan.devices, plan.devices[0]] if len(plan.devices) > 1 else []
        self.hops = [links.hop(a, b) for a, b in itertools.pairwise(ring)]
        for at, (a, b) in enumerate(itertools.pairwise(ring)):
            if self.hops[at].bandwidth.value <= 0:
                names = problem.device(a).name, problem.device(b).name
                raise ConfigError(f"{names[0]} and {names[1]} follow each other in the plan and no link joins them")

    def stage_s(self, stage: int, job: Job) -> float:
        """How long a stage computes on a job at its described speed; with the head where it is due."""
        key = (stage, job.tokens, job.looks_at, job.prompt)
        if key not in self._known:
            self._known[key] = self._layers_s(stage, job)
        last = stage == len(self._shards) - 1
        return self._known[key] + (self._head_s(stage) if last and job.final else 0.0)

    def hop_busy_s(self, stage: int, job: Job) -> float:
        """How long the link behind a stage is taken by what the stage hands on."""
        if stage == len(self._shards) - 1:
            return self.hops[stage].busy_s(TOKEN_BYTES)
        return self.hops[stage].busy_s(job.tokens * self._rows[stage])

    def _layers_s(self, stage: int, job: Job) -> float:
        shard, rates = self._shards[stage], self._rates[stage]
        times = layer_times(self._problem, rates, tokens=job.tokens, looks_at=job.looks_at, prefill=job.prompt)
        first = times.embedding if shard.start == 0 else 0.0
        return times.before[shard.end] - times.before[shard.start] + rates.speed.overhead.value + first

    def _head_s(self, stage: int) -> float:
        if stage not in self._heads:
            self._heads[stage] = head_s(self._problem, self._rates[stage])
        return self._heads[stage]
