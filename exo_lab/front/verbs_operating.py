"""The verbs of those who run a cluster: `alerts`, `network test`, ... `topology show` is in `verbs_views`."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.errors import ConfigError
from exo_lab.front.alerts_view import AlertsView
from exo_lab.front.desk import progress_board
from exo_lab.front.files import write_file
from exo_lab.front.message_view import MessageView
from exo_lab.front.monitor import Watch, checked_interval, run
from exo_lab.front.monitor_live import drawing
from exo_lab.front.network_view import NetworkView
from exo_lab.front.recording import Recording
from exo_lab.front.screen import CellScreen
from exo_lab.front.text_view import TextView

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

    from exo_lab.cluster import Cluster
    from exo_lab.front.desk import Desk
    from exo_lab.front.frame import Frame
    from exo_lab.front.progress_view import Board
    from exo_lab.front.view import View

OFF = "off"


def alerts(desk: Desk, args: Namespace) -> View:
    """What is too much, and what is predicted; or say that somebody knows of it."""
    cluster = desk.cluster()
    if args.ack is not None:
        cluster.acknowledge(args.ack)
        return MessageView(f"Alert {args.ack} is acknowledged; it stays until it is over.")
    status = cluster.status()
    if args.json:
        told = {"alerts": status.alerts, "forecasts": status.forecasts}
        return TextView(msgspec.json.format(msgspec.json.encode(told)).decode())
    return AlertsView(status)


def network(desk: Desk, args: Namespace) -> None:
    """Have the nodes test their links."""
    cluster = desk.cluster()
    with progress_board(desk, "testing the network") as (board, screen):
        report = cluster.network_test(
            args.target,
            while_busy=args.while_busy,
            progress=lambda name, done, total, what: board.say(f"{name} ({done} of {total}): {what}"),
        )
        view = NetworkView(report, [node.device for node in cluster.nodes()])
        screen.finish(TextView(view.json()) if args.json else view)


def monitor(desk: Desk, args: Namespace) -> View | None:
    """Watch the cluster: charts in a cell, a page that is drawn again and again in a terminal, lines in a pipe."""
    cluster, every_s = desk.cluster(), checked_interval(args.interval)
    screen = desk.screen()
    if isinstance(screen, CellScreen):
        from exo_lab.front.widgets.monitored import ended, monitored

        if args.record == OFF:
            return MessageView(ended(cluster))
        return monitored(cluster, screen, every_s=every_s, for_s=args.for_s, record=args.record)
    if args.record == OFF:
        raise ConfigError("in a terminal Ctrl+C ends monitor and its recording; --record takes a file there")
    watch = Watch(cluster)
    with contextlib.ExitStack() as stack:
        record = stack.enter_context(Recording(args.record)) if args.record else None
        draw = stack.enter_context(drawing(sys.stdout))

        def take(seen: Frame) -> None:
            if record is not None:
                record.add(seen)
            draw(seen, f"recording: {record.said()}" if record is not None else "")

        # That is how it is ended, and no mistake.
        with contextlib.suppress(KeyboardInterrupt):
            run(watch.look, take, every_s=every_s, for_s=args.for_s)
    return MessageView(record.said()) if record is not None else None


def diagnose(desk: Desk, args: Namespace) -> None:
    """Everything in one file. Also where this process is no node: then of this machine alone."""
    from exo_lab.front.report.gather import gather
    from exo_lab.front.report.page import page, summary
    from exo_lab.front.widgets.live_telemetry import watching

    cluster = desk.backend.current()
    charts = None if cluster is None else watching(cluster)
    with progress_board(desk, "looking at everything") as (board, screen):
        facts = gather(
            cluster,
            desk.backend.checkup,
            last_s=args.last,
            moments=() if charts is None else charts.history.moments,
            test=_network_test(cluster, board) if args.network and cluster is not None else None,
        )
        place = write_file(args.output, page(facts))
        said = f"The report is in {place}. It opens in any browser and needs no network."
        screen.finish(MessageView(said, *summary(facts)))


def _network_test(cluster: Cluster, board: Board) -> Callable[[], object]:
    return lambda: cluster.network_test(progress=lambda name, *_: board.say(f"testing the links of {name}"))


def export(desk: Desk, args: Namespace) -> View:
    """Begin or end to export, and say what is exported."""
    given = {"prometheus": args.prometheus, "otlp": args.otlp}
    now = desk.cluster().export(**{name: value for name, value in given.items() if value is not None})
    return MessageView(
        f"Metrics for Prometheus: {now.prometheus or 'off'}",
        f"Traces of answers of this kernel, for OpenTelemetry: {f'to {now.otlp}' if now.otlp else 'off'}",
    )
