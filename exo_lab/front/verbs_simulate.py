"""The verb `simulate`: requests on a plan, event by event. Nothing runs; everything it says is predicted."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from exo_lab.core.errors import ConfigError
from exo_lab.front.gantt_view import GanttView
from exo_lab.front.verbs_fit import configs_of, paper
from exo_lab.planning.chunks import SMALL_CHUNK, usual_chunk
from exo_lab.planning.problem import Problem
from exo_lab.planning.simulation.run import simulate as run
from exo_lab.planning.simulation.scenario import NOTICE_S, Change, Fail, Request, Scenario, SlowDown

if TYPE_CHECKING:
    from argparse import Namespace

    from exo_lab.core.topology import Topology
    from exo_lab.front.desk import Desk

PROMPT_TOKENS = 512
QUANTISATION = "Q4_0"  # of a model that is known by its shape only
MOST_STEPS = 2_000_000  # of stages and links: some ten seconds


def simulate(desk: Desk, args: Namespace) -> GanttView:
    """Simulate, and show it.

    Raises:
        ConfigError: a value that cannot be, a node that there is not, or more than can be waited for.
        PlanError: the model does not fit; says what is short by how much.
    """
    asked = paper(desk, args)
    quantisation = (args.quant,) if args.quant else None
    stored = configs_of(asked.model, quantisation)
    config = stored[0] if quantisation or len(stored) == 1 else configs_of(asked.model, (QUANTISATION,))[0]
    prompt = args.prompt or max(1, min(PROMPT_TOKENS, args.context - args.answer))
    _bounded(args, prompt, len(asked.topology.devices))
    problem = Problem(
        config=config,
        topology=asked.topology,
        context_tokens=args.context,
        prompt_tokens=prompt,
        sessions=args.requests if args.at_once is None else args.at_once,
        chunk=usual_chunk(config, "auto", "auto", asked.topology.devices),
    )
    scenario = Scenario(
        problem=problem,
        strategy=args.strategy or desk.defaults.strategy,
        requests=tuple(
            Request(prompt_tokens=prompt, answer_tokens=args.answer, at_s=at * args.every)
            for at in range(args.requests)
        ),
        changes=tuple(_changes(args, asked.topology)),
        jitter=args.jitter,
        seed=args.seed,
        notice_s=NOTICE_S if args.notice is None else args.notice,
    )
    remarks = [f"{one.name} is emulated: {one.emulated}" for one in asked.topology.devices if one.emulated]
    if asked.scenario is not None and not args.devices:
        memory = sum(device.memory_bytes for device in asked.topology.devices)
        remarks.append(asked.scenario.remark(memory))
    return GanttView(run(scenario), remarks=remarks)


def _bounded(args: Namespace, prompt: int, devices: int) -> None:
    """Refuse what would take minutes; Python can ask `simulation.run` for any size."""
    if args.requests < 1:
        raise ConfigError(f"--requests must be 1 or more, got {args.requests}")
    steps = 2 * devices * args.requests * (args.answer + math.ceil(prompt / SMALL_CHUNK))
    if steps > MOST_STEPS:
        raise ConfigError(
            f"that is up to {steps:,} steps, and {MOST_STEPS:,} are the most here; ask for fewer requests"
        )


def _changes(args: Namespace, there: Topology) -> list[Change]:
    changes: list[Change] = []
    for text in args.fail or ():
        node, at_s, _ = _parts(text, "NODE@SECONDS", wants_factor=False)
        changes.append(Fail(at_s=at_s, device=_device(there, node)))
    for text in args.slow or ():
        node, at_s, factor = _parts(text, "NODE@SECONDS:FACTOR", wants_factor=True)
        changes.append(SlowDown(at_s=at_s, device=_device(there, node), factor=factor))
    return changes


def _parts(text: str, wanted: str, *, wants_factor: bool) -> tuple[str, float, float]:
    node, _, rest = text.rpartition("@")
    at_s, colon, factor = rest.partition(":")
    try:
        if not node or bool(colon) != wants_factor:
            raise ValueError(text)
        return node.strip(), float(at_s), float(factor) if wants_factor else 1.0
    except ValueError as exc:
        raise ConfigError(f"{text!r} is not {wanted}") from exc


def _device(there: Topology, name: str) -> str:
    """A device by its name or id."""
    found = [device.id for device in there.devices if name in (device.name, device.id)]
    if len(found) != 1:
        names = ", ".join(device.name for device in there.devices)
        problem = "there is no" if not found else f"{len(found)} devices are called"
        raise ConfigError(f"{problem} {name!r}; there are {names}")
    return found[0]
