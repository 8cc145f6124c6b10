"""What is told of a generation while it runs, to whoever exports it: times and places. No text and no token. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.messages import FinishReason
from exo_lab.core.plan import Plan
from exo_lab.core.session import StageTiming

if TYPE_CHECKING:
    from collections.abc import Callable


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A token came. `since_s` and `at_s`: arrival of the one before (0: the request was sent) and of this one.

    Both are seconds since the request began, at `began_at_s` (since the epoch). `timings` of a first token are those of
    the prompt's last chunk; a token that came in the same pass as the one before has none.
    """

    request: str
    plan: Plan
    began_at_s: float
    index: int
    since_s: float
    at_s: float
    prompt_tokens: int
    reused_tokens: int
    timings: tuple[StageTiming, ...] = ()

    @property
    def took_s(self) -> float:
        """Seconds since the token before."""
        return max(0.0, self.at_s - self.since_s)

    @property
    def wire_s(self) -> float | None:
        """What of a token's time no stage accounts for: wire, and waiting for it. None of a first token, or untimed."""
        if not self.timings or not self.index:
            return None
        return max(0.0, self.took_s - sum(timing.handling_s for timing in self.timings))


class Over(msgspec.Struct, frozen=True, kw_only=True):
    """A generation has ended. `total_s`: seconds since it began."""

    request: str
    model: str
    finish: FinishReason
    tokens: int
    total_s: float


Moment = Step | Over

if TYPE_CHECKING:
    Follower = Callable[[Moment], None]
