"""What each verb does: asks the cluster and returns a view. Shared by cells and the shell.

A verb that takes a while draws its progress on a screen and finishes there; it then returns None. The verbs about
models are in `verbs_models`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from exo_lab.core.errors import ConfigError, ExoError
from exo_lab.core.status import residents
from exo_lab.front import verbs_fit, verbs_models, verbs_operating, verbs_records, verbs_simulate, verbs_views
from exo_lab.front.alert_words import warnings
from exo_lab.front.arguments import peers, sampling
from exo_lab.front.desk import Desk, progress_board
from exo_lab.front.doctor_view import DoctorView
from exo_lab.front.files import check_writable
from exo_lab.front.message_view import MessageView
from exo_lab.front.screen import CellScreen
from exo_lab.front.secret import token_view
from exo_lab.front.streaming import stream
from exo_lab.front.text import clean_name
from exo_lab.front.units import show_count
from exo_lab.front.views import NodesView, StatusView

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

    from exo_lab.cluster import Cluster
    from exo_lab.front.view import View
    from exo_lab.generation import Generation


FAILED = {"kill": "killed, without a goodbye", "freeze": "frozen; --how thaw lets it go on", "thaw": "goes on"}
APART = "A cluster apart: of what this kernel starts. Other notebooks and commands of the shell are not in it."
TIMEOUT_S = 120.0  # longest wait for one token, where nothing else was said


# -- being a node --------------------------------------------------------------------------------------------


def connect_options(args: Namespace) -> dict[str, Any]:
    """Keyword arguments of `connect` that were given, under the names that it has for them."""
    return {
        "name": args.name,
        "lan": args.lan,
        "bind": args.bind,
        "port": args.port,
        "peers": peers(args.peers),
        "discovery": args.discovery,
        "memory": args.memory,
        "slow": args.slow,
        "threads": args.threads or 0,
        "engine": args.engine,
        "rebalance": args.rebalance,
        "power": args.power,
        "emulate_link": args.emulate_link,
        "sensors": args.sensors,
        "thresholds": args.thresholds,
    }


UNSET: dict[str, Any] = {
    "lan": False, "port": 0, "memory": 0, "slow": 1.0, "threads": 0, "engine": "auto", "rebalance": "ask",
    "power": "auto",
}  # fmt: skip


def connect(desk: Desk, args: Namespace) -> View:
    """Make this process a node."""
    from exo_lab.transport.keys import new_token

    options = connect_options(args)
    present = desk.backend.current()
    if present is not None:
        given = [name for name, value in options.items() if value != UNSET.get(name)] + ["apart"] * args.apart
        if given:
            raise ConfigError(
                f"this kernel is node {clean_name(present.name)} already, with {', '.join(given)} as they are. "
                "To change them, run %exo disconnect first."
            )
        return StatusView(present.status())
    if not args.apart:
        return joined(desk.backend.connect(**options))
    return joined(desk.backend.connect(token=new_token(), **options), APART)


def joined(cluster: Cluster, *more: str) -> MessageView:
    """What a new node says of itself, and `more`."""
    status = cluster.status()
    me = next((node for node in status.nodes if node.is_self), None)
    address = me.address if me is not None else status.bind
    here = status.bind.startswith("127.")
    reach = "this machine only; --lan lets others in" if here else f"others join with --peers {address}"
    emulated = me.device.emulated if me is not None else ""
    return MessageView(
        f"Node {clean_name(status.name)} ({status.node_id}) listens on {address}: {reach}.",
        *([f"emulated: {emulated}"] if emulated else []),
        *more,
        warnings=status.problems,
    )


def disconnect(desk: Desk, args: Namespace) -> View:
    """Leave the cluster."""
    present = desk.backend.current()
    if present is None:
        return MessageView("This kernel is no node; there is nothing to leave.")
    name = present.name
    present.close()
    return MessageView(f"Node {clean_name(name)} has left the cluster; kernels that it had started are ended.")


def up(desk: Desk, args: Namespace) -> None:
    """Start kernels as nodes."""
    cluster = desk.cluster()
    options = {
        "memory": args.memory,
        "slow": args.slow,
        "emulate_link": args.emulate_link,
        "names": args.names,
        "threads": args.threads,
        "engines": args.engines,
        "profile": args.profile,
        "engine": args.engine,
        "timeout_s": args.timeout,
    }
    with progress_board(desk, f"starting {show_count(args.count, 'kernel')}") as (board, screen):
        cluster.up(args.count, progress=board.say, **options)
        screen.finish(NodesView(residents(cluster.nodes()), cluster.models()))


def down(desk: Desk, args: Namespace) -> View:
    """End kernels that were started here."""
    return MessageView(f"{show_count(desk.cluster().down(args.names or None), 'kernel')} ended.")


def fail(desk: Desk, args: Namespace) -> View:
    """Rehearse a loss."""
    desk.cluster().fail(args.name, args.how)
    return MessageView(f"{clean_name(args.name)}: {FAILED[args.how]}.")


# -- looking -------------------------------------------------------------------------------------------------


def status(desk: Desk, args: Namespace) -> View:
    """Everything at a glance; commands of a shell, this one too, are no part of it."""
    status = desk.cluster().status()
    return StatusView(msgspec.structs.replace(status, nodes=residents(status.nodes)))


def nodes(desk: Desk, args: Namespace) -> View:
    """The nodes; commands of a shell are none."""
    cluster = desk.cluster()
    return NodesView(residents(cluster.nodes()), cluster.models())


def doctor(desk: Desk, args: Namespace) -> View:
    """Why nodes find each other or do not: of this process's node, or of the machine if it is none."""
    return DoctorView(desk.backend.checkup())


