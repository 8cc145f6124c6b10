"""What becomes of frames that cannot be sent: a requester hears of it, or what nobody asks for any more is freed.

Owned by the data thread. Knows no sockets and no ways: who could not be reached is said to it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from exo_lab.core.errors import NodeLost
from exo_lab.core.messages import Adopted, Cache, Cancel, Echo, Failed, HandOver, Lacks, Step, Token
from exo_lab.node.outgoing import Farewell

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_lab.core.errors import ExoError
    from exo_lab.core.plan import Plan
    from exo_lab.node.outbox import Unsent
    from exo_lab.node.own_requests import OwnRequests
    from exo_lab.node.shelf import Shelf

log = logging.getLogger(__name__)


class Undelivered:
    """See the module.

    Args:
        node: this node's id.
        shelf: its sessions.
        own: what it asked for itself.
        forget: drops all that is here of a request.
        cancel: frees a request on every stage of its plan.
        tell: lets a requester know.
    """

    def __init__(
        self,
        node: str,
        shelf: Shelf,
        own: OwnRequests,
        forget: Callable[[str], object],
        cancel: Callable[[Plan, str], object],
        tell: Callable[[Farewell], object],
    ) -> None:
        self._node, self._shelf, self._own = node, shelf, own
        self._forget, self._cancel, self._tell = forget, cancel, tell

    def frame(self, unsent: Unsent) -> None:
        """A frame was given up."""
        match unsent.message:
            case Step() | HandOver() | Cache() as step:
                self.step(step, unsent.node, NodeLost(str(unsent.error)))
            case Token(request=request) | Failed(request=request) | Adopted(request=request) | Lacks(request=request):
                # Nobody is left to read: free what was asked for, here and on the other stages.
                log.info("node %s: the requester of %s is out of reach: %s", self._node, request, unsent.error)
                session = self._shelf.session(request)
                self._forget(request)
                if session is not None:
                    self._cancel(session.hold.plan, request)
            case Cancel() | Echo():
                # Who does not hear of the end frees the session itself, when nothing comes any more.
                log.debug("node %s: a %s went nowhere: %s", self._node, type(unsent.message).__name__, unsent.error)

    def step(self, step: Step | HandOver | Cache, to: str, error: ExoError) -> None:
        """A step, or a cache, could not be handed on to a node: tell the requester, whoever it is."""
        if self._own.failed(step.request, error, to):
            return
        session = self._shelf.session(step.request)
        self._forget(step.request)
        spec = step.spec if session is None else session.spec
        if spec is not None:
            blamed = to if to != spec.requester else self._node  # it knows that it is there itself
            self._tell(Farewell(step.request, spec, error, blamed))
