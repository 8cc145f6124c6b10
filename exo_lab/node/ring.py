"""The data plane of one node: a thread that receives, computes and sends, and does nothing else.

Everything that other threads want of it comes as a posted order, so no lock is held while a stage computes. Frames
are taken off the network before each step, so that a Cancel overtakes the work that waits in front of it; and nothing
here waits for a peer, so that two nodes which are full of frames for each other cannot lock each other up.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, TypeVar, cast

from exo_lab.core.errors import FrameError, NodeLost, TransportError, from_wire
from exo_lab.core.messages import Adopted, Cache, Cancel, Echo, Failed, HandOver, Lacks, Step, Token
from exo_lab.node import orders
from exo_lab.node.echoes import Echoes
from exo_lab.node.handover import Handovers
from exo_lab.node.outbox import Outbox
from exo_lab.node.outgoing import Later, ToAddress, ToNode, failure
from exo_lab.node.own_requests import OwnRequests
from exo_lab.node.steps import StepQueue
from exo_lab.node.timing import Timing
from exo_lab.node.undelivered import Undelivered

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exo_lab.core.messages import DataMessage
    from exo_lab.core.plan import Plan
    from exo_lab.core.tensor import Tensor
    from exo_lab.node.outgoing import Farewell, Outgoing
    from exo_lab.node.session import Request
    from exo_lab.node.stage import Stages
    from exo_lab.transport.base import DataPort

log = logging.getLogger(__name__)

T = TypeVar("T")

FRAMES_A_TURN = 256  # taken off the network at most before the next step is computed, however many there are
SWEEP_S = 0.5  # the longest wait for a frame
STALE_S = 0.1
WAITED_S = 2e-5  # who waited longer for a frame had nothing else to do


class Ring:
    """Owns the data port and the stages. `start()` makes the thread, `close()` ends it within a deadline.

    Args:
        node: this node's id.
        port: the data port; from `start()` on only the thread touches it, but for `post`.
        stages: this node's shards.
        address_of: data endpoint of a node id, None if unknown; of a lost one only if the second argument is true.
            Called in the data thread; must not block.
        timing: deadlines.
    """

    def __init__(
        self,
        node: str,
        port: DataPort,
        stages: Stages,
        address_of: Callable[[str, bool], str | None],
        timing: Timing | None = None,
    ) -> None:
        self.node, self.port, self.stages = node, port, stages
        self._address_of = address_of
        self._timing = timing or Timing()
        self._outbox = Outbox(port, self._timing.send_timeout_s)
        self._steps = StepQueue()
        self.echoes = Echoes(node, time.perf_counter)
        self.handovers = Handovers(node, stages.shelf, self._steps.drop)
        self.own = OwnRequests(node, self.stages.counters, self._to_node, self._cancel_on)
        self._undelivered = Undelivered(
            node, stages.shelf, self.own, self._forget, self._cancel_on, self._tell_requester
        )
        self._running = True
        self._thread = threading.Thread(target=self._loop, name=f"exo-data-{node}", daemon=True)

    def start(self) -> None:
        """Start the data thread."""
        self._thread.start()

    def post(self, order: orders.Order) -> None:
        """Give the thread an order; returns at once. Any thread."""
        self.port.post(order)

    def begin(self, request: Request) -> None:
        """Start a generation of ours; it fails at once if the data thread has ended. Any thread."""
        if self.own.add(request):
            self.post(orders.Start(request))

    def close(self, timeout_s: float = 5.0) -> bool:
        """End the thread and close the port. False if the thread is still computing after the deadline."""
        self._running = False
        if self._thread.is_alive():
            self.post(orders.Shutdown())
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def requests(self) -> tuple[Request, ...]:
        """Generations of ours that are in progress. Any thread."""
        return self.own.all

    # -- the loop ----------------------------------------------------------------------------------------

    def _loop(self) -> None:
        try:
            while self._running:
                self._turn()
        except TransportError as exc:
            log.warning("node %s: the data thread ends, its port is closed: %s", self.node, exc)
        finally:
            self.own.end()
            self.stages.shelf.clear()
            self.port.close()

    def _turn(self) -> None:
        """Take what has come, send what could not go before, compute one step."""
        self._take(0.0 if self._may_compute() else self._patience_s())
        for unsent in self._outbox.flush():
            self._safely(self._undelivered.frame, unsent)
        if self._running and self._may_compute():
            self._safely(self._compute, self._steps.pop())
        self._safely(self._tend, self._timing)
        for ended in self.stages.shelf.farewells():
            self._safely(self._tell_requester, ended)

    def _compute(self, first: tuple[Step, Tensor | None]) -> None:
        """A step, and those of other requests that run together with it."""
        others = self._steps.pop_alike(first[0], more) if (more := self.stages.room_for_more(*first)) else []
        self._emit(self.stages.run(first, *others))
        self.echoes.prompt = False

    def _tend(self, timing: Timing) -> None:
        self.stages.shelf.tend(timing.idle_session_s, timing.retire_after_s)
        self.handovers.tend()

    def _may_compute(self) -> bool:
        return len(self._steps) > 0 and not self._outbox.full

    def _patience_s(self) -> float:
        """How long the thread may wait for the next frame."""
        return min(self._outbox.pause_s, STALE_S if self.stages.shelf.stale else SWEEP_S)

    def _take(self, timeout_s: float) -> None:
        """Take what has come; wait at most `timeout_s` for the first."""
        for _ in range(FRAMES_A_TURN):
            if not self._running:
                return
            if self._steps.full:
                time.sleep(min(timeout_s, self._outbox.pause_s))  # nothing can be taken and nothing computed
                return
            began = time.perf_counter()
            item = self.port.recv(timeout_s)
            waited = time.perf_counter() - began > WAITED_S
            self.echoes.prompt |= waited
            if item is None:
                return
            timeout_s = 0.0
            self._safely(self._handle, item)
            if waited and len(self._steps) > 0 and self.stages.session_count <= 1:
                return  # nothing was there before it and nobody else asks: to look for more would only delay it

    def _safely(self, work: Callable[[T], object], subject: T) -> None:
        """A mistake of ours with one frame must not end the thread, which everybody's generations need."""
        try:
            work(subject)
        except Exception as exc:
            if isinstance(exc, TransportError) and not isinstance(exc, FrameError):
                raise  # the port is closed
            self.stages.counters["broken"] += 1
            log.exception("node %s: a frame or an order could not be handled", self.node)

    def _handle(self, item: object) -> None:
        if type(item) is tuple:  # the most frequent, which would be matched last below
            return self._message(*cast("tuple[DataMessage, Tensor | None]", item))
        match cast("orders.Order", item):
            case orders.Install(hold=hold):
                self.stages.shelf.install(hold)
            case orders.Retire(key=key, now=now):
                self.stages.shelf.retire(key, now=now)
            case orders.Start(request=request):
                self.own.start(request)
            case orders.Stop(request=request):
                self.own.stop(request)
            case orders.Abandon(plan=plan, wire=wire):
                self.own.abandon(plan, wire)
            case orders.Migrate(request=request, plan=plan, wire=wire):
                self.own.migrate(request, plan, wire)
            case orders.RequesterLost(node=node, address=address):
                dropped = self._outbox.forget(address)
                self.echoes.forget(node)
                self.stages.shelf.end_of_node(node)
                self.handovers.end_of_node(node)
                for unsent in dropped:
                    self._safely(self._undelivered.frame, unsent)
            case orders.CameBack(node=node):
                self.own.tell_again(node)
            case orders.Measure(nodes=nodes):
                # In quiet moments: an answer must not wait for that, and would be measured with it.
                for node in () if self.stages.shelf.figures.sessions or self.requests else nodes:
                    if (address := self._address_of(node, False)) is not None:
                        self._outbox.send(address, *self.echoes.ask(node))
            case orders.Probe(node=node, size_bytes=size_bytes, came=came):
                if (address := self._address_of(node, False)) is not None:
                    self._outbox.send(address, *self.echoes.probe(size_bytes, lambda took_s, _: came(took_s)))
            case orders.Shutdown():
                self._running = False

    def _message(self, message: DataMessage, tensor: Tensor | None) -> None:
        match message:
            case Step():
                self._steps.add(message, tensor)
            case Token():
                self.own.token(message)
            case Cancel(request=request):
                self._forget(request)
            case HandOver() | Cache():
                self._emit(self.handovers.handle(message, tensor))
            case Adopted():
                self.own.adopted(message)
            case Lacks():
                self.own.lacks(message)
            case Failed(request=request, error=error, message=text, node=node, blamed=blamed):
                self.own.failed(request, from_wire(error, text, node), blamed or node)
            case Echo() as echo if echo.back:
                self.stages.counters["late echo"] += 0 if self.echoes.came(echo) else 1
            case Echo() as echo:
                # To members only: who is none could have us send to anybody.
                if (address := self._address_of(echo.node, False)) is None:
                    self.stages.counters["echo for a stranger"] += 1
                else:
                    self._outbox.send(address, self.echoes.answer(echo))

    def _cancel_on(self, plan: Plan, request: str) -> None:
        self._outbox.drop(request)
        for device in plan.devices:
            if device == self.node:
                self._forget(request)
                continue
            # Also to one that is lost: perhaps it only seems so from here, and computes for us in vain.
            if (address := self._address_of(device, True)) is not None:
                self._outbox.send(address, Cancel(request=request))

    def _forget(self, request: str) -> None:
        self.stages.shelf.end(request)
        self.handovers.forget(request)
        self._steps.drop(request)
        self._outbox.drop(request)

    # -- sending -----------------------------------------------------------------------------------------

    def _emit(self, outgoing: Sequence[Outgoing]) -> None:
        """Send the results of steps; what is for this node skips the network. One that breaks holds up no other."""
        for item in outgoing:
            self._safely(self._send, item)

    def _send(self, item: Outgoing) -> None:
        match item:
            case ToNode(node=node, message=message, tensor=tensor):
                self._to_node(node, message, tensor)
            case ToAddress(node=node, address=address, message=message):
                if address == self.port.address:
                    self._message(message, None)
                else:
                    way = self._address_of(node, False)  # that leads to it from here, which it cannot know
                    self._outbox.send(way or address, message)
            case Later(make=make):
                self._emit(make())

    def _to_node(self, node: str, message: Step | HandOver | Cache | Cancel, tensor: Tensor | None) -> None:
        if node == self.node:
            self._message(message, tensor)
            return
        if (address := self._address_of(node, False)) is None and not isinstance(message, Cancel):
            self._undelivered.step(message, node, NodeLost(f"node {node} is not in the cluster any more"))
        elif address is not None:
            echo = self.echoes.behind(node, 0 if tensor is None else tensor.nbytes)
            self._outbox.send(address, message, tensor, node)
            if echo is not None:
                self._outbox.send(address, echo)

    def _tell_requester(self, ended: Farewell) -> None:
        """A request ended here and its requester does not know."""
        self._emit([failure(ended.request, ended.spec, ended.why, self.node, ended.blamed)])
