"""Generations of this node that lost a stage go on: another plan is made, loaded, and they are replayed on it.

Lives on the control loop; failures come from any thread. Everything is bounded: attempts without a token, plans that
are tried, and the request's own deadline, which loading extends as long as it moves. What to do is decided in
`failover`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.errors import (
    DoesNotFit,
    ExoError,
    ModelError,
    NodeError,
    NodeLost,
    PeerUnreachable,
    PlanError,
    StaleEpoch,
)
from exo_lab.core.topology import topology
from exo_lab.node import failover, planner
from exo_lab.node.holds import PlanKey, key_of
from exo_lab.node.moves import migrates, migration_s
from exo_lab.node.orders import Abandon, Migrate, Start, Stop
from exo_lab.planning.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.core.messages import ModelRef
    from exo_lab.core.model import ModelConfig
    from exo_lab.core.plan import Plan
    from exo_lab.node.membership import Peer
    from exo_lab.node.node import Node
    from exo_lab.node.session import Request

log = logging.getLogger(__name__)

LOAD_SILENCE_S = 60.0  # of a node that loads
MIGRATE_WITHIN_S = 5.0  # caches of a request that has moved, at least; where more was to be expected:
LATE = 3  # times what they were guessed to take
PAUSE_S = 0.05  # before the next plan, when one could not be loaded


class _Job:
    """The recovery of one plan's requests."""

    def __init__(self, plan: Plan, model: ModelRef, why: str) -> None:
        self.plan, self.model, self.why = plan, model, why
        self.waiting: list[Request] = []
        self.retry = True  # the same plan once more, if everybody is there
        self.beside = False  # plan for what is free beside the shards of the plan before, which are kept until then
        self.bad: set[str] = set()  # nodes that could not do their part


