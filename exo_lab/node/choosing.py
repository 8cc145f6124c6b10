"""What the last stage does with logits: it chooses tokens, tells the requester, and begins the next step with guesses.

Owned by the data thread; knows no sockets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from exo_lab.core.messages import StageTiming, Token
from exo_lab.engines import convert, sampling
from exo_lab.node.outgoing import Later, ToAddress, ToNode, first_step

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    import numpy as np

    from exo_lab.core.messages import FinishReason, SessionSpec, Step
    from exo_lab.node.outgoing import Outgoing, Ready
    from exo_lab.node.shelf import Shelf, StageSession


class _Drawn(NamedTuple):
    """A token that was chosen for `position`, from what, and how long that took."""

    position: int
    token: int
    logits: np.ndarray
    finish: FinishReason | None
    took_s: float


class Chooser:
    """See the module.

    Args:
        node: this node's id.
        shelf: where a request that is finished ends.
        counters: of guesses, and of those that were right.
        clock: seconds, monotonic.
    """

    def __init__(self, node: str, shelf: Shelf, counters: Counter[str], clock: Callable[[], float]) -> None:
        self._node, self._shelf, self._counters, self._clock = node, shelf, counters, clock

    def choose(self, one: Ready, logits: np.ndarray, compute_s: float, *, together: int) -> list[Outgoing]:
        """Tokens from logits (n, vocab), one for each position as long as what was guessed for it is what is drawn.

        The next step goes first, since everybody waits for it; probabilities are reckoned when it is on its way.
        """
        step, session, x, started = one
        spec = session.spec
        position = step.position + x.shape[0] - len(step.guesses)
        self._measure(one, compute_s, together)
        drawn: list[_Drawn] = []
        for row in range(len(logits)):
            began = self._clock()
            token = sampling.draw(logits[row], spec.sampling, position, session.seen)
            drew = _Drawn(position, token, logits[row], self._finish(spec, position, token), self._clock() - began)
            drawn.append(drew)
            session.chose(token)
            if drew.finish is not None or row >= len(step.guesses) or step.guesses[row] != token:
                break
            position += 1
        handling_s = self._clock() - started
        tell = Later(lambda: self._tell(one, drawn, compute_s, handling_s, together))
        if drawn[-1].finish is not None:
            # The other stages hear of the end from the requester's Cancel, sent when the last token arrives.
            self._shelf.end(step.request)
            return [tell]
        if spec.drafted:
            return [tell]  # the requester begins the next step when it has heard
        return [self._next(step, session, position, drawn[-1].token), tell]

    @staticmethod
    def _finish(spec: SessionSpec, position: int, token: int) -> FinishReason | None:
        if token in spec.eos:
            return "stop"
        return "length" if position + 1 >= spec.total_tokens else None

    def _tell(
        self, one: Ready, drawn: list[_Drawn], compute_s: float, handling_s: float, together: int
    ) -> list[ToAddress]:
        """The tokens, for the requester; and what they took, for those who reckon with it."""
        step, session = one.step, one.session
        spec, meter = session.spec, session.hold.meter
        timing = StageTiming(self._node, compute_s, handling_s)
        sent: list[ToAddress] = []
        for row, drew in enumerate(drawn):
            began = self._clock()
            said = sampling.told(drew.logits, drew.token, spec.sampling)
            if row == 0:
                meter.handled(handling_s - compute_s - sum(one.took_s for one in drawn))
                if together == 1 and not step.guesses:
                    # Choosing counts with the head, as in `engines.calibrate`.
                    chosen_s = drew.took_s + self._clock() - began
                    meter.computed(one.x.shape[0], step.position, compute_s + chosen_s, head=True)
            token = Token(
                request=step.request,
                position=drew.position,
                token=drew.token,
                logprob=said.logprob,
                finish=drew.finish,
                alternatives=said.alternatives,
                timings=(*step.timings, timing) if row == 0 else (),  # the others came in the same pass
                reused=session.reused if drew.position == spec.prompt_tokens else 0,
                more=row + 1 < len(drawn),
            )
            sent.append(ToAddress(spec.requester, spec.reply_to, token))
        self._counters["tokens"] += len(drawn)
        self._counters["guesses that were right"] += len(drawn) - 1
        return sent

    def _next(self, step: Step, session: StageSession, position: int, token: int) -> ToNode:
        """The step that a token, chosen for `position`, begins; with guesses of what may follow."""
        hold, guesser = session.hold, session.guesser
        room = session.spec.total_tokens - position - 2
        guesses: tuple[int, ...] = ()
        if guesser is not None and room > 0:
            guesses = guesser.guess(room, alone=self._shelf.sessions_on(hold.key) == 1)
            self._counters["guesses"] += len(guesses)
        session.sent_at = self._clock()
        following = first_step(hold.plan, step.request, position, guesses=guesses)
        return ToNode(hold.plan.devices[0], following, convert.tokens([token, *guesses]))

    def _measure(self, one: Ready, compute_s: float, together: int) -> None:
        """A step has gone around: what it took tells what guesses cost, if it had the ring for itself."""
        sent_at, hold = one.session.sent_at, one.session.hold
        if sent_at is not None and together == 1 and self._shelf.sessions_on(hold.key) == 1:
            computed_s = compute_s + sum(timing.compute_s for timing in one.step.timings)
            hold.costs.took(len(one.step.guesses), self._clock() - sent_at, computed_s)
