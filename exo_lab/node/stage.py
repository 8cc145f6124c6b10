"""What a node does with one step of somebody's generation: check it, compute it, say where the result goes.

Owned by the data thread. Knows no sockets: it returns what is to be sent, the ring sends it.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.errors import ExoError, FrameError, StaleEpoch
from exo_lab.core.messages import Lacks, SessionSpec, StageTiming, Step
from exo_lab.engines import convert, wire
from exo_lab.engines.base import Part
from exo_lab.engines.guesses import forward
from exo_lab.node.checks import check_step
from exo_lab.node.choosing import Chooser
from exo_lab.node.holds import PlanKey
from exo_lab.node.outgoing import Later, Outgoing, Ready, ToAddress, ToNode, failure
from exo_lab.node.reuse import NotKept, Reuse
from exo_lab.node.shelf import Shelf, StageSession
from exo_lab.node.steps import decodes

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_lab.core.tensor import Tensor

log = logging.getLogger(__name__)


class Stages:
    """Computes steps on the shards of this node.

    Args:
        node: this node's id.
        slowdown: above 1 it emulates a slower device: every forward pass is stretched by sleeping.
        memory_limit_bytes, free_bytes: see `Shelf`.
        clock: seconds, monotonic.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        node: str,
        *,
        slowdown: float = 1.0,
        memory_limit_bytes: int = 0,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
        free_bytes: Callable[[], int] = lambda: 0,
    ) -> None:
        self.node, self.slowdown = node, slowdown
        self.counters: Counter[str] = Counter()
        self.flops = 0.0  # computed until now; the data thread adds, any thread may read
        self._clock, self._sleep = clock, sleep
        self.shelf = Shelf(node, memory_limit_bytes, clock, free_bytes)
        self._reuse = Reuse(self.shelf.prefixes, self.counters)
        self._chooser = Chooser(node, self.shelf, self.counters, clock)

    # -- figures, for any thread -------------------------------------------------------------------------

    @property
    def session_count(self) -> int:
        """Requests in progress."""
        return self.shelf.figures.sessions

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights held."""
        return self.shelf.figures.weight_bytes

    @property
    def kv_bytes(self) -> int:
        """Bytes of KV cache allocated, a moment ago at most."""
        return self.shelf.figures.kv_bytes

    # -- steps -------------------------------------------------------------------------------------------

    def room_for_more(self, step: Step, tensor: Tensor | None) -> int:
        """How many steps of other requests should run together with this one; 0 if it runs alone.

        A share of the requests for each stage: were all of them in one batch, one stage would compute and the others
        wait.
        """
        session = self.shelf.session(step.request)
        if session is None or not decodes(step, tensor):
            return 0
        hold = session.hold
        share = math.ceil(self.shelf.sessions_on(hold.key) / len(hold.plan.devices))
        return max(0, min(share, hold.engine.info.together) - 1)

    def run(self, *steps: tuple[Step, Tensor | None]) -> list[Outgoing]:
        """Compute a step, or several of one shard at once (see `room_for_more`).

        Whatever goes wrong with one of them becomes a `Failed` for its requester; nothing is raised.
        """
        ready: list[Ready] = []
        sent: list[Outgoing] = []
        for step, tensor in steps:
            spec = self._spec_of(step)
            if spec is not None:
                sent += self._or_failed(step, spec, partial(self._prepare, step, tensor, spec, ready))
        if len(ready) > 1:
            return sent + self._run_together(ready)
        for one in ready:
            sent += self._run_alone(one)
        return sent

    def _or_failed(self, step: Step, spec: SessionSpec, work: Callable[[], list[Outgoing]]) -> list[Outgoing]:
        """What `work` on a step sends; if it cannot be done, what its requester is told. The node goes on."""
        try:
            return work()
        except NotKept as exc:
            return self._begin_again(step, spec, exc)
        except ExoError as exc:
            return self._failed(step, spec, exc)
        except Exception as exc:
            # An engine broke, out of memory on a device, say.
            log.exception("node %s: request %s broke", self.node, step.request)
            return self._failed(step, spec, ExoError(f"the engine failed: {type(exc).__name__}: {exc}"))

    def _spec_of(self, step: Step) -> SessionSpec | None:
        """What the step's request wants; None, and it is counted, if it is not to be computed."""
        if self.shelf.is_ended(step.request):
            self.counters["late: request has ended"] += 1
            return None
        known = self.shelf.session(step.request)
        spec = step.spec if known is None else known.spec
        if spec is None:
            self.counters["unknown request"] += 1
            return None
        if known is not None and known.hold.key != PlanKey(step.model, step.epoch, step.proposer):
            self.counters["stale epoch"] += 1
            return None
        if known is not None and step.position < known.next_position:
            self.counters["repeated step"] += 1
            return None
        return spec

    def _prepare(self, step: Step, tensor: Tensor | None, spec: SessionSpec, ready: list[Ready]) -> list[Outgoing]:
        """Put a step among those that are ready, unless its positions are kept here: then they are passed on."""
        session = self._session(step, spec)
        started, hold = self._clock(), session.hold
        if tensor is None and step.prefix:
            self._reuse.restore(step, None, session)
            return self._pass_on(step, session)
        x = check_step(step, tensor, hold.config, hold.plan.wire_into(hold.stage))
        if step.prefix and self._reuse.restore(step, x, session):
            return self._pass_on(step, session)
        ready.append(Ready(step, session, x, started))
        return []

    def _pass_on(self, step: Step, session: StageSession) -> list[Outgoing]:
        """A chunk was kept here: the next stage takes it from what it keeps."""
        hold = session.hold
        self.shelf.computed(session, session.reused)
        if hold.is_last:
            return []
        return [ToNode(hold.plan.devices[hold.stage + 1], msgspec.structs.replace(step, stage=hold.stage + 1))]

    def _begin_again(self, step: Step, spec: SessionSpec, lacking: NotKept) -> list[Outgoing]:
        self.counters["kept by others only"] += 1
        self.shelf.end(step.request)
        lacks = Lacks(request=step.request, positions=lacking.positions, node=self.node)
        return [ToAddress(spec.requester, spec.reply_to, lacks)]

    def _run_alone(self, one: Ready) -> list[Outgoing]:
        def compute() -> list[Outgoing]:
            began = self._clock()
            out = forward(one.session.hold.engine, one.step, one.x, one.want)
            return self._hand_on(one, out, self._stretch(self._clock() - began), together=1)

        return self._or_failed(one.step, one.session.spec, compute)

    def _run_together(self, ready: list[Ready]) -> list[Outgoing]:
        """Each step counts the whole pass as its computing: so long it took."""
        began = self._clock()
        parts = [Part(one.step.request, one.x, one.step.position, one.want) for one in ready]
        try:
            outputs = ready[0].session.hold.engine.forward_batch(parts)
        except Exception:
            # Which of them it was shows when each is computed by itself; what a batch wrote is written again.
            self.counters["batch broke"] += 1
            log.exception("node %s: %s steps could not be computed together", self.node, len(ready))
            return [sent for one in ready for sent in self._run_alone(one)]
        compute_s = self._stretch(self._clock() - began)
        self.counters["steps computed together"] += len(ready)
        sent: list[Outgoing] = []
        for one, out in zip(ready, outputs, strict=True):
            # From here on tokens are chosen: what breaks now is that request's, and is not computed again.
            hand_on = partial(self._hand_on, one, out, compute_s, together=len(ready))
            sent += self._or_failed(one.step, one.session.spec, hand_on)
        return sent

    def _failed(self, step: Step, spec: SessionSpec, error: ExoError) -> list[Outgoing]:
        self.counters[f"failed: {type(error).__name__}"] += 1
        self.shelf.end(step.request)
        return [failure(step.request, spec, error, self.node)]

    def _hand_on(self, one: Ready, out: Tensor | None, compute_s: float, *, together: int) -> list[Outgoing]:
        step, session, x, started = one
        hold = session.hold
        keep = self._reuse.computed(step, session, x.shape[0]) if step.prefix else None
        self.shelf.computed(session, step.position + x.shape[0] - len(step.guesses))
        sent: list[Outgoing] = []
        handling_s = compute_s
        if out is not None and hold.is_last:
            if keep is not None:
                keep()  # at once: the token that is chosen now may be the last one, and end the session
                keep = None
            sent = self._chooser.choose(one, convert.float_view(out), compute_s, together=together)
        elif out is not None:
            out = wire.pack(out, hold.plan.wire_out_of(hold.stage))
            timing = StageTiming(self.node, compute_s, handling_s := self._clock() - started)
            onward = msgspec.structs.replace(step, stage=hold.stage + 1, timings=(*step.timings, timing))
            sent = [ToNode(hold.plan.devices[hold.stage + 1], onward, out)]
        if keep is not None:
            sent.append(Later(partial(self._keep, one, keep)))
        sent.append(Later(lambda: self._count(one, compute_s, handling_s - compute_s, together)))
        return sent

    def _keep(self, one: Ready, keep: Callable[[], None]) -> tuple[()]:
        """Keep a chunk that was handed on. The request has what it needs: it does not matter to it if that fails."""
        if self.shelf.session(one.step.request) is one.session:
            try:
                keep()
            except Exception:
                self.counters["chunk not kept"] += 1
                log.exception("node %s: a chunk of %s could not be kept", self.node, one.step.request)
        return ()

    def _count(self, one: Ready, compute_s: float, beyond_s: float, together: int) -> tuple[()]:
        """What a step took, for those who reckon with it."""
        self.flops += one.flops
        meter = one.session.hold.meter
        if one.want == "none" and together == 1:
            meter.computed(one.x.shape[0], one.step.position, compute_s, head=False)
        if beyond_s:
            meter.handled(beyond_s)
        return ()

    # -- checks ------------------------------------------------------------------------------------------

    def _session(self, step: Step, spec: SessionSpec) -> StageSession:
        session = self.shelf.session(step.request)
        if session is not None:
            if session.hold.stage != step.stage:
                raise FrameError(f"request {step.request} runs on stage {session.hold.stage} here, not {step.stage}")
            return session
        hold = self.shelf.hold(PlanKey(step.model, step.epoch, step.proposer))
        if hold is None:
            raise StaleEpoch(
                f"node {self.node} does not hold {step.model} epoch {step.epoch} any more; the plan has changed. "
                "Start the request again."
            )
        if hold.stage != step.stage:
            raise FrameError(f"node {self.node} is stage {hold.stage} of this plan, a step for stage {step.stage} came")
        return self.shelf.open(step.request, spec, hold)

    def _stretch(self, compute_s: float) -> float:
        if self.slowdown > 1:
            self._sleep(compute_s * (self.slowdown - 1))
            return compute_s * self.slowdown
        return compute_s
