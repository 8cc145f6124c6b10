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
        guessed, session.guessed = session.guessed, ()
        position = step.position + x.shape[0] - step.guesses
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
        sampling_params, lookup = session.spec.sampling, session.lookup
        room = session.spec.total_tokens - position - 2
        if lookup is not None and room > 0:
            session.guessed = lookup.guess(min(sampling_params.speculate, room))
            self._counters["guesses"] += len(session.guessed)
        plan = session.hold.plan
        following = first_step(plan, step.request, position, guesses=len(session.guessed))
        return ToNode(plan.devices[0], following, convert.tokens([token, *session.guessed]))
