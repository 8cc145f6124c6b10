"""The data plane of one node: a thread that receives, computes and sends, and does nothing else.

Everything that other threads want of it comes as a posted order, so no lock is held while a stage computes.
Frames are taken off the network before each step, so that a Cancel overtakes the work that waits in front of it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from exo_lab.core.errors import ExoError, NodeLost, PeerUnreachable, from_wire
from exo_lab.core.messages import Cancel, Failed, Step, Token
from exo_lab.engines import convert
from exo_lab.engines.base import PREFILL_CHUNK
from exo_lab.node.stage import Stages, ToAddress, ToNode

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_lab.core.messages import DataMessage
    from exo_lab.core.tensor import Tensor
    from exo_lab.node.holds import Hold, PlanKey
    from exo_lab.node.session import Request
    from exo_lab.transport.base import DataPort

log = logging.getLogger(__name__)

WAITING_STEPS = 1024  # frames taken off the network and not yet computed; beyond it ZeroMQ's own bounds push back
SEND_TIMEOUT_S = 5.0
CANCEL_TIMEOUT_S = 0.2
IDLE_SESSION_S = 600.0


class Install(NamedTuple):
    """Take over a loaded shard."""

    hold: Hold


class Retire(NamedTuple):
    """Free a shard; `now` ends its sessions too."""

    key: PlanKey
    now: bool = False


class Start(NamedTuple):
    """Begin a generation of ours."""

    request: Request


class Stop(NamedTuple):
    """End a generation of ours on every node."""

    request: Request


class RequesterLost(NamedTuple):
    """A node is gone: free what it asked for, close the way to it."""

    node: str
    address: str


class Shutdown(NamedTuple):
    """Leave the loop."""


class Ring:
    """Owns the data port and the stages. `start()` makes the thread, `close()` ends it within a deadline.

    Args:
        node: this node's id.
        port: the data port; from `start()` on only the thread touches it, but for `post`.
        stages: this node's shards.
        address_of: data endpoint of a node id, None if unknown. Called in the data thread; must not block.
    """

    def __init__(self, node: str, port: DataPort, stages: Stages, address_of: Callable[[str], str | None]) -> None:
        self.node, self.port, self.stages = node, port, stages
        self._address_of = address_of
        self._requests: dict[str, Request] = {}
        self._waiting: deque[tuple[Step, Tensor | None]] = deque()
        self._running = True
        self._thread = threading.Thread(target=self._loop, name=f"exo-data-{node}", daemon=True)

    def start(self) -> None:
        """Start the data thread."""
        self._thread.start()

    def post(self, order: Install | Retire | Start | Stop | RequesterLost | Shutdown) -> None:
        """Give the thread an order; returns at once. Any thread."""
        self.port.post(order)

    def close(self, timeout_s: float = 5.0) -> bool:
        """End the thread and close the port. False if the thread is still computing after the deadline."""
        if self._thread.is_alive():
            self.post(Shutdown())
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def requests(self) -> tuple[Request, ...]:
        """Generations of ours that are in progress."""
        return tuple(self._requests.values())

    # -- the loop ----------------------------------------------------------------------------------------

    def _loop(self) -> None:
        try:
            while self._running:
                self._drain(0.0 if self._waiting else 1.0)
                if self._waiting and self._running:
                    step, tensor = self._waiting.popleft()
                    self._emit(self.stages.run(step, tensor))
        finally:
            for request in self._requests.values():
                request.fail(NodeLost(f"node {self.node} was shut down"))
            for key in self.stages.keys():
                self.stages.retire(key, now=True)
            self.port.close()

    def _drain(self, timeout_s: float) -> None:
        """Take what has come; wait at most `timeout_s` for the first."""
        while len(self._waiting) < WAITING_STEPS:
            item = self.port.recv(timeout_s)
            if item is None:
                if timeout_s:
                    self.stages.end_idle(IDLE_SESSION_S)
                return
            timeout_s = 0.0
            if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], Step):
                self._waiting.append(item)
            else:
                self._handle(item)
            if not self._running:
                return

    def _handle(self, item: object) -> None:
        match item:
            case (Token() as token, _):
                self._token(token)
            case (Cancel(request=request), _):
                self._forget(request)
            case (Failed() as failed, _):
                self._failed(failed.request, from_wire(failed.error, failed.message, failed.node))
            case Install(hold=hold):
                self.stages.install(hold)
            case Retire(key=key, now=now):
                self.stages.retire(key, now=now)
            case Start(request=request):
                self._start(request)
            case Stop(request=request):
                self._stop(request)
            case RequesterLost(node=node, address=address):
                self.stages.end_of_requester(node)
                if address:
                    self.port.forget(address)
            case Shutdown():
                self._running = False
            case _:
                log.error("node %s: an order that nobody knows: %r", self.node, type(item))

    # -- generations of ours -----------------------------------------------------------------------------

    def _start(self, request: Request) -> None:
        if request.over.is_set():
            return
        self._requests[request.id] = request
        plan, prompt = request.plan, request.prompt
        for position in range(0, len(prompt), PREFILL_CHUNK):
            chunk = prompt[position : position + PREFILL_CHUNK]
            step = Step(
                request=request.id,
                model=plan.model,
                epoch=plan.epoch,
                proposer=plan.proposer,
                stage=0,
                position=position,
                final=position + len(chunk) == len(prompt),
                spec=request.spec if position == 0 else None,
            )
            if not self._emit([ToNode(plan.devices[0], step, convert.tokens(chunk))]):
                return

    def _token(self, token: Token) -> None:
        request = self._requests.get(token.request)
        if request is None or not request.put(token, time.perf_counter()):
            self.stages.counters["late token"] += 1
            return
        if request.over.is_set():
            self._stop(request)

    def _failed(self, request_id: str, error: ExoError) -> None:
        request = self._requests.get(request_id)
        if request is not None:
            request.fail(error)
            self._stop(request)

    def _stop(self, request: Request) -> None:
        """Free a request on every stage. Also how a finished one is cleared away."""
        if self._requests.pop(request.id, None) is None and not request.over.is_set():
            return
        for device in request.plan.devices:
            if device == self.node:
                self._forget(request.id)
                continue
            address = self._address_of(device)
            if address is None:
                continue
            try:
                self.port.send(address, Cancel(request=request.id), None, CANCEL_TIMEOUT_S)
            except PeerUnreachable as exc:
                # It frees the session itself, when it sees that we are gone or that nothing comes any more.
                log.info("node %s: no Cancel to %s: %s", self.node, device, exc)

    def _forget(self, request: str) -> None:
        self.stages.end(request)
        if self._waiting:
            self._waiting = deque(item for item in self._waiting if item[0].request != request)

    # -- sending -----------------------------------------------------------------------------------------

    def _emit(self, outgoing: list[ToNode | ToAddress]) -> bool:
        """Send a step's results; what is for this node skips the network. False if one could not be sent."""
        sent = True
        for item in outgoing:
            match item:
                case ToNode(node=node, message=message, tensor=tensor):
                    sent &= self._to_node(node, message, tensor)
                case ToAddress(address=address, message=message):
                    if address == self.port.address:
                        self._handle((message, None))
                    else:
                        self._to_requester(address, message)
        return sent

    def _to_node(self, node: str, message: DataMessage, tensor: Tensor | None) -> bool:
        if not isinstance(message, Step):
            raise AssertionError("only steps travel along the ring")
        if node == self.node:
            self._waiting.append((message, tensor))
            return True
        address = self._address_of(node)
        try:
            if address is None:
                raise PeerUnreachable(f"node {node} is not in the cluster any more")
            self.port.send(address, message, tensor, SEND_TIMEOUT_S)
        except PeerUnreachable as exc:
            self._report(message, exc)
            return False
        return True

    def _to_requester(self, address: str, message: DataMessage) -> None:
        try:
            self.port.send(address, message, None, SEND_TIMEOUT_S)
        except PeerUnreachable as exc:
            # Nobody is left to tell: free what was asked for.
            log.info("node %s: requester at %s is out of reach: %s", self.node, address, exc)
            self._forget(getattr(message, "request", ""))

    def _report(self, step: Step, error: ExoError) -> None:
        """A step could not be handed on: tell the requester, whoever it is."""
        failed = Failed(request=step.request, error=NodeLost.__name__, message=str(error), node=self.node)
        if step.request in self._requests:
            self._handle((failed, None))
            return
        session_reply = self.stages.reply_to(step.request)
        self._forget(step.request)
        if session_reply is not None:
            self._to_requester(session_reply, failed)
