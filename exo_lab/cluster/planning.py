"""Plans of this cluster: what `planning` makes of the devices, links and measurements that a node knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from exo_lab.cluster.asking import options_as
from exo_lab.cluster.reach import check_reach
from exo_lab.core.errors import ConfigError
from exo_lab.core.status import LoadedModel, PlanPreview
from exo_lab.core.topology import topology
from exo_lab.core.wire import Wire
from exo_lab.node import planner
from exo_lab.node.failover import computing_alike
from exo_lab.planning.advice import with_advice
from exo_lab.planning.choose import choose
from exo_lab.planning.chunks import usual_chunk, with_chunk
from exo_lab.planning.problem import PROMPT_TOKENS, Mix, Objective, Problem
from exo_lab.planning.wires import with_wires

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exo_lab.cluster.models import Models
    from exo_lab.core.model import ModelConfig
    from exo_lab.core.plan import Plan
    from exo_lab.core.topology import Link, Topology
    from exo_lab.node.node import Node
    from exo_lab.planning.explain import Explanation

NOBODY = (
    "there is no node to load on: this process ends with its command and holds nothing. Start one with exo-lab node, "
    "or %exo up in a notebook."
)


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What a user may say of a plan; `Cluster.plan` explains the fields."""

    strategy: str
    devices: tuple[str, ...] | None = None
    layers: tuple[int, ...] | None = None
    dtype: str = "auto"
    engine: str = "auto"
    context: int
    prompt: int = PROMPT_TOKENS
    objective: Objective = "decode"
    mix: Mix | None = None
    force: bool = False
    wire: Wire | Literal["auto"] = "float32"
    chunk: int | Literal["auto"] | None = None

    @property
    def wire_wanted(self) -> Wire | Literal["auto"]:
        """Who asks for float32 weights wants no rounding on the way either."""
        return "float32" if self.wire == "auto" and self.dtype == "float32" else self.wire


class Explained(NamedTuple):
    """A plan that was made and not loaded, with what it is predicted to do and why it is so."""

    preview: PlanPreview
    explanation: Explanation
    links: tuple[Link, ...]  # that its hops were priced with


def heard_of(cluster: Models) -> Topology:
    """This node's cluster, with links between others as those measured them; who does not answer is as seen here.

    Raises:
        ConfigError: nobody is there who could hold a layer.
    """
    known = cluster.node.topology.residents
    if not known.devices:
        raise ConfigError(NOBODY)
    heard = cluster.collected()
    there = {device.id for device in known.devices}
    return topology(known.sightings, [edge for edge in (*known.links, *heard.links) if {edge.a, edge.b} <= there])


def problem_of(
    node: Node, config: ModelConfig, wish: Wish, order: Sequence[str] = (), known: Topology | None = None
) -> Problem:
    """The planning task of a model on this node's cluster, with everything that was measured.

    Args:
        node: who plans.
        config: of the model.
        wish: the user's.
        order: device ids, if the user chose.
        known: devices and links; what the node sees itself if None. Who only visits is left out.

    Raises:
        ConfigError: a number or an objective that cannot be.
    """
    known = (known or node.topology).residents
    devices = [device for device in known.devices if not order or device.id in order]
    return Problem(
        config=config,
        topology=planner.with_free_memory_now(node, known, config),
        order=tuple(order),
        context_tokens=wish.context,
        prompt_tokens=wish.prompt,
        objective=wish.objective,
        mix=wish.mix,
        dtype=wish.dtype,
        engine=wish.engine,
        force=wish.force,
        wire=wish.wire_wanted,
        chunk=usual_chunk(config, wish.dtype, wish.engine, devices),
        measured=planner.measurements(node, config.digest, wish.dtype, wish.engine),
    )


def problem_of_loaded(node: Node, model: LoadedModel, known: Topology | None = None) -> Problem:
    """The planning task that a loaded plan answers, as things are now; `known` as in `problem_of`."""
    plan = model.plan
    return problem_of(node, model.config, wish_behind(plan, None), known=known)


def wish_behind(plan: Plan, said: Wish | None) -> Wish:
    """The wish that a loaded plan fulfils: what its user `said`, where that was here, and what the plan says itself."""
    if said is None:
        return Wish(strategy=plan.strategy, dtype=plan.dtype, engine=plan.engine, context=plan.context_tokens)
    return msgspec.structs.replace(said, dtype=plan.dtype, engine=plan.engine, context=plan.context_tokens)


def preview(cluster: Models, config: ModelConfig, wish: Wish, alike: Plan | None = None) -> tuple[PlanPreview, Problem]:
    """A plan and what it was made for. See `Cluster.plan`.

    `alike`: a plan as which it has to compute, in pieces and with roundings, whatever the wish says of these.
    """
    check_reach(cluster, "a plan would leave it out, for everybody", wish.devices)
    known = heard_of(cluster)
    devices = known.devices
    by_name = sorted(devices, key=lambda device: (device.name, device.id))
    chosen = planner.select(by_name, wish.devices)
    listed = wish.devices is not None or wish.layers is not None
    problem = problem_of(cluster.node, config, wish, [device.id for device in chosen] if listed else (), known)
    plan = choose(problem, "manual" if wish.layers is not None else wish.strategy, wish.layers)
    plan = msgspec.structs.replace(plan, dtype=wish.dtype, engine=wish.engine)
    if alike is not None:
        plan = computing_alike(alike, plan)
    else:
        plan = with_wires(problem, plan)
        plan = with_chunk(problem, plan, wish.chunk)
    problem = msgspec.structs.replace(problem, chunk=plan.chunk)
    if alike is None:
        plan = with_advice(problem, plan)
    return PlanPreview(config=config, plan=plan, devices=devices), problem


def explained(cluster: Models, config: ModelConfig, wish: Wish, *, compare: bool) -> Explained:
    """See `Cluster.explain`."""
    from exo_lab.planning.explain import explain

    made, problem = preview(cluster, config, wish)
    return Explained(made, explain(problem, made.plan, compare=compare), problem.topology.links)


def wish_of(options: Mapping[str, Any]) -> Wish:
    """Options as a user gives them; a mix may be a mapping of weights.

    Raises:
        ConfigError: an option that there is not, or a value that it cannot have.
    """
    return options_as(Wish, "plan", options)
