"""One node's life: it starts its threads and its conversations, answers what others ask, and ends all of it in order.

Runs on one asyncio loop (the control thread). It never computes: loading has a thread of its own (`loader`), and so
has the data plane (`ring`). Every task it starts ends with it. Who the others are is the business of `peers`, who
holds what that of `plan_book`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
import uuid
from collections import Counter
from typing import TYPE_CHECKING

import msgspec
import psutil

from exo_lab.core import messages as msg
from exo_lab.discovery.host import host_id
from exo_lab.node.answers import answer
from exo_lab.node.borrower import Borrower
from exo_lab.node.catching_up import catch_up, get_to_know
from exo_lab.node.changes import Changes
from exo_lab.node.collect import MAX_DEPTH, collect
from exo_lab.node.deadlines import watch_requests
from exo_lab.node.journal import Journal
from exo_lab.node.lender import Lender
from exo_lab.node.link_prober import LinkProber
from exo_lab.node.link_watch import watch_links
from exo_lab.node.load import Load
from exo_lab.node.loader import Loader
from exo_lab.node.model_names import ModelNames
from exo_lab.node.orders import CameBack, RequesterLost, Stop
from exo_lab.node.own_speed import learn_speed
from exo_lab.node.pace import Paces
from exo_lab.node.peers import Peers
from exo_lab.node.plan_book import PlanBook
from exo_lab.node.problems import Problems
from exo_lab.node.recovery import Recovery
from exo_lab.node.ring import Ring
from exo_lab.node.sensing import Sensing
from exo_lab.node.session import Request
from exo_lab.node.shapes import Shapes
from exo_lab.node.stage import Stages
from exo_lab.node.tasks import Tasks
from exo_lab.node.timing import Timing

if TYPE_CHECKING:
    from exo_lab.core.plan import Plan
    from exo_lab.core.sampling import SamplingParams
    from exo_lab.core.topology import Topology
    from exo_lab.node.draft import Draft
    from exo_lab.node.membership import Members, Peer
    from exo_lab.node.parts import Listener, NodeParts

log = logging.getLogger(__name__)


class Node:
    """A member of the cluster. Make it, `await start()`, and `await stop()` when done; both on one loop.

    `problems` holds what is wrong now, `listeners` are told of changes, `counters` counts what was turned away.
    """

    def __init__(self, parts: NodeParts, software: str = "", timing: Timing | None = None) -> None:
        self.parts, self.device, self.id = parts, parts.device, parts.device.id
        self.timing = timing or Timing()
        self.problems = Problems()
        self.listeners: set[Listener] = set()
        self.counters: Counter[str] = Counter()
        self.tasks = Tasks(self.id, self.problems, self.timing.restart_s)
        self.load, self.changes, self.stopped = Load(), Changes(), False
        # Of a device that has only its network emulated, memory is what there is.
        limit = self.device.memory_bytes if self.device.emulated not in ("", self.device.emulated_link) else 0
        card = msg.NodeCard(
            device=self.device, control="", data="", software=software, heartbeat_s=self.timing.heartbeat_s
        )
        self.peers = Peers(parts.control, parts.identity, self.problems, card, self, self.timing, self._refused)
        self.stages = Stages(
            self.id, slowdown=self.device.slowdown, memory_limit_bytes=limit, free_bytes=self._free_bytes
        )
        self.ring = Ring(self.id, parts.data, self.stages, self.peers.data_address, self.timing)
        self.names = ModelNames(self.id, parts.model_folders)
        self.lender = self.borrower = None
        if parts.store is not None:
            self.lender = Lender(self.id, parts.store, self.names)
            self.borrower = Borrower(self, parts.store, self.names)
        self.shapes = Shapes(parts.open_model, self.names, self.borrower)
        self.loader = Loader(
            self.device, parts.open_model, parts.make_engine, limit, self._free_bytes, self.names, self.borrower
        )
        self.paces = Paces()
        self.book = PlanBook(self.id, self.loader, self.ring, self.paces, lambda: self._notify("plans"))
        self.recovery = Recovery(self)
        self.sensing = Sensing(self, parts.sensors, parts.recorder, parts.watching)
        self.prober, self.journal = LinkProber(self.id, self.ring, self.peers), Journal(self)
        self.peers.link_figures = lambda peer: self.ring.echoes.links.get(peer)
        self.peers.shares_memory = parts.data.shares_memory

    # -- life --------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the doors, start the threads, begin to look for peers."""
        await self.parts.control.start(lambda message: answer(self, message))
        self.peers.card = self.parts.identity.sign_card(
            msgspec.structs.replace(
                self.card,
                control=self.parts.control.address,
                data=self.parts.data.address,
                version=time.time_ns() // 1_000_000,
                pid=os.getpid(),
                host=host_id(),
            )
        )
        self.recovery.start()
        self.ring.start()
        self.sensing.start()
        for discovery in self.parts.discoveries:
            self.tasks.keep(lambda one=discovery: self.peers.discover(one), f"discovery {discovery.name}")
        self.tasks.keep(lambda: self.peers.pulse.ping_all(lambda: catch_up(self)), "pings")
        self.tasks.keep(self.peers.greet_missing, "greetings")
        self.peers.pulse.watch(self.tasks)
        self.tasks.keep(lambda: watch_requests(self), "sweep")
        self.tasks.keep(lambda: watch_links(self), "links")
        self.tasks.keep(self.sensing.run, "sensors")
        if self.parts.measure_speed is not None:
            self.tasks.start(learn_speed(self, self.parts.measure_speed), "speed")

    async def stop(self) -> None:
        """Say goodbye, end every generation, free everything. Idempotent; takes at most a few seconds."""
        if self.stopped:
            return
        self.stopped = True
        # Out of sight first: who still found us after the goodbye would greet us again.
        await self.tasks.close()
        for discovery in self.parts.discoveries:
            await discovery.close()
        await self.peers.goodbye()
        await self._end_ring()
        await self.parts.control.close()
        self.sensing.close()
        self.loader.close()
        for shared in (self.lender, self.borrower):
            if shared is not None:
                shared.close()
        self.book.close()
        self.parts.close()

    async def _end_ring(self) -> None:
        """End the data thread. Without an executor: at the interpreter's end there are none any more."""
        deadline = time.monotonic() + self.timing.close_timeout_s
        while not self.ring.close(0.0) and time.monotonic() < deadline:  # noqa: ASYNC110 - a thread sets no event
            await asyncio.sleep(0.01)

    # -- what others see of it ---------------------------------------------------------------------------

    @property
    def card(self) -> msg.NodeCard:
        """How it introduces itself; signed once it has started."""
        return self.peers.card

    @property
    def members(self) -> Members:
        """The other nodes."""
        return self.peers.members

    @property
    def plans(self) -> dict[str, Plan]:
        """The active plan of each model."""
        return self.book.plans

    @property
    def models(self) -> dict[str, msg.ModelRef]:
        """Which weights each plan is for, by the plan's model."""
        return self.book.models

    @property
    def topology(self) -> Topology:
        """This node, its living peers, and the links between it and them."""
        return self.peers.topology

    async def collect(self, max_depth: int = MAX_DEPTH) -> Topology:
        """What this node and everybody within `max_depth` hops of it know of the cluster."""
        hop_s = self.timing.collect_s
        return (await collect(self.peers, self.parts.control, (), max_depth, hop_timeout_s=hop_s)).topology

    def control_address(self, node: str) -> str:
        """Where a node answers; NodeLost if it is not in the cluster."""
        return self.peers.control_address(node)

    def memory_available_bytes(self) -> int:
        """What is free now: of the emulated memory if it is emulated, else of the machine's."""
        if self.device.emulated and self.stages.shelf.memory_limit_bytes:
            return max(0, self.device.memory_bytes - self.stages.weight_bytes - self.stages.kv_bytes)
        return self._free_bytes()

    def _free_bytes(self) -> int:
        return self.parts.free_memory() if self.parts.free_memory else psutil.virtual_memory().available

    def stats(self) -> msg.Stats:
        """This node's counters."""
        return msg.Stats(
            sessions=self.stages.session_count,
            kv_bytes=self.stages.kv_bytes,
            kept_bytes=self.stages.shelf.figures.kept_bytes,
            weight_bytes=self.stages.weight_bytes,
            rss_bytes=psutil.Process().memory_info().rss,
            counters={**self.counters, **self.stages.counters, **self.parts.refused()},
        )

    # -- what its peers are told to it -------------------------------------------------------------------

    def peer_lost(self, peer: Peer) -> None:
        """A peer went away: what it asked for is freed, what needed it goes on elsewhere. See `Watcher`."""
        self.ring.post(RequesterLost(peer.id, peer.data))
        self.book.proposer_lost(peer.id)
        self.recovery.peer_lost(peer)

    def peer_back(self, node: str) -> None:
        """A peer is there that was not. See `Watcher`."""
        self.ring.post(CameBack(node))
        if not self.stopped:
            self.tasks.start(get_to_know(self, node), f"first words with {node}")

    def peers_changed(self) -> None:
        """See `Watcher`."""
        self._notify("nodes")

    def alerts_changed(self) -> None:
        """An alert of this node or of a peer came, went, or was acknowledged. See `Watcher`."""
        self._notify("alerts")

    def _notify(self, what: str) -> None:
        for listener in tuple(self.listeners):
            try:
                listener(what)
            except Exception:
                # It is somebody else's code, and our pings must go on.
                log.exception("node %s: a listener failed on %s", self.id, what)

    def _refused(self, reason: str) -> None:
        self.counters[reason] += 1

    # -- plans of ours -----------------------------------------------------------------------------------

    def allow_model(self, name: str) -> None:
        """This node's own user wants that model: it is opened here whatever its name, see `model_names`."""
        self.names.allow(name)

    def activate(self, plan: Plan, model: msg.ModelRef) -> None:
        """Make a plan the model's plan here. See `PlanBook.activate`."""
        self.book.activate(plan, model)

    def forget(self, model: str, epoch: int | None, proposer: str) -> None:
        """Free a plan's shard (epoch given), or every plan of a model."""
        self.book.forget(model, epoch, proposer)

    # -- generations -------------------------------------------------------------------------------------

    def submit(
        self,
        plan: Plan,
        prompt: tuple[int, ...],
        sampling: SamplingParams,
        eos: tuple[int, ...],
        timeout_s: float,
        draft: Draft | None = None,
    ) -> Request:
        """Start a generation on a plan. Any thread. The request fills by itself; nothing is raised later.

        On a node that was stopped, it has failed when this returns.
        """
        spec = msg.SessionSpec(
            requester=self.id,
            reply_to=self.parts.data.address,
            sampling=msgspec.structs.replace(sampling, stop=()),
            eos=eos,
            prompt_tokens=len(prompt),
            total_tokens=len(prompt) + sampling.max_tokens,
            history=sampling.history(prompt),
            reuse=len(prompt) if sampling.prefix_cache else 0,
            drafted=draft is not None,
        )
        request = Request(uuid.uuid4().hex[:16], plan, prompt, spec, timeout_s, draft)
        request.begin(time.perf_counter())
        self.ring.begin(request)
        return request

    def cancel(self, request: Request) -> None:
        """End a generation on every node. Any thread; idempotent; returns at once."""
        request.cancel()
        self.ring.post(Stop(request))
