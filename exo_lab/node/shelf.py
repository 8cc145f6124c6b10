"""What a node holds: shards of models, and the sessions on them. Owned by the data thread.

Every change of the sessions is told in `figures`, a frozen picture that any thread may read. Knows no frames and no
arithmetic.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.errors import DoesNotFit, NodeError, NodeLost, StaleEpoch
from exo_lab.node.checks import check_spec
from exo_lab.node.guessing import Guesser
from exo_lab.node.outgoing import Farewell
from exo_lab.node.prefixes import Prefixes

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_lab.core.errors import ExoError
    from exo_lab.core.messages import SessionSpec
    from exo_lab.node.holds import Hold, PlanKey

FORGOTTEN_KEPT = 4096  # ids of ended requests that are remembered, to tell late frames from unknown ones
MAX_SESSIONS = 256
FULL_IDLE_S = 10.0  # when it is full, sessions that nothing came for in so long make room
FIGURES_EVERY_S = 0.1  # adding up caches is not free; sessions and weights are told at once
SWEEP_EVERY_S = 0.5
LESS = "Ask for fewer tokens, or give this node fewer layers."


class StageFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What a node holds, for other threads to read. Bytes of caches are allocated, and may be a moment old.

    `kv_bytes` are of requests in progress, `kept_bytes` of prompts before.
    """

    sessions: int = 0
    weight_bytes: int = 0
    kv_bytes: int = 0
    kept_bytes: int = 0


class StageSession:
    """One request as this stage sees it. `reserved_bytes` is what its KV cache may grow to.

    `seen` holds the tokens so far, kept only where tokens are chosen and a repetition penalty or guesses need them.
    `guesser` makes guesses; the step under way was sent at `sent_at`. `prefix` names the first `named` positions (see
    `core.prefix`); the first `reused` were computed for others. `turn`: see `Prefixes`.
    """

    __slots__ = (
        "guesser", "hold", "named", "next_position", "prefix", "reserved_bytes", "reused", "seen", "sent_at", "spec",
        "turn", "used_at",
    )  # fmt: skip

    def __init__(self, hold: Hold, spec: SessionSpec, now: float, turn: int) -> None:
        self.hold, self.spec, self.used_at, self.turn = hold, spec, now, turn
        self.prefix, self.named, self.reused = b"", 0, 0
        self.next_position = 0
        self.reserved_bytes = spec.total_tokens * hold.engine.info.kv_bytes_per_token
        self.seen: list[int] = list(spec.history) if hold.is_last else []
        wanted = spec.sampling.speculate
        guesses = hold.is_last and wanted != 0 and not spec.drafted
        self.guesser = Guesser(spec.history, wanted, hold.costs) if guesses else None
        self.sent_at: float | None = None

    def chose(self, token: int) -> None:
        """A token was chosen here."""
        if self.spec.sampling.repetition_penalty != 1:
            self.seen.append(token)
        if self.guesser is not None:
            self.guesser.drew(token)