class Recovery:
    """See the module. `shapes`: configs of models by digest, so that they need not be read again when it is urgent."""

    def __init__(self, node: Node) -> None:
        self.shapes: dict[str, ModelConfig] = {}
        self._node = node
        self._loop: asyncio.AbstractEventLoop | None = None
        self._jobs: dict[PlanKey, _Job] = {}
        node.ring.own.recover = self.take

    def start(self) -> None:
        """The control loop runs."""
        self._loop = asyncio.get_running_loop()

    @property
    def busy(self) -> bool:
        """Is a plan being changed here, because a node was lost or because somebody wants it?"""
        return bool(self._jobs) or self._node.changes.busy

    # -- failures come in --------------------------------------------------------------------------------

    def peer_lost(self, peer: Peer) -> None:
        """A node is gone: what needed it goes on elsewhere, or ends with an error. On the control loop."""
        error = NodeLost(f"{peer.card.device.name} went away while it was computing this answer")
        for request in self._node.ring.requests:
            needed = request.plan.stage_of(peer.id) is not None
            if needed and not self.take(request, error, peer.id) and request.fail(error):
                self._node.ring.post(Stop(request))

    def stalled(self, request: Request, now: float) -> None:
        """Tokens stopped coming though everybody is there: a frame was lost on the way. On the control loop."""
        # Nobody is lost: the same plan again, however often. Who cannot take part in it says so.
        self.take(request, NodeLost(f"no token came for {now - request.moved_at:.1f} s"), self._node.id, again=True)

    def take(self, request: Request, error: ExoError, node: str, *, again: bool = False) -> bool:
        """Take over a request that failed on `node`; False if that is for good. `again`: on its plan. Any thread."""
        loop, model = self._loop, self._node.models.get(request.plan.model)
        if loop is None or model is None or not failover.is_recoverable(error, request.tries):
            return request.suspended
        why = f"{error} (at token {len(request.drawn) + 1})"
        plan, wire = request.plan, request.wire
        if not request.suspend(failover.waiting_notice(why), time.perf_counter()):
            return True  # it is over, or in work already
        self._node.ring.post(Abandon(plan, wire))
        job = _Job(plan, model, why)
        job.retry = again or failover.may_retry(error, request.tries)
        # Who does not hold the plan any more can load another one.
        if not job.retry and node != self._node.id and not isinstance(error, StaleEpoch):
            job.bad.add(node)
        try:
            loop.call_soon_threadsafe(self._join, job, request)
        except RuntimeError:  # the loop has ended, and so does the node
            request.fail(error)
        return True

    def _join(self, job: _Job, request: Request) -> None:
        """Requests of one plan share one recovery."""
        running = self._jobs.get(key_of(job.plan))
        if running is not None:
            running.waiting.append(request)
            return
        job.waiting.append(request)
        if self._node.stopped:
            self._end(job, NodeLost(f"node {self._node.id} was shut down"))
            return
        self._jobs[key_of(job.plan)] = job
        self._node.tasks.start(self._run(job), f"recovery of {job.plan.model}")

    async def change(
        self, old: Plan, plan: Plan, model: ModelRef, why: str, progress: planner.PlanProgress | None = None
    ) -> Plan:
        """Another plan for a model, by choice: loaded first, then this node's running generations go on with it.

        Those of other nodes end on the plan on which they began. Raises as `planner.load`; then nothing has changed.
        """
        plan = failover.computing_alike(old, plan)
        made = await planner.load(self._node, plan, model, progress=progress, timeout_s=LOAD_SILENCE_S, instead_of=old)
        await self.take_along(old, made, why)
        return made

    async def take_along(self, old: Plan, new: Plan, why: str) -> int:
        """Running generations of this node go on with `new`, which is loaded; how many there were."""
        names = {device.id: device.name for device in self._node.topology.devices}
        where = ", ".join(names.get(device, device) for device in new.devices)
        found = [request for request in self._node.ring.requests if key_of(request.plan) == key_of(old)]
        for request in found:
            wire, now = request.wire, time.perf_counter()
            at = f"{why} (at token {len(request.drawn) + 1})"
            if not request.suspend(f"{at}. The answer goes on there in a moment.", now):
                continue
            moving_s = self._migration_s(request, old, new)
            how = f"{request.known} tokens were replayed" if moving_s is None else "its cache went along"
            if not request.resume(new, f"{at}. The answer went on on {where}: {how}.", now, by_choice=True):
                continue
            if moving_s is None:
                self._node.ring.post(Abandon(old, wire))
                self._node.ring.post(Start(request))
            else:
                self._node.ring.post(Migrate(request, old, wire))
                within_s = max(MIGRATE_WITHIN_S, LATE * moving_s)
                self._node.tasks.start(self._see_to(request, within_s), f"caches of {request.id}")
        return len(found)

    def _migration_s(self, request: Request, old: Plan, new: Plan) -> float | None:
        """What bringing the caches along is guessed to take; None if they are to be computed again."""
        config, reference = None, self._node.models.get(old.model)
        if reference is not None:
            config = self.shapes.get(reference.digest)
        if config is None or request.first_at is None or not request.drawn:
            return None
        links = [
            self._node.peers.link_figures(device) for device in (*old.devices, *new.devices) if device != self._node.id
        ]
        known = [link for link in links if link is not None]
        bandwidth = min((link.bandwidth_bytes_per_s for link in known if link.bandwidth_bytes_per_s), default=None)
        latency_s = max((link.latency_s for link in known), default=None)
        size = request.known * config.kv_bytes_per_token_per_layer * 2  # float32 at most
        moving_s = migration_s(size, old, new, bandwidth, latency_s)
        return moving_s if migrates(request.moved_at - request.started_at, moving_s) else None

    async def _see_to(self, request: Request, within_s: float) -> None:
        """Caches that do not arrive are computed again."""
        attempt = request.wire
        await asyncio.sleep(within_s)
        if request.wire == attempt and self._node.ring.own.is_adopting(request) and not request.over.is_set():
            error = NodeLost(f"the caches did not arrive within {within_s:.3g} s")
            if not self.take(request, error, self._node.id):
                self._end_one(request, error)

    def _end_one(self, request: Request, error: ExoError) -> None:
        request.fail(error)
        self._node.ring.post(Stop(request))

    # -- and are worked on -------------------------------------------------------------------------------

    async def _run(self, job: _Job) -> None:
        node = self._node
        try:
            plan = await self._find_plan(job)
        except ExoError as exc:
            self._end(job, failover.gave_up(job.why, job.plan.model, exc))
        except Exception as exc:
            log.exception("node %s: a recovery broke", node.id)
            self._end(job, NodeError(f"{job.why}, and re-planning failed: {type(exc).__name__}: {exc}"))
        except BaseException:
            self._end(job, NodeLost(f"node {node.id} was shut down"))
            raise
        else:
            self._resume(job, plan)
        finally:
            self._jobs.pop(key_of(job.plan), None)

    def _resume(self, job: _Job, plan: Plan) -> None:
        devices = {device.id: device.name for device in self._node.topology.devices}
        names = [devices.get(device, device) for device in plan.devices]
        same = key_of(plan) == key_of(job.plan)
        for request in job.waiting:
            replayed = len(request.prompt) + len(request.drawn)
            alike = failover.computing_alike(job.plan, plan) == plan
            notice = failover.resumed_notice(job.why, names, replayed, same=same, alike=alike)
            if request.resume(plan, notice, time.perf_counter()):
                self._node.ring.post(Start(request))

    def _end(self, job: _Job, error: ExoError) -> None:
        for request in job.waiting:
            self._end_one(request, error)

    async def _find_plan(self, job: _Job) -> Plan:
        """A plan that is loaded on nodes that are there."""
        everybody, error = False, NodeError("no plan could be loaded")
        for _ in range(failover.MAX_PLANS):
            await self._node.peers.pulse.confirm(job.plan.devices)
            alive = planner.residents(self._node)
            current = self._node.plans.get(job.plan.model)
            if current is None:
                raise StaleEpoch(f"{job.plan.model} was unloaded")
            if failover.may_go_on(job.plan, current, alive, retry=job.retry):
                job.retry = False
                return current
            devices = failover.candidates(job.plan, alive, job.bad, everybody=everybody)
            blamed: list[str] = []
            try:
                return await self._load(job, current, devices, blamed)
            except (PlanError, ModelError) as exc:
                if blamed and isinstance(exc, DoesNotFit) and not job.beside:
                    job.beside, error = True, exc
                    continue
                # Who was asked cannot hold it: without those that said so, and then with everybody who is there.
                widest = tuple(sorted(alive - job.bad)) == tuple(sorted(devices))
                if widest and not set(blamed) - job.bad:
                    raise
                everybody, error = True, exc
                job.bad.update(blamed)
            except (NodeError, PeerUnreachable) as exc:
                error = exc  # somebody else went away meanwhile
            if not any(not request.over.is_set() for request in job.waiting):
                break
            await asyncio.sleep(PAUSE_S)
        raise error

    async def _load(self, job: _Job, current: Plan, devices: Sequence[str], blamed: list[str]) -> Plan:
        node = self._node
        plan = await asyncio.to_thread(failover.replan, job.plan, await self._problem(job, devices))
        lost = job.plan
        plan = msgspec.structs.replace(
            failover.computing_alike(lost, plan),
            dtype=lost.dtype,
            engine=lost.engine,
            context_tokens=lost.context_tokens,  # what the user asked for; it was planned for what has to go on
        )

        def moved(name: str, done: int, total: int, what: str) -> None:
            for request in job.waiting:
                request.touch(time.perf_counter())

        loaded = await planner.load(
            node,
            plan,
            job.model,
            progress=moved,
            timeout_s=LOAD_SILENCE_S,
            blamed=blamed,
            others=False,
            instead_of=current,
        )
        # Another requester may have re-planned at the same time: all agree on the plan of the higher rank.
        newest = node.plans.get(plan.model)
        return newest if newest is not None and newest.rank > loaded.rank else loaded

    async def _problem(self, job: _Job, devices: Sequence[str]) -> Problem:
        node, lost = self._node, job.plan
        config = self.shapes.get(job.model.digest)
        if config is None:
            config = self.shapes[job.model.digest] = await node.shapes.of(job.model)
        known = node.topology
        left = topology(
            (one for one in known.sightings if one.device.id in devices),
            (edge for edge in known.links if edge.a in devices and edge.b in devices),
        )
        return Problem(
            config=config,
            topology=planner.with_free_memory_now(node, left, config, given_back=not job.beside),
            context_tokens=max(request.spec.total_tokens for request in job.waiting),
            sessions=len(job.waiting),
            dtype=lost.dtype,
            engine=lost.engine,
            measured=tuple(
                one for one in planner.measurements(node, config.digest, lost.dtype, lost.engine) if one[0] in devices
            ),
        )
