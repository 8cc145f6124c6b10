"""What fits on some devices: which quantisation and context, how fast, and what one more device would buy. Pure.

Whether it fits and how fast it is comes from the planner and the cost model (predicted); the rules of thumb stand
beside it. It is reckoned with what devices say that is free, or with all of their memory where they say nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.device import Device
from exo_lab.core.errors import ConfigError, PlanError
from exo_lab.core.model import ModelConfig
from exo_lab.core.plan import Plan
from exo_lab.core.topology import Sighting, link, topology
from exo_lab.planning.choose import choose
from exo_lab.planning.chunks import usual_chunk
from exo_lab.planning.cost import Prediction, predict
from exo_lab.planning.rules import Rule, rules
from exo_lab.planning.shortage import layers_that_fit
from exo_lab.planning.strategies.base import connected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.core.topology import Topology
    from exo_lab.planning.problem import Problem

STRATEGY = "optimal"
KINDS = 4  # of devices, of which one more is tried


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """One quantisation. `needed_bytes`: weights, KV caches and working space, all on the device where it is least.

    `most_context`: the longest that fits, at most what the model is made for; 0 if nothing fits. `plan` and
    `prediction` are None and `short` says why if it does not fit at the context that was asked for and was not forced.
    """

    config: ModelConfig
    needed_bytes: int
    most_context: int
    fits: bool
    plan: Plan | None = None
    prediction: Prediction | None = None
    short: str = ""


class OneMore(msgspec.Struct, frozen=True, kw_only=True):
    """What another device like one that is there would change. `best`: the finest quantisation that fits then.

    `same`: what was the best before, now.
    """

    device: Device
    best: Choice | None
    same: Choice | None


class Sizing(msgspec.Struct, frozen=True, kw_only=True):
    """The answer. `best`: the finest quantisation that fits, an index into `choices`; None: none does.

    `rules` are about the best choice, or about the coarsest where none fits.
    """

    devices: tuple[Device, ...]
    context_tokens: int
    memory_bytes: int
    choices: tuple[Choice, ...]
    best: int | None
    rules: tuple[Rule, ...]
    more: tuple[OneMore, ...]


def size_up(problem: Problem, configs: Sequence[ModelConfig], *, one_more: bool = True) -> Sizing:
    """Try every quantisation on the problem's devices.

    Args:
        problem: devices, context and the rest; its own config is not used.
        configs: the same model in several quantisations, the finest first.
        one_more: also try one more device of each kind.

    Raises:
        ConfigError: no device, or no quantisation.
    """
    if not configs:
        raise ConfigError("no quantisation is asked for; name at least one")
    devices = problem.devices
    choices = tuple(_choice(_task(problem, config)) for config in configs)
    best = next((at for at, choice in enumerate(choices) if choice.fits), None)
    shown = choices[-1 if best is None else best]
    task = _task(problem, shown.config)
    return Sizing(
        devices=devices,
        context_tokens=problem.context_tokens,
        memory_bytes=sum(problem.memory_bytes(device) for device in devices),
        choices=choices,
        best=best,
        rules=rules(task, shown.plan),
        more=tuple(_one_more(problem, configs, best, device) for device in _kinds(devices)) if one_more else (),
    )


def _task(problem: Problem, config: ModelConfig) -> Problem:
    """The problem for another file of the model."""
    chunk = usual_chunk(config, problem.dtype, problem.engine, problem.devices)
    return msgspec.structs.replace(problem, config=config, chunk=chunk)


def holds(problem: Problem) -> bool:
    """Is there room for the model, in any order? Exact where all layers are alike, else on the safe side.

    Devices that reach each other, one of them first, one last, and between as many as there are.
    """
    if problem.force:
        problem = msgspec.structs.replace(problem, force=False)
    layers = problem.config.n_layers
    group, _ = connected(problem)
    if any(layers_that_fit(problem, device, first=True, last=True) >= layers for device in group):
        return True
    between = [layers_that_fit(problem, device) for device in group]
    first = _losses([layers_that_fit(problem, device, first=True) for device in group], between)
    last = _losses([layers_that_fit(problem, device, last=True) for device in group], between)
    # With the two cheapest of each, the best pair of different devices is among them.
    least = min((a + b for a, at in first[:2] for b, other in last[:2] if at != other), default=None)
    return least is not None and layers > 1 and sum(between) - least >= layers


def _losses(as_end: Sequence[int], between: Sequence[int]) -> list[tuple[int, int]]:
    """Layers that a device gives up to be first or last, and its place, fewest first; who cannot is left out."""
    return sorted((other - count, at) for at, (count, other) in enumerate(zip(as_end, between, strict=True)) if count)


def most_context(problem: Problem) -> int:
    """The longest context that fits, up to what the model is made for; 0: not even one token."""
    low, high = 0, problem.config.context_length + 1
    while high - low > 1:
        middle = (low + high) // 2
        if holds(msgspec.structs.replace(problem, context_tokens=middle)):
            low = middle
        else:
            high = middle
    return low


def _choice(problem: Problem) -> Choice:
    config = problem.config
    plan, short = None, ""
    try:
        plan = choose(problem, STRATEGY)
    except PlanError as exc:
        short = str(exc)
    return Choice(
        config=config,
        needed_bytes=problem.least_memory_bytes,
        most_context=most_context(problem),
        fits=plan is not None and (not problem.force or holds(problem)),
        plan=plan,
        prediction=None if plan is None else predict(problem, plan),
        short=short,
    )


def _kinds(devices: Sequence[Device]) -> list[Device]:
    """One device of each kind, those with the most memory first."""
    kinds = {(device.chip, device.memory_bytes, device.memory_available_bytes): device for device in devices}
    return sorted(kinds.values(), key=lambda device: (-device.memory_bytes, device.id))[:KINDS]


def _one_more(problem: Problem, configs: Sequence[ModelConfig], best: int | None, like: Device) -> OneMore:
    task = msgspec.structs.replace(problem, topology=with_one_more(problem.topology, like))
    for at, config in enumerate(configs[: None if best is None else best + 1]):
        choice = _choice(msgspec.structs.replace(task, config=config))
        if choice.fits:
            same = (
                choice if at == best or best is None else _choice(msgspec.structs.replace(task, config=configs[best]))
            )
            return OneMore(device=like, best=choice, same=None if best is None else same)
    return OneMore(device=like, best=None, same=None)


def with_one_more(known: Topology, like: Device) -> Topology:
    """The topology with a twin of a device: it has the same links, and one like them to the device that it is like."""
    twin = msgspec.structs.replace(like, id=f"{like.id}+1", name=f"one more {like.name}", memory_id="")
    mine = [edge for edge in known.links if like.id in (edge.a, edge.b)]
    links = [
        link(twin.id, edge.b if edge.a == like.id else edge.a, kind=edge.kind, latency_s=edge.latency_s,
             bandwidth_bytes_per_s=edge.bandwidth_bytes_per_s)
        for edge in mine
    ]  # fmt: skip
    if mine:
        links.append(link(twin.id, like.id, kind=mine[0].kind, latency_s=mine[0].latency_s,
                          bandwidth_bytes_per_s=mine[0].bandwidth_bytes_per_s))  # fmt: skip
    return topology([*known.sightings, Sighting(device=twin)], [*known.links, *links])
