"""The verbs that draw: topology, placement, telemetry, heatmap. What they draw is in `widgets`, imported when asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.core.errors import ConfigError
from exo_lab.front.files import write_file
from exo_lab.front.message_view import MessageView
from exo_lab.front.picture import picture
from exo_lab.front.svg import as_file
from exo_lab.front.text import clean
from exo_lab.front.text_view import TextView
from exo_lab.front.topology_view import TopologyView

if TYPE_CHECKING:
    from argparse import Namespace

    from exo_lab.front.desk import Desk
    from exo_lab.front.view import View


def topology(desk: Desk, args: Namespace) -> View:
    """Devices and links: live in a cell, unless it is asked to `show` them or for one of its forms."""
    if args.what is None and not (args.table or args.json or args.svg):
        from exo_lab.front.widgets.live import topology

        return topology(desk.cluster())
    cluster = desk.cluster()
    view = TopologyView(picture(cluster.nodes(), cluster.topology(), cluster.models()), tables=args.table)
    if args.svg is not None:
        return MessageView(f"A drawing of {view.title()} is in {write_file(args.svg, as_file(view.svg()))}")
    return TextView(view.json()) if args.json else view


def placement(desk: Desk, args: Namespace) -> View:
    """Who holds which layers."""
    from exo_lab.front.widgets.live import placement

    return placement(desk.cluster())


def telemetry(desk: Desk, args: Namespace) -> View:
    """What the cluster does, over time."""
    from exo_lab.front.widgets.live_telemetry import telemetry, watching

    if args.csv is None:
        return telemetry(desk.cluster(), every_s=args.every)
    found = watching(desk.cluster())
    if found is None:
        raise ConfigError("nothing was measured of this cluster yet. Run %exo telemetry first, then with --csv FILE.")
    return _written(args.csv, found.csv())


def heatmap(desk: Desk, args: Namespace) -> View:
    """Where the time of an answer went."""
    from exo_lab.front.widgets.heat_view import HeatView
    from exo_lab.front.widgets.live_heat import LiveHeat
    from exo_lab.generation import Generation

    found = None if desk.kept is None else desk.kept(args.name)
    if not isinstance(found, Generation):
        what = f"{args.name} holds no answer" if args.name else "no answer was asked for in this kernel yet"
        raise ConfigError(f"{what}. Ask with %%exo -o NAME, then %exo heatmap NAME.")
    if args.last is not None and args.last < 1:
        raise ConfigError(f"--last takes 1 token or more, not {args.last}")
    present = desk.backend.current()
    if present is None:
        view = HeatView(found.tokens, found.stats, (), args.last)
    else:
        view = LiveHeat(found, present, args.last, follow=args.name is None and args.last is None)
    if args.csv is not None:
        _written(args.csv, view.csv())
    return view


def _written(path: str, text: str) -> MessageView:
    place = write_file(path, text)
    return MessageView(f"{text.count(chr(10)) - 1} lines of figures are in {clean(str(place), 300)}")
