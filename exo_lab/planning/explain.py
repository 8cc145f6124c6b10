"""Why a plan is as it is: why each device got its layers, what binds, what was rejected, where the numbers come from.

Pure; in words and as tables (rows of strings). Every figure is a prediction of the cost model.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Literal

import msgspec

from exo_lab.core.plan import Plan
from exo_lab.planning.cost import Costs, Prediction, StageCost, predict
from exo_lab.planning.origins import coefficient_rows, names_of
from exo_lab.planning.rejected import Rejected, left_out, other_objectives, other_strategies
from exo_lab.planning.text import count_text, seconds_text, size_text
from exo_lab.planning.wires import wire_reasons

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.planning.problem import Problem

Binding = Literal["memory", "compute", "memory bandwidth", "link", "nothing"]


class StageReason(msgspec.Struct, frozen=True, kw_only=True):
    """One stage: what it costs, what keeps it from holding more, and that in a sentence."""

    cost: StageCost
    binds: Binding
    why: str


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of strings under a header."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """A plan explained. `binds`: what the objective waits for most. `value_s`: the objective.

    `exact_hops`: why hops carry float32; of others `Plan.why` says it.
    """

    plan: Plan
    prediction: Prediction
    prompt_tokens: int
    value_s: float
    binds: Binding
    summary: str
    stages: tuple[StageReason, ...]
    rejected: tuple[Rejected, ...]
    tables: tuple[Table, ...]
    exact_hops: tuple[str, ...] = ()

    @property
    def sentences(self) -> tuple[str, ...]:
        """Everything in words, the most important first."""
        return (
            self.summary,
            *(stage.why for stage in self.stages),
            *self.exact_hops,
            *(one.why for one in self.rejected),
        )


def explain(problem: Problem, plan: Plan, *, compare: bool = True) -> Explanation:
    """Explain a plan of a problem.

    Args:
        problem: what it was made for.
        plan: any strategy's.
        compare: also plan with the other strategies and objectives, to say what they would give.

    Raises:
        ConfigError: the plan has a device that the problem's topology has not.
    """
    devices = [problem.device(device) for device in plan.devices]
    costs = Costs(problem, devices)
    cuts = [shard.start for shard in plan.shards] + [plan.n_layers]
    prediction = predict(problem, plan)
    value = costs.objective(prediction)
    names = names_of(problem, plan)
    stages = [costs.stage(i, start, end) for i, (start, end) in enumerate(itertools.pairwise(cuts))]
    reasons = tuple(_reason(costs, stages, cuts, i, value, names) for i in range(len(stages)))
    rejected = list(left_out(problem, plan, value, names))
    if compare:
        rejected += other_strategies(problem, plan, value)
        rejected += other_objectives(problem)
    binds, summary = _whole(costs, stages, prediction, names)
    tables = (
        _stage_table(reasons, prediction, names, plan),
        Table(title="rejected", header=("what", "predicted", "why"), rows=tuple(one.row for one in rejected)),
        Table(
            title="coefficients",
            header=("of", "what", "value", "origin"),
            rows=tuple(coefficient_rows(costs, plan, names)),
        ),
    )
    return Explanation(
        plan=plan,
        prediction=prediction,
        prompt_tokens=problem.prompt_tokens,
        value_s=value,
        binds=binds,
        summary=summary,
        stages=reasons,
        rejected=tuple(rejected),
        tables=tables,
        exact_hops=tuple(text for wire, text in wire_reasons(costs, plan) if wire == "float32"),
    )


def _whole(
    costs: Costs, stages: Sequence[StageCost], prediction: Prediction, names: dict[str, str]
) -> tuple[Binding, str]:
    """What the plan's objective waits for most, in one word and in a sentence."""
    objective = costs.problem.objective
    if objective == "decode" or costs.problem.mix is not None:
        parts: dict[Binding, float] = {"compute": 0.0, "memory bandwidth": 0.0, "link": sum(prediction.hop_s)}
        for stage in stages:
            parts["compute" if stage.limit == "compute" else "memory bandwidth"] += stage.layers_s + stage.head_s
        overhead = sum(stage.overhead_s + stage.embedding_s for stage in stages)
        binds = max(parts, key=lambda part: parts[part])
        total = prediction.token_s
        measured = " (measured times)" if any(stage.limit == "measured" for stage in stages) else ""
        layers = parts["compute"] + parts["memory bandwidth"]
        return binds, (
            f"A token is predicted to take {seconds_text(total)}: {layers / total:.0%} in layers and head{measured}, "
            f"{parts['link'] / total:.0%} on {count_text(len(prediction.hop_s), 'hop')}, {overhead / total:.0%} in "
            f"overhead of {count_text(len(stages), 'stage')}. It waits most for {_words(binds)}."
        )
    prefill = objective == "prefill"
    times = prediction.chunk_s if prefill else prediction.stage_s
    slowest = max(range(len(stages)), key=lambda i: times[i])
    what = "the first token" if prefill else "a token of many requests"
    total = prediction.ttft_s if prefill else prediction.bottleneck_s
    busiest = max(prediction.chunk_hop_s if prefill else prediction.hop_s[:-1], default=0.0)
    name = names[stages[slowest].device]
    text = f"{what[0].upper()}{what[1:]} is predicted to take {seconds_text(total)}; the slowest stage is {name}"
    if busiest > times[slowest]:
        return "link", f"{text}, and the slowest hop takes even longer ({seconds_text(busiest)})."
    binds = "compute" if stages[slowest].limit == "compute" or prefill else "memory bandwidth"
    return binds, f"{text} ({seconds_text(times[slowest])}), with {count_text(len(stages), 'stage')} sharing the work."


