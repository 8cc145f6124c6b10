"""The verbs of those who run a cluster: `network test`, `monitor`, `diagnose`. `topology show` is in `verbs_views`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.front.desk import progress_board
from exo_lab.front.network_view import NetworkView
from exo_lab.front.text_view import TextView

if TYPE_CHECKING:
    from argparse import Namespace

    from exo_lab.front.desk import Desk


def network(desk: Desk, args: Namespace) -> None:
    """Have the nodes test their links."""
    cluster = desk.cluster()
    visitor = getattr(args, "visitor", None)  # a command of the shell, which ends with its answer
    with progress_board(desk, "testing the network") as (board, screen):
        report = cluster.network_test(
            args.target,
            without=(visitor,) if visitor else (),
            while_busy=args.while_busy,
            progress=lambda name, done, total, what: board.say(f"{name} ({done} of {total}): {what}"),
        )
        view = NetworkView(report, [node.device for node in cluster.nodes()])
        screen.finish(TextView(view.json()) if args.json else view)