def token(desk: Desk, args: Namespace) -> View:
    """The secret."""
    return token_view(show=args.show, new=args.new, join=args.join, connected=desk.backend.current() is not None)


# -- answers -------------------------------------------------------------------------------------------------


def answer(desk: Desk, args: Namespace, prompt: str, keep: Callable[[Generation], object] | None = None) -> Generation:
    """Ask, and draw the answer while it comes.

    Args:
        desk: where it was asked.
        args: sampling and the rest.
        prompt: what to say.
        keep: called with the generation as soon as there is one, so that an interrupted one is kept as well.

    Raises:
        ExoError: it could not be started or finished.
        KeyboardInterrupt: somebody pressed Interrupt; it is cancelled on every node.
    """
    cluster, defaults = desk.cluster(), desk.defaults
    if args.record == "" and not isinstance(desk.screen(), CellScreen):
        raise ConfigError("a terminal has no outputs that could keep a record; name a file: --record run.json")
    if args.record:
        check_writable(args.record)
    options = {"max_tokens": defaults.max_tokens, "temperature": defaults.temperature, **sampling(args)}
    loaded, devices = cluster.models(), [node.device for node in cluster.nodes()]
    generation = cluster.generate(
        prompt,
        model=args.model or _preferred(defaults.model, [model.plan.model for model in loaded]),
        raw=args.raw,
        system=args.system,
        draft=args.draft,
        timeout_s=args.timeout if args.timeout is not None else defaults.timeout_s,
        **options,
    )
    if keep is not None:
        keep(generation)
    stream(
        generation,
        desk.screen(),
        devices,
        loaded,
        lambda: _warnings(cluster),
        (lambda: verbs_records.as_metadata(generation)) if args.record == "" else dict,
        (lambda: verbs_records.save(generation, args.record)) if args.record else tuple,
    )
    return generation


def _warnings(cluster: Cluster) -> list[str]:
    """Those of the cluster. A node that cannot be asked spoils no answer that is there."""
    try:
        return warnings(cluster.status())
    except ExoError as exc:
        return [f"whether there are alerts could not be asked: {exc}"]


def _preferred(default: str, loaded: list[str]) -> str | None:
    """Of several loaded models, the default one; of one, that one, whatever the default is."""
    return default if len(loaded) > 1 and default in loaded else None


HANDLERS: dict[str, Callable[[Desk, Namespace], View | None]] = {
    "connect": connect,
    "disconnect": disconnect,
    "up": up,
    "down": down,
    "fail": fail,
    "status": status,
    "nodes": nodes,
    "doctor": doctor,
    "plan": verbs_models.plan,
    "fit": verbs_fit.fit,
    "simulate": verbs_simulate.simulate,
    "load": verbs_models.load,
    "move": verbs_models.move,
    "unload": verbs_models.unload,
    "models": verbs_models.models,
    "token": token,
    "topology": verbs_views.topology,
    "alerts": verbs_operating.alerts,
    "export": verbs_operating.export,
    "network": verbs_operating.network,
    "monitor": verbs_operating.monitor,
    "replay": verbs_records.replay,
    "diagnose": verbs_operating.diagnose,
    "placement": verbs_views.placement,
    "telemetry": verbs_views.telemetry,
    "heatmap": verbs_views.heatmap,
}
