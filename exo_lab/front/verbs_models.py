"""The verbs about models: what a plan would be, loading, unloading, what this machine has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exo_lab.core.status import residents
from exo_lab.front.desk import progress_board
from exo_lab.front.message_view import MessageView, TableView
from exo_lab.front.text import clean_name
from exo_lab.front.units import show_bytes
from exo_lab.front.views import PlanView

if TYPE_CHECKING:
    from argparse import Namespace

    from exo_lab.front.desk import Desk
    from exo_lab.front.view import View


def plan(desk: Desk, args: Namespace) -> View:
    """What `load` would do."""
    made = desk.cluster().explain(_model(desk, args), compare=args.explain, **_plan_options(desk, args))
    return PlanView.of_preview(made.preview, made.links, explanation=made.explanation, in_full=args.explain)


def load(desk: Desk, args: Namespace) -> None:
    """Cut a model over the nodes."""
    cluster, model = desk.cluster(), _model(desk, args)
    with progress_board(desk, f"loading {model}") as (board, screen):
        loaded = cluster.load(model, progress=board.report, **_plan_options(desk, args))
        screen.finish(PlanView.of_loaded(loaded, [node.device for node in residents(cluster.nodes())]))


def move(desk: Desk, args: Namespace) -> None:
    """Layers go to another node."""
    cluster = desk.cluster()
    with progress_board(desk, f"moving layers {args.layers} to {args.node}") as (board, screen):
        loaded = cluster.move(args.layers, args.node, model=args.model, progress=board.report)
        screen.finish(PlanView.of_loaded(loaded, [node.device for node in residents(cluster.nodes())]))


def unload(desk: Desk, args: Namespace) -> View:
    """Have every node forget a model."""
    cluster = desk.cluster()
    return MessageView(f"Unloaded on every node: {clean_name(cluster.unload(args.model))}.")


def models(desk: Desk, args: Namespace) -> View | None:
    """Models on this machine."""
    from exo_lab.models.locate import WHEELS, cached_models, locate

    if args.fetch:
        name = args.fetch
        with progress_board(desk, f"fetching {name}") as (board, screen):
            path = locate(name, lambda done, total, what: board.report("this machine", done, total, what))
            screen.finish(MessageView(f"{name} is in {path}"))
        return None
    present = desk.backend.current()
    loaded = {model.plan.model for model in present.models()} if present is not None else set()
    rows = [
        (cached.name, show_bytes(cached.nbytes), "loaded" if cached.name in loaded else "", cached.about)
        for cached in cached_models()
    ]
    known = {row[0] for row in rows}
    rows += [(wheel.name, "", "not fetched", wheel.about) for wheel in WHEELS.values() if wheel.name not in known]
    rows += [(name, "", "loaded", "") for name in sorted(loaded - {row[0] for row in rows})]
    return TableView("Models that this machine has or knows", ("model", "size", "state", "what"), rows, ("size",))


def _model(desk: Desk, args: Namespace) -> str:
    return args.model or desk.defaults.model


def _plan_options(desk: Desk, args: Namespace) -> dict[str, Any]:
    options = {
        "strategy": args.strategy or desk.defaults.strategy,
        "objective": args.objective,
        "devices": args.devices,
        "layers": args.layers,
        "prompt": args.prompt,
        "mix": args.mix,
        "dtype": args.dtype,
        "engine": args.engine,
        "context": args.context,
        "force": args.force,
        "wire": args.wire,
        "chunk": args.chunk,
    }
    return {name: value for name, value in options.items() if value is not None}
