"""What a node does with one step of somebody's generation: check it, compute it, say where the result goes.

Owned by the data thread. Knows no sockets: it returns what is to be sent, the ring sends it.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from exo_lab.core.errors import DoesNotFit, ExoError, FrameError, StaleEpoch
from exo_lab.core.messages import Failed, FinishReason, SessionSpec, StageTiming, Step, Token
from exo_lab.engines import convert, sampling
from exo_lab.engines.base import PREFILL_CHUNK
from exo_lab.node.holds import Hold, PlanKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_lab.core.messages import DataMessage
    from exo_lab.core.tensor import Tensor

FLOAT_DTYPES = ("float32", "bfloat16", "float16")
FORGOTTEN_KEPT = 4096  # ids of ended requests that are remembered, to tell late frames from unknown ones


class ToNode(NamedTuple):
    """A message for a node of the plan."""

    node: str
    message: DataMessage
    tensor: Tensor | None = None


class ToAddress(NamedTuple):
    """A message for a requester, by data endpoint."""

    address: str
    message: DataMessage


class StageSession:
    """One request as this stage sees it."""

    __slots__ = ("hold", "seen", "spec", "used_at")

    def __init__(self, hold: Hold, spec: SessionSpec, now: float) -> None:
        self.hold, self.spec, self.used_at = hold, spec, now
        self.seen: list[int] = list(spec.history)


class Stages:
    """The shards of this node and the sessions on them.

    `slowdown` > 1 emulates a slower device: every forward pass is stretched by sleeping. `memory_limit_bytes` bounds
    weights plus KV caches; 0 means no limit of ours.
    """

    def __init__(
        self,
        node: str,
        *,
        slowdown: float = 1.0,
        memory_limit_bytes: int = 0,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.node, self.slowdown, self.memory_limit_bytes = node, slowdown, memory_limit_bytes
        self.counters: Counter[str] = Counter()
        self._clock, self._sleep = clock, sleep
        self._holds: dict[PlanKey, Hold] = {}
        self._retiring: set[PlanKey] = set()
        self._sessions: dict[str, StageSession] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()

    # -- shards ------------------------------------------------------------------------------------------

    def install(self, hold: Hold) -> None:
        """Take over a loaded shard."""
        old = self._holds.get(hold.key)
        self._holds[hold.key] = hold
        self._retiring.discard(hold.key)
        if old is not None and old.engine is not hold.engine:
            old.engine.close()

    def retire(self, key: PlanKey, *, now: bool = False) -> None:
        """Free a shard: at once, or when the last session that is pinned to it ends."""
        if key not in self._holds:
            return
        users = [request for request, session in self._sessions.items() if session.hold.key == key]
        if now:
            for request in users:
                self.end(request)
        elif users:
            self._retiring.add(key)
            return
        self._holds.pop(key).engine.close()
        self._retiring.discard(key)

    def keys(self) -> tuple[PlanKey, ...]:
        """Which plans' shards are held."""
        return tuple(self._holds)

    # -- sessions ----------------------------------------------------------------------------------------

    def end(self, request: str) -> bool:
        """Forget a request and free its cache. True if it was known."""
        self._ended[request] = None
        while len(self._ended) > FORGOTTEN_KEPT:
            self._ended.popitem(last=False)
        session = self._sessions.pop(request, None)
        if session is None:
            return False
        session.hold.engine.drop(request)
        key = session.hold.key
        if key in self._retiring and all(other.hold.key != key for other in self._sessions.values()):
            self.retire(key)
        return True

    def end_of_requester(self, node: str) -> int:
        """Forget everything that a vanished requester asked for."""
        mine = [request for request, session in self._sessions.items() if session.spec.requester == node]
        for request in mine:
            self.end(request)
        return len(mine)

    def end_idle(self, older_than_s: float) -> int:
        """Forget sessions that nothing has come for."""
        limit = self._clock() - older_than_s
        idle = [request for request, session in self._sessions.items() if session.used_at < limit]
        for request in idle:
            self.end(request)
        return len(idle)

    def is_ended(self, request: str) -> bool:
        """Was this request ended here?"""
        return request in self._ended

    def reply_to(self, request: str) -> str | None:
        """The data endpoint of a request's requester; None if the request is not known here."""
        session = self._sessions.get(request)
        return None if session is None else session.spec.reply_to

    @property
    def session_count(self) -> int:
        """Requests in progress."""
        return len(self._sessions)

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights held."""
        return sum(hold.engine.info.weight_bytes for hold in self._holds.values())

    @property
    def kv_bytes(self) -> int:
        """Bytes of KV cache allocated."""
        return sum(hold.engine.kv_bytes() for hold in self._holds.values())

    # -- one step ----------------------------------------------------------------------------------------

    def run(self, step: Step, tensor: Tensor | None) -> list[ToNode | ToAddress]:
        """Compute a step. Whatever goes wrong with it becomes a `Failed` for its requester; nothing is raised."""
        if step.request in self._ended:
            self.counters["late: request has ended"] += 1
            return []
        known = self._sessions.get(step.request)
        spec = step.spec if known is None else known.spec
        if spec is None:
            self.counters["unknown request"] += 1
            return []
        try:
            return self._run(step, tensor, spec)
        except ExoError as exc:
            return self._failed(step, spec, exc)
        except (RuntimeError, ValueError, MemoryError, ArithmeticError, LookupError) as exc:
            # An engine broke (out of memory on a device, say): the requester must hear of it, the node goes on.
            return self._failed(step, spec, ExoError(f"the engine failed: {type(exc).__name__}: {exc}"))

    def _failed(self, step: Step, spec: SessionSpec, error: ExoError) -> list[ToNode | ToAddress]:
        self.counters[f"failed: {type(error).__name__}"] += 1
        self.end(step.request)
        name = type(error).__name__
        return [ToAddress(spec.reply_to, Failed(request=step.request, error=name, message=str(error), node=self.node))]

    def _run(self, step: Step, tensor: Tensor | None, spec: SessionSpec) -> list[ToNode | ToAddress]:
        started = self._clock()
        session = self._session(step, spec, started)
        hold = session.hold
        x = self._checked(step, tensor, hold)
        want = "last" if hold.is_last and step.final else "none"
        began = self._clock()
        out = hold.engine.forward(step.request, x, step.position, want)
        compute_s = self._stretch(self._clock() - began)
        session.used_at = self._clock()
        if not hold.is_last:
            return [ToNode(hold.plan.devices[hold.stage + 1], self._onward(step, hold, started, compute_s), out)]
        if out is None:
            return []
        return self._choose(step, session, convert.to_numpy(out)[0], started, compute_s, x.shape[0])

    def _onward(self, step: Step, hold: Hold, started: float, compute_s: float) -> Step:
        timing = StageTiming(self.node, compute_s, self._clock() - started)
        return Step(
            request=step.request,
            model=step.model,
            epoch=step.epoch,
            proposer=step.proposer,
            stage=hold.stage + 1,
            position=step.position,
            final=step.final,
            spec=step.spec,
            timings=(*step.timings, timing),
        )

    def _choose(
        self, step: Step, session: StageSession, logits: object, started: float, compute_s: float, count: int
    ) -> list[ToNode | ToAddress]:
        spec, hold = session.spec, session.hold
        position = step.position + count
        chosen = sampling.sample(logits, spec.sampling, position, session.seen)  # type: ignore[arg-type]
        if spec.sampling.repetition_penalty != 1:
            session.seen.append(chosen.token)
        finish: FinishReason | None = None
        if chosen.token in spec.eos:
            finish = "stop"
        elif position + 1 >= spec.total_tokens:
            finish = "length"
        timing = StageTiming(self.node, compute_s, self._clock() - started)
        token = Token(
            request=step.request,
            position=position,
            token=chosen.token,
            logprob=chosen.logprob,
            finish=finish,
            alternatives=chosen.alternatives,
            timings=(*step.timings, timing),
        )
        reply = ToAddress(spec.reply_to, token)
        if finish is not None:
            # The other stages hear of the end from the requester's Cancel, which it sends when the last token arrives.
            self.end(step.request)
            return [reply]
        following = Step(
            request=step.request,
            model=step.model,
            epoch=step.epoch,
            proposer=step.proposer,
            stage=0,
            position=position,
        )
        return [ToNode(hold.plan.devices[0], following, convert.tokens([chosen.token])), reply]

    # -- checks ------------------------------------------------------------------------------------------

    def _session(self, step: Step, spec: SessionSpec, now: float) -> StageSession:
        key = PlanKey(step.model, step.epoch, step.proposer)
        session = self._sessions.get(step.request)
        if session is not None:
            if session.hold.key != key or session.hold.stage != step.stage:
                raise StaleEpoch(f"request {step.request} runs on {session.hold.key}, a step came for {key}")
            return session
        hold = self._holds.get(key)
        if hold is None or key in self._retiring:
            raise StaleEpoch(
                f"node {self.node} does not hold {step.model} epoch {step.epoch} any more; the plan has changed. "
                "Start the request again."
            )
        if hold.stage != step.stage:
            raise FrameError(f"node {self.node} is stage {hold.stage} of this plan, a step for stage {step.stage} came")
        self._reserve(step.request, spec, hold)
        session = StageSession(hold, spec, now)
        self._sessions[step.request] = session
        return session

    def _reserve(self, request: str, spec: SessionSpec, hold: Hold) -> None:
        needed = spec.total_tokens * hold.engine.info.kv_bytes_per_token
        if self.memory_limit_bytes:
            free = self.memory_limit_bytes - self.weight_bytes - self.kv_bytes
            if needed > free:
                raise DoesNotFit(
                    f"node {self.node} has {max(free, 0) / 2**20:.1f} MiB left, the KV cache of {spec.total_tokens} "
                    f"tokens needs {needed / 2**20:.1f} MiB. Ask for fewer tokens, or give this node fewer layers."
                )
        hold.engine.reserve(request, min(spec.total_tokens, hold.config.context_length))

    def _checked(self, step: Step, tensor: Tensor | None, hold: Hold) -> Tensor:
        if tensor is None:
            raise FrameError(f"a step for stage {step.stage} came without a tensor")
        if step.position < 0 or step.position + max(tensor.shape[:1], default=0) > hold.config.context_length:
            raise FrameError(
                f"position {step.position} lies outside the context of {hold.config.context_length} tokens"
            )
        if step.stage == 0:
            if tensor.dtype != "int32" or len(tensor.shape) != 1 or not 0 < tensor.shape[0] <= PREFILL_CHUNK:
                raise FrameError(f"stage 0 takes int32 (1..{PREFILL_CHUNK},), got {tensor.dtype} {tensor.shape}")
            ids = convert.to_numpy(tensor)
            if int(ids.min()) < 0 or int(ids.max()) >= hold.config.vocab_size:
                raise FrameError(f"a token id lies outside the vocabulary of {hold.config.vocab_size}")
            return tensor
        good = tensor.dtype in FLOAT_DTYPES and len(tensor.shape) == 2 and 0 < tensor.shape[0] <= PREFILL_CHUNK
        if not good or tensor.shape[1] != hold.config.hidden_size:
            raise FrameError(
                f"stage {step.stage} takes float (1..{PREFILL_CHUNK}, {hold.config.hidden_size}), "
                f"got {tensor.dtype} {tensor.shape}"
            )
        return tensor

    def _stretch(self, compute_s: float) -> float:
        if self.slowdown > 1:
            self._sleep(compute_s * (self.slowdown - 1))
            return compute_s * self.slowdown
        return compute_s
