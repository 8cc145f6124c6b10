"""The source's two rules of thumb, each with our own exact figure beside it. Pure; a rule forbids nothing."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import msgspec

from exo_lab.planning.cost import ACTIVATION_BYTES, predict
from exo_lab.planning.described import DESCRIBED
from exo_lab.planning.links import links_of
from exo_lab.planning.text import count_text, seconds_text, size_text

if TYPE_CHECKING:
    from exo_lab.core.plan import Plan
    from exo_lab.planning.problem import Problem

MEMORY_FACTOR = 2.0
NETWORK_BYTES_PER_S = 100e6 / 8


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """`text` says what the rule wants, what there is, and what is exactly needed."""

    name: str
    kept: bool
    text: str


def rules(problem: Problem, plan: Plan | None) -> tuple[Rule, ...]:
    """Memory, context length and network; the latter as the plan uses it."""
    return (memory_rule(problem), *context_rule(problem), *(network_rule(problem, plan) if plan is not None else ()))


def memory_rule(problem: Problem) -> Rule:
    """All memory together is to be twice the model."""
    config, devices = problem.config, problem.devices
    weights = min(problem.footprint(device).weights(0, config.n_layers) for device in devices)
    there = sum(problem.memory_bytes(device) for device in devices)
    needed = problem.least_memory_bytes
    room = sum(problem.room_bytes(device) for device in devices)
    wanted = MEMORY_FACTOR * weights
    return Rule(
        name="2 x memory",
        kept=there >= wanted,
        text=(
            f"The rule wants twice the model, {size_text(wanted)}; there are {size_text(there)}. Exactly: weights, "
            f"{problem.context_tokens} tokens of KV cache and working space take {size_text(needed)}, and "
            f"{size_text(room)} may be filled."
        ),
    )


def context_rule(problem: Problem) -> tuple[Rule, ...]:
    """Nothing to say while the context is one that the model was made for."""
    config = problem.config
    if problem.context_tokens <= config.context_length:
        return ()
    text = f"{config.name} is made for {config.context_length} tokens; {problem.context_tokens} were asked for."
    return (Rule(name="context", kept=False, text=text),)


def network_rule(problem: Problem, plan: Plan) -> tuple[Rule, ...]:
    """Every hop of the plan is to have 100 Mbit/s."""
    if len(plan.devices) == 1:
        name = problem.device(plan.devices[0]).name
        return (Rule(name="100 Mbit/s", kept=True, text=f"The plan uses {name} alone and no network."),)
    links, made = links_of(problem.topology), predict(problem, plan)
    hops = [links.hop(a, b) for a, b in itertools.pairwise((*plan.devices, plan.devices[0]))]
    slowest = min(hops, key=lambda hop: hop.bandwidth.value)
    chunk = min(plan.chunk, problem.prompt_tokens) * problem.config.hidden_size * ACTIVATION_BYTES
    said = any(edge.description == DESCRIBED for edge in problem.topology.links)
    origin = DESCRIBED if said else slowest.bandwidth.origin
    hop_s, token_s = seconds_text(sum(made.hop_s)), seconds_text(made.token_s)
    text = (
        f"The rule wants 100 Mbit/s; the slowest of {count_text(len(hops), 'hop')} has "
        f"{_mbit(slowest.bandwidth.value)} ({origin}). Exactly: {hop_s} of {token_s} of a token are "
        f"spent on hops, and from {_mbit(chunk / max(made.chunk_s))} on prompts do not wait for a link (predicted)."
    )
    return (Rule(name="100 Mbit/s", kept=slowest.bandwidth.value >= NETWORK_BYTES_PER_S, text=text),)


def _mbit(bytes_per_s: float) -> str:
    return f"{bytes_per_s * 8 / 1e6:.3g} Mbit/s" if bytes_per_s < 125e6 else f"{bytes_per_s * 8 / 1e9:.3g} Gbit/s"
