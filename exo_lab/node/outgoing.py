"""What a stage has in hand and what it sends: plain values between `stage`, `choosing` and `ring`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from exo_lab.core.messages import Cache, DataMessage, Step
    from exo_lab.core.tensor import Tensor
    from exo_lab.engines.base import Want
    from exo_lab.node.shelf import StageSession


class ToNode(NamedTuple):
    """A step, or a layer's cache, for a node of the plan."""

    node: str
    message: Step | Cache
    tensor: Tensor | None = None


class ToAddress(NamedTuple):
    """A message for a requester: its id, and the data endpoint that it named."""

    node: str
    address: str
    message: DataMessage


class Ready(NamedTuple):
    """A step that was found good. `started` when that began."""

    step: Step
    session: StageSession
    x: Tensor
    started: float

    @property
    def want(self) -> Want:
        """What the engine is to return."""
        if not self.session.hold.is_last or not self.step.final:
            return "none"
        return "all" if self.step.guesses else "last"
