"""What the last stage does with logits: it chooses tokens, tells the requester, and begins the next step with guesses.

Owned by the data thread; knows no sockets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.core.messages import FinishReason, StageTiming, Step, Token
from exo_lab.engines import convert, sampling
from exo_lab.node.outgoing import ToAddress, ToNode, first_step

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    import numpy as np

    from exo_lab.node.outgoing import Ready
    from exo_lab.node.shelf import Shelf, StageSession


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

    def choose(self, one: Ready, logits: np.ndarray, compute_s: float, *, together: int) -> list[ToNode | ToAddress]:
        """Tokens from logits (n, vocab), one for each position as long as what was guessed for it is what is drawn."""
        step, session, x, started = one
        spec, hold = session.spec, session.hold
        guessed = step.guesses
        position = step.position + x.shape[0] - len(guessed)
        self._measure(one, compute_s, together)
        sent: list[ToNode | ToAddress] = []
        last = 0
        for row in range(len(logits)):
            began = self._clock()
            chosen = sampling.sample(logits[row], spec.sampling, position, session.seen)
            chosen_s = self._clock() - began  # counts with the head, as in `engines.calibrate`
            session.chose(last := chosen.token)
            timings = step.timings
            if row == 0:
                if together == 1 and not step.guesses:
                    hold.meter.computed(x.shape[0], step.position, compute_s + chosen_s, head=True)
                timing = StageTiming(self._node, compute_s, self._clock() - started)
                hold.meter.handled(timing.handling_s - compute_s - chosen_s)
                timings = (*timings, timing)
            finish: FinishReason | None = None
            if chosen.token in spec.eos:
                finish = "stop"
            elif position + 1 >= spec.total_tokens:
                finish = "length"
            token = Token(
                request=step.request,
                position=position,
                token=chosen.token,
                logprob=chosen.logprob,
                finish=finish,
                alternatives=chosen.alternatives,
                timings=timings if row == 0 else (),  # the others came in the same pass
                reused=session.reused if position == spec.prompt_tokens else 0,
            )
            sent.append(ToAddress(spec.requester, spec.reply_to, token))
            self._counters["tokens"] += 1
            if finish is not None:
                # The other stages hear of the end from the requester's Cancel, sent when the last token arrives.
                self._shelf.end(step.request)
                return sent
            right = row < len(guessed) and guessed[row] == chosen.token
            if not right:
                break
            self._counters["guesses that were right"] += 1
            position += 1
        # The next step first: it is what everybody waits for.
        return [self._next(step, session, position, last), *sent]

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