def _reason(
    costs: Costs, stages: Sequence[StageCost], cuts: Sequence[int], i: int, value: float, names: dict[str, str]
) -> StageReason:
    """Why a stage holds what it holds: would one more layer fit, and what would it cost or gain?"""
    stage = stages[i]
    held = f"{count_text(stage.end - stage.start, 'layer')} ({_span(stage)})"
    text = f"{names[stage.device]} holds {held} in {seconds_text(stage.total_s)} a token"
    moves: list[tuple[float, str]] = []
    full = False
    for side, neighbour in ((0, i - 1), (1, i + 1)):
        if not 0 <= neighbour < len(stages) or stages[neighbour].end - stages[neighbour].start < 2:
            continue
        moved = list(cuts)
        moved[i + side] += 1 if side else -1
        if not costs.fits(i, moved[i], moved[i + 1]):
            full = True
            continue
        change = costs.objective(costs.predict(range(len(stages)), moved)) - value
        moves.append((change, names[stages[neighbour].device]))
    if full and not moves:
        before = costs.memory_before[i]
        more = before[min(stage.end + 1, len(before) - 1)] - before[stage.end]
        more = more or before[stage.start] - before[max(stage.start - 1, 0)]
        free = stage.room_bytes - stage.memory_bytes
        why = (
            f"{text}: its memory is full, another layer takes {size_text(more)} and {size_text(max(free, 0))} are left."
        )
        return StageReason(cost=stage, binds="memory", why=why)
    limit: Binding = "compute" if stage.limit == "compute" else "memory bandwidth"
    if not moves:
        alone = "it is the only stage" if len(stages) == 1 else "its neighbours have one layer each"
        return StageReason(cost=stage, binds="nothing", why=f"{text}: {alone}.")
    change, neighbour = min(moves)
    if change > 1e-12 * value:
        return StageReason(
            cost=stage, binds=limit, why=f"{text}: one more from {neighbour} would cost {seconds_text(change)}."
        )
    gain = "change nothing" if change > -1e-12 * value else f"gain {seconds_text(-change)}"
    return StageReason(cost=stage, binds="nothing", why=f"{text}: one more from {neighbour} would {gain}.")


def _stage_table(reasons: Sequence[StageReason], prediction: Prediction, names: dict[str, str], plan: Plan) -> Table:
    hops = prediction.hop_s or (0.0,)
    rows = tuple(
        (
            names[reason.cost.device],
            _span(reason.cost),
            f"{size_text(reason.cost.memory_bytes)} of {size_text(reason.cost.room_bytes)}",
            seconds_text(reason.cost.total_s),
            reason.cost.limit,
            f"{seconds_text(hop)} ({plan.wire_out_of(stage)})" if stage + 1 < len(reasons) else seconds_text(hop),
            reason.binds,
        )
        for stage, (reason, hop) in enumerate(zip(reasons, hops, strict=True))
    )
    header = ("device", "layers", "memory", "token", "layers wait for", "hop after it", "kept from more by")
    return Table(title="stages", header=header, rows=rows)


def _span(stage: StageCost) -> str:
    return f"{stage.start} to {stage.end - 1}" if stage.end - stage.start > 1 else f"{stage.start}"


def _words(binds: Binding) -> str:
    return {"link": "the links", "compute": "compute"}.get(binds, binds)
