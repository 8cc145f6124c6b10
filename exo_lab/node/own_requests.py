"""The generations that this node asked for: their prompts go out, their tokens come in, and they end everywhere.

Owned by the data thread, but for `add` and `all`. Knows no sockets: how a step or a Cancel travels is for the ring.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from exo_lab.core.errors import NodeLost
from exo_lab.core.messages import Cancel, HandOver, Step
from exo_lab.core.prefix import extend
from exo_lab.engines import convert
from exo_lab.node.failover import parts
from exo_lab.node.outgoing import first_step
from exo_lab.node.session import ATTEMPT_MARK

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from exo_lab.core.errors import ExoError
    from exo_lab.core.messages import Adopted, Lacks, Token
    from exo_lab.core.plan import Plan
    from exo_lab.core.tensor import Tensor
    from exo_lab.node.draft import Draft
    from exo_lab.node.session import Request

MAX_TOKEN_ID = 2**31
KEPT = 256


class _Adoption(NamedTuple):
    """Caches on their way: stages of the new plan that do not have theirs, and the attempt that they come from."""

    waiting: set[str]
    plan: Plan
    wire: str


class OwnRequests:
    """See the module.

    Args:
        node: this node's id.
        counters: where what comes too late is counted.
        send: takes a step with its tensor to a node of the plan.
        cancel: frees a request on every stage of its plan.
    """

    def __init__(
        self,
        node: str,
        counters: Counter[str],
        send: Callable[[str, Step | HandOver | Cancel, Tensor | None], object],
        cancel: Callable[[Plan, str], object],
    ) -> None:
        self._node, self._counters, self._send, self._cancel = node, counters, send, cancel
        # Takes a request over that failed on a node (its id is the last argument); False: it has failed for good.
        self.recover: Callable[[Request, ExoError, str], bool] = lambda request, error, node: False
        self._lock = threading.Lock()  # of requests and ended
        self._requests: dict[str, Request] = {}
        self._freed: deque[tuple[str, tuple[str, ...]]] = deque(maxlen=KEPT)  # attempts that ended, and their devices
        self._adopting: dict[str, _Adoption] = {}  # by attempt, until all of its stages have its cache
        self._ended = False

    @property
    def all(self) -> tuple[Request, ...]:
        """Those in progress. Any thread."""
        with self._lock:
            return tuple(self._requests.values())

    def add(self, request: Request) -> bool:
        """Take one in; False, and it has failed, if the data thread has ended. Any thread."""
        with self._lock:
            ended = self._ended
            if not ended:
                self._requests[request.id] = request
        if ended:
            request.fail(NodeLost(f"node {self._node} was shut down; connect again"))
        return not ended

    def end(self) -> None:
        """The data thread ends: so does everything that was asked for."""
        with self._lock:
            self._ended = True
            left = tuple(self._requests.values())
            self._requests.clear()
        for request in left:
            request.fail(NodeLost(f"node {self._node} was shut down"))

    def start(self, request: Request) -> None:
        """Send all that is known, so that its parts follow each other closely along the ring.

        A new attempt computes what the one before did, in the same parts, and so says the same bit for bit.
        """
        plan, known, prefix = request.plan, request.known, b""
        for position, part in parts(request.prompt, request.drawn, plan.chunk):
            if request.over.is_set():
                return
            final, spec = position + len(part) == known, request.spec if position == 0 else None
            # Whole chunks of the prompt only: how a rest is computed depends on its length.
            named = request.spec.sampling.prefix_cache and len(part) == plan.chunk
            prefix = extend(prefix, part) if named else b""
            step = first_step(plan, request.wire, position, final=final, prefix=prefix, spec=spec)
            self._send(plan.devices[0], step, convert.tokens(part))

    def migrate(self, request: Request, plan: Plan, wire: str) -> None:
        """Have the caches of an attempt brought to who holds the layers now; `adopted` goes on from there."""
        if request.over.is_set():
            self._free(plan, wire)  # `stop` knows the new attempt only
            return
        self._adopting[request.wire] = _Adoption(set(request.plan.devices), plan, wire)
        order = HandOver(
            request=request.wire, ended=wire, plan=request.plan, positions=request.known - 1, spec=request.spec
        )
        for device in plan.devices:
            self._send(device, order, None)

    def adopted(self, message: Adopted) -> None:
        """A stage has its part of a cache. The last one that says so sets the request going."""
        adoption, request = self._adopting.get(message.request), self._find(message.request)
        if adoption is None or request is None:
            return
        adoption.waiting.discard(message.node)
        if adoption.waiting or request.over.is_set():
            return
        del self._adopting[message.request]
        plan = request.plan
        step = first_step(plan, request.wire, request.known - 1)
        self._send(plan.devices[0], step, convert.tokens([request.drawn[-1]]))

    def abandon(self, plan: Plan, wire: str) -> None:
        """Free an attempt on every stage of its plan, and what it has not taken over yet of the one before."""
        adoption = self._adopting.pop(wire, None)
        if adoption is not None:
            self._free(adoption.plan, adoption.wire)
        self._free(plan, wire)

    def _free(self, plan: Plan, wire: str) -> None:
        self._freed.append((wire, plan.devices))
        self._cancel(plan, wire)

    def tell_again(self, node: str) -> None:
        """A node came back: what ended lately on it may not have been told to it."""
        for wire, devices in self._freed:
            if node in devices:
                self._send(node, Cancel(request=wire), None)

    def is_adopting(self, request: Request) -> bool:
        """Are its caches still on their way? Any thread."""
        return request.wire in self._adopting

    def token(self, token: Token) -> None:
        """A token came, perhaps too late, perhaps forged."""
        request = self._find(token.request)
        good = request is not None and 0 <= token.token < MAX_TOKEN_ID and request.put(token, time.perf_counter())
        if request is None or not good:
            self._counters["late token"] += 1
        elif request.over.is_set():
            self.stop(request)
        elif request.draft is not None:
            self._draft(request, request.draft, token)

    def _draft(self, request: Request, draft: Draft, token: Token) -> None:
        """Begin the next step, with guesses, when all tokens of the one before are there."""
        guesses = draft.next(request, token)
        if guesses is None:
            return
        self._counters["guesses"] += len(guesses)
        step = first_step(request.plan, token.request, token.position, guesses=guesses)
        self._send(request.plan.devices[0], step, convert.tokens([token.token, *guesses]))

    def failed(self, wire: str, error: ExoError, node: str) -> bool:
        """A request cannot go on, says a node; False if it is none of ours."""
        request = self._find(wire)
        if request is None:
            return False
        if not self.recover(request, error, node):
            request.fail(error)
            self.stop(request)
        return True

    def lacks(self, message: Lacks) -> None:
        """A stage does not keep what the first one does: begin again, and let that be computed."""
        request = self._find(message.request)
        plan, wire = (None, "") if request is None else (request.plan, request.wire)
        if request is None or plan is None or not request.restart(message.positions, time.perf_counter()):
            self._counters["late lack"] += 1
            return
        self.abandon(plan, wire)
        self.start(request)

    def stop(self, request: Request) -> None:
        """Free a request on every stage. Also how a finished one is cleared away. Once is enough."""
        with self._lock:
            known = self._requests.pop(request.id, None)
        if known is not None:
            self.abandon(request.plan, request.wire)
            if request.draft is not None:
                request.draft.forget(request.id)

    def _find(self, wire: str) -> Request | None:
        """The request whose present attempt has this name."""
        with self._lock:
            request = self._requests.get(wire.partition(ATTEMPT_MARK)[0])
        return request if request is not None and request.wire == wire else None
