"""What a stage has in hand and what it sends: plain values between `stage`, `choosing` and `ring`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from exo_lab.core.messages import Failed, SessionSpec, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exo_lab.core.errors import ExoError
    from exo_lab.core.messages import Cache, DataMessage
    from exo_lab.core.plan import Plan
    from exo_lab.core.tensor import Tensor
    from exo_lab.engines.base import Want
    from exo_lab.node.shelf import StageSession

MAX_ERROR_CHARACTERS = 4000  # it may quote what a peer sent


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


class Later(NamedTuple):
    """What can wait until everything before it has been sent; `make` does it, and returns what it sends."""

    make: Callable[[], Sequence[ToAddress]]


Outgoing = ToNode | ToAddress | Later


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

    @property
    def flops(self) -> float:
        """What computing it takes."""
        hold, count = self.session.hold, self.x.shape[0]
        heads = {"none": 0, "last": 1, "all": count}[self.want]
        shard = hold.plan.shards[hold.stage]
        return hold.config.step_flops(shard.end - shard.start, count, self.step.position, heads)


class Farewell(NamedTuple):
    """A request that a stage gave up on its own. `blamed` could not do its part; "": the stage itself."""

    request: str
    spec: SessionSpec
    why: ExoError
    blamed: str = ""


def failure(request: str, spec: SessionSpec, error: ExoError, node: str, blamed: str = "") -> ToAddress:
    """What a requester is told of a request that cannot go on at `node`. `blamed`: see `Farewell`."""
    text = str(error)[:MAX_ERROR_CHARACTERS]
    failed = Failed(request=request, error=type(error).__name__, message=text, node=node, blamed=blamed)
    return ToAddress(spec.requester, spec.reply_to, failed)


def first_step(
    plan: Plan,
    request: str,
    position: int,
    *,
    final: bool = True,
    guesses: tuple[int, ...] = (),
    prefix: bytes = b"",
    spec: SessionSpec | None = None,
) -> Step:
    """A step for the plan's first stage; fields as in `Step`."""
    return Step(
        request=request,
        model=plan.model,
        epoch=plan.epoch,
        proposer=plan.proposer,
        stage=0,
        position=position,
        final=final,
        guesses=guesses,
        prefix=prefix,
        spec=spec,
    )