class Shelf:
    """Shards and sessions.

    Args:
        node: this node's id, for errors.
        memory_limit_bytes: bounds weights plus what the KV caches may grow to; 0 means no limit of ours.
        clock: seconds, monotonic.
        free_bytes: memory that is free where this node computes. With a limit of ours it does not matter.
    """

    def __init__(
        self,
        node: str,
        memory_limit_bytes: int = 0,
        clock: Callable[[], float] = time.perf_counter,
        free_bytes: Callable[[], int] = lambda: 0,
    ) -> None:
        self.node, self.memory_limit_bytes, self._clock = node, memory_limit_bytes, clock
        self.prefixes = Prefixes(self._left_over if memory_limit_bytes else free_bytes)
        self.figures = StageFigures()
        self._holds: dict[PlanKey, Hold] = {}
        self._retiring: dict[PlanKey, float] = {}  # since when
        self._sessions: dict[str, StageSession] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._farewells: list[Farewell] = []
        self._figures_at = -FIGURES_EVERY_S
        self._swept_at = clock()
        self._stale = False

    # -- shards ------------------------------------------------------------------------------------------

    def install(self, hold: Hold) -> None:
        """Take over a loaded shard."""
        self.retire(hold.key, now=True)
        self._holds[hold.key] = hold
        self._tell()
        self.prefixes.shrink()

    def retire(self, key: PlanKey, *, now: bool = False) -> None:
        """Free a shard: at once, or when nobody needs it any more.

        A request that was begun on a plan just before it was replaced may still be on its way here, so a shard that is
        not wanted goes on taking new sessions until `free_retired` finds it unused.
        """
        if key not in self._holds:
            return
        if not now:
            self._retiring.setdefault(key, self._clock())
            return
        for request in self._users(key):
            self.end(request, StaleEpoch(f"{key.model} was unloaded from node {self.node} while it answered"))
        self._free(key)

    def free_retired(self, after_s: float, but: PlanKey | None = None) -> None:
        """Free the shards, all `but` one, that have not been wanted for `after_s` and are not in use."""
        for key, since in tuple(self._retiring.items()):
            if key != but and self._clock() - since >= after_s and not self._users(key):
                self._free(key)

    def _users(self, key: PlanKey) -> list[str]:
        return [request for request, session in self._sessions.items() if session.hold.key == key]

    def _free(self, key: PlanKey) -> None:
        self._retiring.pop(key, None)
        self.prefixes.forget(key)
        self._holds.pop(key).close()
        self._tell()

    def sessions_on(self, key: PlanKey) -> int:
        """How many requests run on a shard."""
        return sum(session.hold.key == key for session in self._sessions.values())

    def hold(self, key: PlanKey) -> Hold | None:
        """The shard of a plan; None if there is none."""
        return self._holds.get(key)

    def clear(self) -> None:
        """Free everything."""
        for key in tuple(self._holds):
            self.retire(key, now=True)

    def keys(self) -> tuple[PlanKey, ...]:
        """Which plans' shards are held."""
        return tuple(self._holds)

    # -- sessions ----------------------------------------------------------------------------------------

    def open(self, request: str, spec: SessionSpec, hold: Hold) -> StageSession:
        """Begin a session, with room for all of it.

        Raises:
            DoesNotFit: there is too little memory, emulated or real.
            NodeError: too many sessions.
            FrameError, PromptTooLong: see `check_spec`.
        """
        if len(self._sessions) >= MAX_SESSIONS and not self.end_idle(FULL_IDLE_S):
            raise NodeError(
                f"node {self.node} has {MAX_SESSIONS} requests in work already; ask again when some have ended"
            )
        check_spec(spec, hold.config)
        session = StageSession(hold, spec, self._clock(), self.prefixes.turn())
        self._reserve(request, session)
        self._sessions[request] = session
        self._tell()
        return session

    def _unreserved(self) -> int:
        taken = self.figures.weight_bytes + sum(other.reserved_bytes for other in self._sessions.values())
        return max(0, self.memory_limit_bytes - taken)

    def _left_over(self) -> int:
        """What nobody could claim, less what is kept there."""
        return self._unreserved() - self.prefixes.nbytes

    def _reserve(self, request: str, session: StageSession) -> None:
        """Set the room for a request's cache aside. What others may still grow to counts as taken."""
        if self.memory_limit_bytes:
            free = self._unreserved()
            if session.reserved_bytes > free:
                # Who comes late to a replaced plan is served while there is room, and no longer.
                self.free_retired(0.0, but=session.hold.key)
                free = self._unreserved()
            if session.reserved_bytes > free:
                raise DoesNotFit(
                    f"node {self.node} has {free / 2**20:.1f} MiB left, the KV cache of {session.spec.total_tokens} "
                    f"tokens needs {session.reserved_bytes / 2**20:.1f} MiB. {LESS}"
                )
        self.prefixes.shrink(session.reserved_bytes)
        try:
            session.hold.engine.reserve(request, session.spec.total_tokens)
        except (MemoryError, RuntimeError) as exc:
            session.hold.engine.drop(request)
            raise DoesNotFit(
                f"node {self.node} has no room for the cache of {session.spec.total_tokens} tokens: {exc}. {LESS}"
            ) from exc

    def computed(self, session: StageSession, next_position: int) -> None:
        """A session went on to `next_position`, and its cache grew."""
        session.used_at, session.next_position = self._clock(), next_position
        self._stale = True

    def end(self, request: str, why: ExoError | None = None, blamed: str = "") -> bool:
        """Forget a request and free its cache. True if it was known.

        With `why`, its requester does not expect it, and is to be told, also who is `blamed`: see `farewells`.
        """
        self._ended[request] = None
        while len(self._ended) > FORGOTTEN_KEPT:
            self._ended.popitem(last=False)
        session = self._sessions.pop(request, None)
        if session is None:
            return False
        session.hold.engine.drop(request)
        if why is not None:
            self._farewells.append(Farewell(request, session.spec, why, blamed))
        self._tell()
        return True

    def end_of_node(self, node: str) -> None:
        """Forget everything that a vanished node asked for, or was needed for.

        Perhaps only the way between the two was cut: then nobody else knows why no token comes.
        """
        for request, session in tuple(self._sessions.items()):
            if session.spec.requester == node:
                why = f"node {self.node} lost sight of the node that asked, and dropped its request"
                self.end(request, NodeLost(why))
            elif session.hold.plan.stage_of(node) is not None:
                why = f"node {self.node} lost sight of node {node}, which holds other layers"
                self.end(request, NodeLost(why), node)

    def end_idle(self, older_than_s: float) -> int:
        """Forget sessions that nothing has come for."""
        limit = self._clock() - older_than_s
        idle = [request for request, session in self._sessions.items() if session.used_at < limit]
        for request in idle:
            self.end(request, NodeLost(f"nothing came to node {self.node} for {older_than_s:g} s; a step was lost"))
        return len(idle)

    def tend(self, idle_session_s: float, retire_after_s: float) -> None:
        """Now and then: add up the caches, free what is not wanted any more, and what is wanted more elsewhere."""
        now = self._clock()
        if self._stale and now - self._figures_at >= FIGURES_EVERY_S:
            self._tell()
        if now - self._swept_at < SWEEP_EVERY_S:
            return
        self._swept_at = now
        self.end_idle(idle_session_s)
        self.free_retired(retire_after_s)
        self._stale |= self.prefixes.shrink() > 0

    def farewells(self) -> tuple[Farewell, ...]:
        """Requests that were ended since the last call and whose requesters are to be told."""
        told, self._farewells = tuple(self._farewells), []
        return told

    def is_ended(self, request: str) -> bool:
        """Was this request ended here?"""
        return request in self._ended

    def session(self, request: str) -> StageSession | None:
        """A request in progress; None if it is not known here."""
        return self._sessions.get(request)

    # -- figures -----------------------------------------------------------------------------------------

    @property
    def stale(self) -> bool:
        """Have the caches changed since they were added up?"""
        return self._stale

    def _tell(self) -> None:
        engines = {id(hold.engine): hold.engine for hold in self._holds.values()}.values()  # plans may share one
        self.figures = StageFigures(
            sessions=len(self._sessions),
            weight_bytes=sum(engine.info.weight_bytes for engine in engines),
            kv_bytes=sum(engine.kv_bytes() for engine in engines),
            kept_bytes=self.prefixes.nbytes,
        )
        self._stale, self._figures_at = False, self._clock()
