"""Where a verb is typed, and what it needs of that place: the cluster, the defaults, a screen."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from exo_lab.front.progress_view import Board
from exo_lab.front.roster import Roster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exo_lab.cluster import Cluster
    from exo_lab.core.errors import ExoError
    from exo_lab.front.screen import Screen


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
    kept: Callable[[str | None], Any] | None = None  # the answer of that name, or the last one; None: none is kept

    def cluster(self) -> Cluster:
        """This process's cluster.

        Raises:
            NotConnected: it is no node; says how to become one. Nothing is started unasked.
        """
        return self.backend.require()


@contextmanager
def progress_board(desk: Desk, title: str) -> Iterator[tuple[Board, Screen]]:
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
