"""The models that are loaded, as far as their shapes are known: a model that cannot be told hides no other."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from exo_lab.core.errors import ExoError
from exo_lab.core.status import LoadedModel

if TYPE_CHECKING:
    from exo_lab.core.plan import Plan
    from exo_lab.node.node import Node


class Loaded(NamedTuple):
    """Plans in use, by the model's name: of shapes that are known here, and the others."""

    known: tuple[LoadedModel, ...]
    unknown: tuple[Plan, ...]


def loaded_models(node: Node) -> Loaded:
    """What is loaded. Any thread; reads headers on this machine, and asks nobody."""
    known: list[LoadedModel] = []
    unknown: list[Plan] = []
    models = node.models
    for model, plan in sorted(node.plans.items()):
        try:
            config = node.shapes.here(models[model]) if model in models else None
        except ExoError:
            config = None  # `ask_shapes` says why
        if config is None:
            unknown.append(plan)
        else:
            known.append(LoadedModel(config=config, plan=plan))
    return Loaded(tuple(known), tuple(unknown))


async def ask_shapes(node: Node, plans: tuple[Plan, ...]) -> None:
    """Ask the other nodes for shapes of these plans' models. What cannot be had is a problem of the node."""
    for plan in plans:
        reference, subject = node.models.get(plan.model), f"shape of {plan.model}"
        if reference is None:
            continue
        try:
            await node.shapes.of(reference, at_once=False)
        except ExoError as exc:
            node.problems.note(subject, f"{plan.model} is loaded and cannot be shown or used from here: {exc}")
        else:
            node.problems.settle(subject)
