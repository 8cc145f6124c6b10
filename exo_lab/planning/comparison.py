"""The published comparison of strategies, rebuilt: what each makes of one stated cluster, model and workload. Pure.

The source gives six numbers and nothing else: uniform 65 % memory use and 45 s, performance-first 82 % and 32 s, ring
memory-weighted 94 % and 28 s. Cluster, model and workload here are **our construction**: they were searched for such
that our strategies, cost model and simulator come near those numbers. Every figure of a row is computed; only
`PUBLISHED` is typed in, to be shown beside them.

How the two figures are meant here (the source does not say): a plan serves as many requests at once as its fullest
device has room for KV caches; *memory use* is what it then fills of the memory that devices may give. *Completion time*
is simulated: until the last of the workload's requests has its last token.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import msgspec

from exo_lab.core.device import Device, Flops
from exo_lab.core.plan import Plan
from exo_lab.core.topology import LinkKind, Sighting, link, topology
from exo_lab.planning.choose import choose
from exo_lab.planning.cost import Prediction, predict
from exo_lab.planning.known_models import config_of
from exo_lab.planning.problem import OBJECTIVES, Mix, Objective, Problem
from exo_lab.planning.simulation.result import Simulation
from exo_lab.planning.simulation.run import simulate
from exo_lab.planning.simulation.scenario import Request, Scenario

STRATEGIES = ("uniform", "performance-first", "ring-memory-weighted", "optimal")
MOST_SESSIONS = 1 << 16


class Figures(NamedTuple):
    """What the source states of a strategy."""

    memory_use: float
    completion_s: float


PUBLISHED: dict[str, Figures] = {
    "uniform": Figures(0.65, 45.0),
    "performance-first": Figures(0.82, 32.0),
    "ring-memory-weighted": Figures(0.94, 28.0),
}


class Kind(NamedTuple):
    """A device by its chip's row in `exo_lab/data/chips.csv` (a test compares) and its memory."""

    name: str
    chip: str
    memory_gib: int
    fp32_tflops: float
    fp16_tflops: float
    bandwidth_gb_per_s: float


class Setting(NamedTuple):
    """What is compared on: devices, one kind of link between all, a model, and requests that all come at once."""

    devices: tuple[Kind, ...]
    links: LinkKind
    model: str
    quantisation: str
    context_tokens: int
    requests: int
    prompt_tokens: int
    answer_tokens: int

    def problem(self) -> Problem:
        """The planning task; links as `planning/links.py` assumes them for their kind."""
        devices = [_device(at, kind) for at, kind in enumerate(self.devices)]
        return Problem(
            config=config_of(self.model, self.quantisation),
            topology=topology(
                [Sighting(device=device) for device in devices],
                [link(a.id, b.id, kind=self.links) for a, b in itertools.combinations(devices, 2)],
            ),
            context_tokens=self.context_tokens,
            prompt_tokens=self.prompt_tokens,
        )


SMALL = Kind("RTX 2060", "NVIDIA GeForce RTX 2060", 6, 6.45, 12.9, 336.0)
LARGE = Kind("RTX 4080", "NVIDIA GeForce RTX 4080", 16, 48.74, 97.48, 716.8)
SETTING = Setting(
    devices=(SMALL, SMALL, LARGE),
    links="ethernet",
    model="Mistral 7B",
    quantisation="BF16",
    context_tokens=4096,
    requests=31,
    prompt_tokens=1024,
    answer_tokens=8,
)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One strategy. `sessions`: served at once; `objective`: what the plan was made for, where that was chosen."""

    strategy: str
    plan: Plan
    sessions: int
    memory_use: float
    completion_s: float
    prediction: Prediction
    simulation: Simulation
    objective: str = ""

    @property
    def layers(self) -> tuple[int, ...]:
        """Of each stage, in ring order."""
        return tuple(len(shard) for shard in self.plan.shards)


def compare(setting: Setting = SETTING) -> tuple[Row, ...]:
    """All four strategies.

    Raises:
        DoesNotFit: the setting's cluster cannot hold its model; says what is short.
    """
    problem = setting.problem()
    rows = [_row(problem, setting, strategy, choose(problem, strategy)) for strategy in STRATEGIES[:-1]]
    return (*rows, _best(problem, setting))


def most_sessions(problem: Problem, plan: Plan) -> int:
    """How many requests at full context the plan has room for, by its fullest device; 0 if not even one."""
    devices = [problem.device(device) for device in plan.devices]

    def fits(sessions: int) -> bool:
        task = msgspec.structs.replace(problem, sessions=sessions)
        return all(
            task.shard_memory_bytes(device, shard.start, shard.end) <= task.room_bytes(device)
            for device, shard in zip(devices, plan.shards, strict=True)
        )

    low, high = 0, MOST_SESSIONS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def memory_use(problem: Problem, plan: Plan) -> float:
    """What a plan fills, KV caches of `problem.sessions` included, of what all devices may give."""
    filled = sum(
        problem.shard_memory_bytes(problem.device(device), shard.start, shard.end)
        for device, shard in zip(plan.devices, plan.shards, strict=True)
    )
    return filled / sum(problem.room_bytes(device) for device in problem.topology.devices)


def _best(problem: Problem, setting: Setting) -> Row:
    """The strategy `optimal`, asked for each objective and for the workload's mix; the simulator decides."""
    mix = Mix(prefill=1.0, throughput=float(setting.answer_tokens))
    wishes: list[tuple[str, Objective, Mix | None]] = [(name, name, None) for name in OBJECTIVES]
    rows = [
        _row(problem, setting, "optimal", choose(task, "optimal"), name)
        for name, objective, mixed in [*wishes, ("prefill + answer x throughput", "throughput", mix)]
        for task in [msgspec.structs.replace(problem, objective=objective, mix=mixed)]
    ]
    return min(rows, key=lambda row: row.completion_s)


def _row(problem: Problem, setting: Setting, strategy: str, plan: Plan, objective: str = "") -> Row:
    sessions = most_sessions(problem, plan)
    task = msgspec.structs.replace(problem, sessions=sessions)
    request = Request(prompt_tokens=setting.prompt_tokens, answer_tokens=setting.answer_tokens)
    simulation = simulate(Scenario(problem=task, plan=plan, requests=(request,) * setting.requests))
    return Row(
        strategy=strategy,
        plan=plan,
        sessions=sessions,
        memory_use=memory_use(task, plan),
        completion_s=simulation.end_s,
        prediction=predict(problem, plan),
        simulation=simulation,
        objective=objective,
    )


def _device(at: int, kind: Kind) -> Device:
    return Device(
        id=f"{kind.name}-{at + 1}".replace(" ", "-").lower(),
        name=f"{kind.name} #{at + 1}",
        chip=kind.chip,
        memory_bytes=kind.memory_gib << 30,
        flops=Flops(fp32=kind.fp32_tflops, fp16=kind.fp16_tflops),
        memory_bandwidth_bytes_per_s=kind.bandwidth_gb_per_s * 1e9,
        speed_origin="chip table",
    )
