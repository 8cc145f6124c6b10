"""One node's life: it introduces itself, keeps track of its peers, and answers what they ask.

Runs on one asyncio loop (the control thread). It never computes: loading has a thread of its own (`loader`), and so
has the data plane (`ring`). Every task it starts ends with it.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from typing import TYPE_CHECKING

import msgspec
import psutil

from exo_lab.core.errors import ExoError, NodeLost, StaleEpoch, TransportError
from exo_lab.core.messages import (
    Activate,
    Collect,
    Collected,
    ControlMessage,
    Done,
    GetPlans,
    GetStats,
    Hello,
    Leave,
    LoadShard,
    ModelRef,
    NodeCard,
    Ping,
    Plans,
    Pong,
    SessionSpec,
    Stats,
    Unload,
)  # fmt: skip
from exo_lab.core.topology import Sighting, Topology, link, topology
from exo_lab.node import membership as m
from exo_lab.node.holds import Hold, PlanKey, key_of
from exo_lab.node.loader import Loader
from exo_lab.node.ring import Install, RequesterLost, Retire, Ring, Start, Stop
from exo_lab.node.session import Request
from exo_lab.node.stage import Stages
from exo_lab.node.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from exo_lab.core.plan import Plan
    from exo_lab.core.sampling import SamplingParams
    from exo_lab.discovery.base import Found
    from exo_lab.node.parts import Listener, NodeParts

PING_EVERY_S = 1.0
PING_TIMEOUT_S = 2.0
HELLO_TIMEOUT_S = 3.0
SWEEP_EVERY_S = 0.25
RING_TIMEOUT_S = 5.0


class Node:
    """A member of the cluster. Make it, `await start()`, and `await stop()` when done; both on one loop."""

    def __init__(self, parts: NodeParts, software: str = "") -> None:
        self.parts, self.device, self.id = parts, parts.device, parts.device.id
        self.members = m.Members()
        self.plans: dict[str, Plan] = {}  # the active plan of each model
        self.models: dict[str, ModelRef] = {}
        self.problems: dict[str, str] = {}  # by subject, for people
        self.listeners: set[Listener] = set()
        self._software = software
        self._loaded: dict[PlanKey, Hold] = {}  # loaded here and not yet handed to the data thread
        self._installed: set[PlanKey] = set()
        self._found: dict[str, tuple[Found, ...]] = {}
        self._tasks = Tasks(self.id)
        self._stopped = False
        limit = self.device.memory_bytes if self.device.emulated else 0
        self._loader = Loader(self.id, parts.open_model, parts.make_engine, limit)
        self.stages = Stages(self.id, slowdown=self.device.slowdown, memory_limit_bytes=limit)
        self.ring = Ring(self.id, parts.data, self.stages, self._data_address)
        self.card = NodeCard(device=self.device, control="", data="")

    # -- life --------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the doors, start the threads, begin to look for peers."""
        await self.parts.control.start(self._answer)
        self.card = self.parts.identity.sign_card(
            NodeCard(
                device=self.device,
                control=self.parts.control.address,
                data=self.parts.data.address,
                software=self._software,
                version=time.time_ns() // 1_000_000,
                pid=os.getpid(),
                host=_host(),
            )
        )
        self.ring.start()
        for discovery in self.parts.discoveries:
            self._tasks.start(self._discover(discovery), f"discovery {discovery.name}")
        self._tasks.start(self._ping_all(), "pings")
        self._tasks.start(self._sweep(), "sweep")

    async def stop(self) -> None:
        """Say goodbye, end every generation, free everything. Idempotent; takes at most a few seconds."""
        if self._stopped:
            return
        self._stopped = True
        leaving = [self._tell(peer.card.control, Leave(node=self.id), 0.5) for peer in self.members.alive()]
        await asyncio.gather(*leaving)
        await self._tasks.close()
        for discovery in self.parts.discoveries:
            await discovery.close()
        await self._end_ring()
        await self.parts.control.close()
        self._loader.close()
        for hold in self._loaded.values():
            hold.engine.close()
        self.parts.close()

    async def _end_ring(self) -> None:
        """End the data thread. Without an executor: at the interpreter's end there are none any more."""
        deadline = time.monotonic() + RING_TIMEOUT_S
        while not self.ring.close(0.0) and time.monotonic() < deadline:
            await asyncio.sleep(0.01)

    # -- peers -------------------------------------------------------------------------------------------

    @property
    def topology(self) -> Topology:
        """This node, its living peers, and the links between it and them."""
        peers = self.members.alive()
        sightings = [Sighting(device=self.device, version=self.card.version)]
        sightings += [Sighting(device=peer.card.device, version=peer.card.version) for peer in peers]
        links = [
            link(
                self.id,
                peer.id,
                kind="loopback" if peer.card.host == self.card.host else "unknown",
                latency_s=peer.latency_s,
                measured_at=0.0 if peer.latency_s is None else time.time(),
            )
            for peer in peers
        ]
        return topology(sightings, links)

    def _data_address(self, node: str) -> str | None:
        peer = self.members.peers.get(node)
        return None if peer is None or peer.liveness == "lost" else peer.card.data

    def control_address(self, node: str) -> str:
        """Where a node answers; NodeLost if it is not in the cluster."""
        if node == self.id:
            return self.parts.control.address
        peer = self.members.peers.get(node)
        if peer is None or peer.liveness == "lost":
            raise NodeLost(f"node {node} is not in the cluster any more. See `%exo nodes`.")
        return peer.card.control

    async def _discover(self, discovery: Discovery) -> None:
        async for found in discovery.watch(self.card):
            self._found[discovery.name] = tuple(found)
            for problem in discovery.problems:
                self.problems[f"discovery {discovery.name}"] = problem
            if not discovery.problems:
                self.problems.pop(f"discovery {discovery.name}", None)
            known = {peer.card.control for peer in self.members.alive()}
            new = [one for one in found if one.address not in known and one.address != self.parts.control.address]
            await asyncio.gather(*(self._greet(one) for one in new))

    async def _greet(self, found: Found) -> None:
        try:
            reply = await self.parts.control.request(found.address, Hello(card=self.card), timeout_s=HELLO_TIMEOUT_S)
        except TransportError as exc:
            self.problems[f"peer {found.address}"] = f"{found.name or found.address} ({found.source}): {exc}"
            return
        self.problems.pop(f"peer {found.address}", None)
        if isinstance(reply, Hello):
            self._heard(reply.card, found.source)

    def _heard(self, card: NodeCard, found_by: str) -> None:
        self.parts.identity.verify_card(card)
        if card.device.id == self.id:
            return
        self._apply(m.Heard(card=card, found_by=found_by, now=time.monotonic()))

    async def _ping_all(self) -> None:
        sequence = 0
        while True:
            sequence += 1
            peers = [peer for peer in self.members.peers.values() if peer.liveness != "lost"]
            await asyncio.gather(*(self._ping(peer, sequence) for peer in peers))
            self._apply(m.Ticked(now=time.monotonic()))
            await self._catch_up()
            await asyncio.sleep(PING_EVERY_S)

    async def _ping(self, peer: m.Peer, sequence: int) -> None:
        sent = time.perf_counter()
        try:
            reply = await self.parts.control.request(
                peer.card.control, Ping(sequence=sequence), timeout_s=PING_TIMEOUT_S
            )
        except ExoError:
            same_host = peer.card.host == self.card.host
            if same_host and peer.card.pid and not psutil.pid_exists(peer.card.pid):
                self._apply(m.Gone(id=peer.id, now=time.monotonic()))
            else:
                self._apply(m.Silent(id=peer.id, now=time.monotonic()))
            return
        if isinstance(reply, Pong):
            self._apply(
                m.Answered(
                    id=peer.id,
                    round_trip_s=time.perf_counter() - sent,
                    load=reply.load,
                    memory_available_bytes=reply.memory_available_bytes,
                    plans=reply.plans,
                    now=time.monotonic(),
                )
            )

    async def _catch_up(self) -> None:
        """Ask for plans that a peer has and that are newer than ours: how a late joiner learns of them."""
        for peer in self.members.alive():
            mine = {model: plan.rank for model, plan in self.plans.items()}
            if all(mine.get(model, (-1, "")) >= (epoch, proposer) for model, epoch, proposer in peer.plans):
                continue
            try:
                reply = await self.parts.control.request(peer.card.control, GetPlans(), timeout_s=PING_TIMEOUT_S)
            except ExoError as exc:
                self.problems[f"plans of {peer.id}"] = f"{peer.card.device.name} did not say what it has loaded: {exc}"
                continue
            self.problems.pop(f"plans of {peer.id}", None)
            if isinstance(reply, Plans):
                for plan, model in zip(reply.plans, reply.models, strict=True):
                    self._adopt(plan, model)

    def _apply(self, event: m.Event) -> None:
        before = self.members
        self.members = m.step(before, event)
        for lost in m.newly_lost(before, self.members):
            self._lost(before.peers[lost])
        if self._shown(before) != self._shown(self.members):
            self._notify("nodes")

    @staticmethod
    def _shown(members: m.Members) -> Iterable[tuple[str, str, int]]:
        return [(key, peer.liveness, peer.card.version) for key, peer in members.peers.items()]

    def _lost(self, peer: m.Peer) -> None:
        self.ring.post(RequesterLost(peer.id, peer.card.data))
        name = peer.card.device.name
        for request in self.ring.requests:
            if request.plan.stage_of(peer.id) is not None:
                error = NodeLost(f"{name} went away while it was computing this answer. Run `%exo load` to re-plan.")
                if request.fail(error):
                    self.ring.post(Stop(request))

    def _notify(self, what: str) -> None:
        for listener in tuple(self.listeners):
            listener(what)

    # -- answers -----------------------------------------------------------------------------------------

    async def _answer(self, message: ControlMessage) -> AsyncIterator[ControlMessage]:
        match message:
            case Hello(card=card):
                self._heard(card, "said hello")
                yield Hello(card=self.card)
            case Ping(sequence=sequence, payload=payload):
                yield self._pong(sequence, payload)
            case Leave(node=node):
                self._apply(m.Gone(id=node, now=time.monotonic()))
                yield Done()
            case Collect(visited=visited):
                yield Collected(topology=self.topology, visited=tuple(sorted({*visited, self.id})))
            case LoadShard():
                async for reply in self._load(message):
                    yield reply
            case Activate(plan=plan, model=model):
                self.activate(plan, model)
                yield Done()
            case Unload(model=model, epoch=epoch, proposer=proposer):
                self.forget(model, epoch, proposer)
                yield Done()
            case GetPlans():
                yield Plans(plans=tuple(self.plans.values()), models=tuple(self.models[name] for name in self.plans))
            case GetStats():
                yield self.stats()
            case _:
                raise TransportError(f"{type(message).__name__} is an answer, not a question")

    def _pong(self, sequence: int, payload: bytes) -> Pong:
        plans = tuple((plan.model, plan.epoch, plan.proposer) for plan in self.plans.values())
        return Pong(
            sequence=sequence,
            payload=payload,
            load=psutil.cpu_percent() / 100,
            memory_available_bytes=self.memory_available_bytes(),
            card_version=self.card.version,
            plans=plans,
        )

    def memory_available_bytes(self) -> int:
        """What is free now: of the emulated memory if it is emulated, else of the machine's."""
        if self.device.emulated and self.stages.memory_limit_bytes:
            return max(0, self.device.memory_bytes - self.stages.weight_bytes - self.stages.kv_bytes)
        return psutil.virtual_memory().available

    def stats(self) -> Stats:
        """This node's counters."""
        return Stats(
            sessions=self.stages.session_count,
            kv_bytes=self.stages.kv_bytes,
            weight_bytes=self.stages.weight_bytes,
            rss_bytes=psutil.Process().memory_info().rss,
            counters={**self.stages.counters, **self.parts.refused()},
        )

    async def _load(self, order: LoadShard) -> AsyncIterator[ControlMessage]:
        if order.plan.stage_of(self.id) != order.stage:
            raise StaleEpoch(f"stage {order.stage} of this plan is not node {self.id}")
        loaded: list[Hold] = []
        async for reply in self._loader.load(order, loaded):
            if loaded:
                old = self._loaded.pop(loaded[0].key, None)
                if old is not None:
                    old.engine.close()
                self._loaded[loaded[0].key] = loaded[0]
            yield reply

    def activate(self, plan: Plan, model: ModelRef) -> None:
        """Make a plan the model's plan here. Its shard must be loaded, if it has one for this node."""
        key = key_of(plan)
        hold = self._loaded.pop(key, None)
        if plan.stage_of(self.id) is not None and hold is None and key not in self._installed:
            raise StaleEpoch(f"node {self.id} was told to use a plan whose shard it has not loaded")
        if hold is not None:
            self._installed.add(key)
            self.ring.post(Install(hold))
        self._adopt(plan, model)

    def _adopt(self, plan: Plan, model: ModelRef) -> None:
        current = self.plans.get(plan.model)
        if current is not None and current.rank >= plan.rank:
            return
        self.plans[plan.model], self.models[plan.model] = plan, model
        for key in [key for key in self._installed if key.model == plan.model and key != key_of(plan)]:
            self._installed.discard(key)
            self.ring.post(Retire(key))
        self._notify("plans")

    def forget(self, model: str, epoch: int | None, proposer: str) -> None:
        """Free a plan's shard (epoch given), or every plan of a model."""
        for key in [key for key in self._loaded if key.model == model and epoch in (None, key.epoch)]:
            self._loaded.pop(key).engine.close()
        for key in [key for key in self._installed if key.model == model and epoch in (None, key.epoch)]:
            self._installed.discard(key)
            self.ring.post(Retire(key, now=epoch is None))
        current = self.plans.get(model)
        if current is not None and (epoch is None or current.rank == (epoch, proposer)):
            del self.plans[model], self.models[model]
        self._notify("plans")

    # -- generations -------------------------------------------------------------------------------------

    def submit(
        self, plan: Plan, prompt: tuple[int, ...], sampling: SamplingParams, eos: tuple[int, ...], timeout_s: float
    ) -> Request:
        """Start a generation on a plan. Any thread. The request fills by itself; nothing is raised later."""
        spec = SessionSpec(
            requester=self.id,
            reply_to=self.parts.data.address,
            sampling=msgspec.structs.replace(sampling, stop=()),
            eos=eos,
            prompt_tokens=len(prompt),
            total_tokens=len(prompt) + sampling.max_tokens,
            history=prompt if sampling.repetition_penalty != 1 else (),
        )
        request = Request(uuid.uuid4().hex[:16], plan, prompt, spec, timeout_s)
        request.begin(time.perf_counter())
        self.ring.post(Start(request))
        return request

    def cancel(self, request: Request) -> None:
        """End a generation on every node. Any thread; idempotent; returns at once."""
        request.cancel()
        self.ring.post(Stop(request))

    async def _sweep(self) -> None:
        while True:
            now = time.perf_counter()
            for request in self.ring.requests:
                if request.overdue(now) and request.fail(self._timeout(request)):
                    self.ring.post(Stop(request))
            await asyncio.sleep(SWEEP_EVERY_S)

    def _timeout(self, request: Request) -> ExoError:
        from exo_lab.core.errors import GenerationTimeout

        silent = [
            peer.card.device.name
            for peer in self.members.peers.values()
            if peer.liveness != "alive" and request.plan.stage_of(peer.id) is not None
        ]
        who = f"; {', '.join(silent)} did not answer" if silent else "; every node of the plan answers pings"
        return GenerationTimeout(
            f"no token for {request.timeout_s:g} s{who}. Look at `%exo status`, or allow more with timeout_s."
        )

    async def _tell(self, address: str, message: ControlMessage, timeout_s: float) -> ExoError | None:
        """Send a message whose answer does not matter; the error if it could not be delivered."""
        try:
            await self.parts.control.request(address, message, timeout_s=timeout_s)
        except ExoError as exc:
            return exc
        return None


def _host() -> str:
    """Names this machine, so that nodes see that they share it: the boot id where there is one."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:  # noqa: PTH123 - not a path of ours
            return file.read().strip()
    except OSError:
        return f"{uuid.getnode():012x}"


if TYPE_CHECKING:
    from exo_lab.discovery.base import Discovery
