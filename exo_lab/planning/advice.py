"""What a plan's user could ask for instead, where the cost model predicts that it would be felt. Pure."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import msgspec

from exo_lab.planning.choose import choose
from exo_lab.planning.cost import Costs, predict
from exo_lab.planning.text import seconds_text
from exo_lab.planning.wires import with_wires

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exo_lab.core.plan import Plan
    from exo_lab.planning.problem import Problem

MUCH = 1.2  # so many times as fast is worth another strategy's name
FELT = 1.05  # and so many times the rounding of hidden states


def with_advice(problem: Problem, plan: Plan) -> Plan:
    """The plan, with a sentence in `why` for each other choice that is predicted to be much faster."""
    return msgspec.structs.replace(plan, why=(*plan.why, *_strategy(problem, plan), *_wire(problem, plan)))


def _strategy(problem: Problem, plan: Plan) -> Iterator[str]:
    """Layers by hand and the best plan itself are left alone."""
    if plan.strategy in ("optimal", "manual"):
        return
    found = with_wires(problem, choose(problem, "optimal"))
    best = msgspec.structs.replace(found, chunk=plan.chunk)
    costs = Costs(problem, ())
    now_s, then_s = (costs.objective(predict(problem, one)) for one in (plan, best))
    if now_s < MUCH * then_s:
        return
    names = ", ".join(problem.device(device).name for device in best.devices)
    what = "this mix" if problem.mix is not None else {"decode": "a token"}.get(problem.objective, problem.objective)
    yield (
        f"`--strategy optimal` is predicted to be {now_s / then_s:.1f} times as fast ({what}: {seconds_text(then_s)}, "
        f"with this plan {seconds_text(now_s)}), on {names}."
    )


def _wire(problem: Problem, plan: Plan) -> Iterator[str]:
    """What `--wire auto` would round, if hidden states go out exactly; who asked for float32 weights wants it so."""
    if problem.wire != "float32" or problem.dtype == "float32":
        return
    rounded = with_wires(msgspec.structs.replace(problem, wire="auto"), plan)
    if not rounded.roundings:
        return
    now, then = predict(problem, plan), predict(problem, rounded)
    if max(now.ttft_s / then.ttft_s, now.token_s / then.token_s) < FELT:
        return
    names = [problem.device(device).name for device in plan.devices]
    slow = [
        f"from {a} to {b}"
        for stage, (a, b) in enumerate(itertools.pairwise(names))
        if rounded.wire_out_of(stage) != "float32"
    ]
    yield (
        f"The link {' and '.join(slow)} is slow for what it joins: with `--wire auto` the first token of a prompt of "
        f"{problem.prompt_tokens} is predicted after {seconds_text(then.ttft_s)}, not {seconds_text(now.ttft_s)}, and "
        f"a later one after {seconds_text(then.token_s)}, not {seconds_text(now.token_s)}. It rounds hidden states."
    )
