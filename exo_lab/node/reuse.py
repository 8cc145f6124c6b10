"""Chunks of a prompt that were computed for another request before: taken from what is kept, or kept for the next one.

The first stage decides: it knows the tokens, and so the name of what they begin with. To the others it passes the name
instead of hidden states; a stage that does not keep it says so, and the requester begins again without it. Owned by the
data thread.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from exo_lab.core.errors import ExoError, FrameError
from exo_lab.core.prefix import extend
from exo_lab.engines import convert

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from exo_lab.core.messages import Step
    from exo_lab.core.tensor import Tensor
    from exo_lab.engines.base import KvBlock
    from exo_lab.node.prefixes import Prefixes
    from exo_lab.node.shelf import StageSession

REUSED = "prompt tokens from the cache"


class NotKept(ExoError):
    """A chunk that the stages before had kept is not kept here. `positions` before it are."""

    def __init__(self, positions: int) -> None:
        super().__init__(f"the first {positions} positions of this prompt are kept here, and no more")
        self.positions = positions


class Reuse:
    """See the module."""

    def __init__(self, prefixes: Prefixes, counters: Counter[str]) -> None:
        self._prefixes, self._counters = prefixes, counters

    def restore(self, step: Step, tensor: Tensor | None, session: StageSession) -> bool:
        """Put a chunk's positions into its session's cache. False if they are to be computed.

        Raises:
            FrameError: the name is not that of the tokens.
            NotKept: it had to be kept here.
        """
        self._check_name(step, tensor, session)
        block = self._wanted(step, tensor, session)
        if block is None:
            if tensor is None:
                raise NotKept(session.reused)
            return False
        session.hold.engine.put_kv(step.request, step.position, block)
        session.prefix = step.prefix
        session.named = session.reused = step.position + block.positions
        self._counters[REUSED] += block.positions
        return True

    def _wanted(self, step: Step, tensor: Tensor | None, session: StageSession) -> KvBlock | None:
        """What is kept, if it may be used: by the first stage as long as everything before was, by others if told."""
        follows = not step.final and step.position == session.next_position == session.reused
        if not follows or (step.stage == 0) == (tensor is None):
            return None
        block = self._prefixes.find(session.hold.key, step.prefix, session.turn)
        return block if block is not None and step.position + block.positions <= session.spec.reuse else None

    def computed(self, step: Step, session: StageSession, positions: int) -> Callable[[], None]:
        """A chunk was computed. What is returned keeps it for others, if there is room: it copies, and can wait."""
        before, session.prefix, session.named = session.prefix, step.prefix, step.position + positions
        return partial(self._keep, step, session, before, positions)

    def _keep(self, step: Step, session: StageSession, before: bytes, positions: int) -> None:
        hold, kept = session.hold, self._prefixes
        if kept.find(hold.key, step.prefix, session.turn) is not None:
            return
        size = positions * hold.engine.info.kv_bytes_per_token
        if kept.has_room(hold.key, before, size, session.turn):
            block = hold.engine.cut_kv(step.request, step.position, step.position + positions)
            kept.keep(hold.key, step.prefix, step.position, block, session.turn)

    def _check_name(self, step: Step, tensor: Tensor | None, session: StageSession) -> None:
        """What is kept under a name must be what it names. Only the first stage sees the tokens."""
        good = step.position == session.named and (step.stage > 0 or tensor is not None)
        if good and step.stage == 0 and tensor is not None:
            good = extend(session.prefix, convert.to_numpy(tensor).tolist()) == step.prefix
        if not good:
            raise FrameError(f"request {step.request}: the chunk at {step.position} does not hold what its name says")
