"""A small model beside the requester that guesses what a large one says. Its guesses change no token: see `choosing`.

It draws with the request's own parameters and the same random numbers as the ring, so that where the two models agree
it says the same, greedy or sampled. Loaded anywhere, then owned by the data thread of the node that asks.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from exo_lab.engines import convert, sampling
from exo_lab.engines.base import PREFILL_CHUNK
from exo_lab.node.guessing import MOST, Acceptance, Costs, Worth
from exo_lab.node.holds import PlanKey, key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from exo_lab.core.messages import Token
    from exo_lab.engines.base import Engine
    from exo_lab.node.session import Request

log = logging.getLogger(__name__)

HOPES = 0.7  # that a guess is right, before anything is known of a text
KEPT = 8  # plans whose costs are remembered


class _Session:
    """One request: the tokens in the draft's cache, and the step under way."""

    def __init__(self, costs: Costs) -> None:
        self.cached: list[int] = []
        self.known = 0  # of them that are no guesses
        self.worth = Worth(Acceptance(HOPES), costs)
        self.wire, self.sent_at, self.compute_s = "", 0.0, 0.0
        self.guesses: tuple[int, ...] = ()
        self.right = 0


class Draft:
    """See the module.

    Args:
        engine: holds all layers of the small model.
        vocab_size: of the large one; nothing beyond it is guessed.
        context: positions that the small one has room for; there it stops guessing.
        clock: seconds, monotonic.
    """

    def __init__(
        self, engine: Engine, vocab_size: int, context: int, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._engine, self._vocab_size, self._context, self._clock = engine, vocab_size, context, clock
        self._sessions: dict[str, _Session] = {}
        self._costs: dict[PlanKey, Costs] = {}
        self._broken = False

    def next(self, request: Request, token: Token) -> tuple[int, ...] | None:
        """Guesses of what follows a request's latest token; None while more tokens of the same step are coming."""
        session = self._session(request)
        session.compute_s += sum(timing.compute_s for timing in token.timings)
        if token.more:
            session.right += 1
            return None
        now = self._clock()
        self._learn(session, token, now)
        room = min(request.spec.total_tokens - 1, self._context) - request.known
        guesses = self._guesses(request, session, room)
        session.wire, session.sent_at, session.guesses = token.request, now, guesses
        session.right, session.compute_s = 0, 0.0
        return guesses

    def _session(self, request: Request) -> _Session:
        found = self._sessions.get(request.id)
        if found is None:
            key = key_of(request.plan)
            costs = self._costs.setdefault(key, Costs(together=True))
            while len(self._costs) > KEPT:
                del self._costs[next(iter(self._costs))]
            found = self._sessions[request.id] = _Session(costs)
        return found

    def _learn(self, session: _Session, token: Token, now: float) -> None:
        """A step has gone around: how much of it was right, and what it took, drafting included."""
        if session.wire != token.request:
            return  # the first one of an attempt, which computed a prompt
        for number in range(1, min(len(session.guesses), MOST) + 1):
            session.worth.acceptance.saw(number, number <= session.right)
        session.worth.costs.took(len(session.guesses), now - session.sent_at, session.compute_s)

    def _guesses(self, request: Request, session: _Session, room: int) -> tuple[int, ...]:
        fixed = request.spec.sampling.speculate
        if room <= 0 or self._broken:
            return ()
        most = session.worth.most(room) if fixed is None else min(room, fixed)
        try:
            return self._draw(request, session, most) if most else ()
        except Exception:
            # The ring needs no guesses: a draft that breaks must not end an answer.
            log.exception("the draft model failed; %s and what follows goes on without it", request.id)
            self._broken = True
            return ()

    def _draw(self, request: Request, session: _Session, most: int) -> tuple[int, ...]:
        params, told = request.spec.sampling, [*request.prompt, *request.drawn]
        start = min(session.known + _alike(session.cached[session.known :], told[session.known :]), len(told) - 1)
        del session.cached[start:]
        session.known = len(told)
        prompt = len(request.prompt)
        if start < prompt:  # by itself, as the ring computes it: the same model is to say the same
            self._feed(request.id, session, told[start:prompt])
        logits = self._feed(request.id, session, told[max(start, prompt) :])
        guesses: list[int] = []
        while True:
            said = told + guesses if params.repetition_penalty != 1 else ()
            guesses.append(sampling.draw(logits[: self._vocab_size], params, len(told) + len(guesses), said))
            if len(guesses) == most:
                return tuple(guesses)
            logits = self._feed(request.id, session, guesses[-1:])

    def _feed(self, request: str, session: _Session, tokens: Sequence[int]) -> np.ndarray:
        """Compute tokens that follow what is cached; logits (vocab,) of the last one."""
        logits = None
        for at in range(0, len(tokens), PREFILL_CHUNK):
            part = list(tokens[at : at + PREFILL_CHUNK])
            want = "last" if at + len(part) == len(tokens) else "none"
            logits = self._engine.forward(request, convert.tokens(part), len(session.cached), want)
            session.cached += part
        assert logits is not None
        return convert.to_numpy(logits)[0]

    def forget(self, request: str) -> None:
        """It is over."""
        if self._sessions.pop(request, None) is not None:
            self._engine.drop(request)


def _alike(cached: Sequence[int], told: Sequence[int]) -> int:
    """How many tokens both begin with."""
    for at, (mine, theirs) in enumerate(zip(cached, told, strict=False)):
        if mine != theirs:
            return at
    return min(len(cached), len(told))
