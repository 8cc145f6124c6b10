"""A cluster of nodes in one process, over the in-process twins, with a tiny model: what the tests of `node` run on."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from exo_lab.core.device import Device
from exo_lab.core.messages import ModelRef, StageTiming
from exo_lab.core.plan import Plan, plan_from_counts
from exo_lab.core.sampling import SamplingParams
from exo_lab.core.shard import Shard
from exo_lab.core.tensor import Tensor
from exo_lab.discovery.memory import MemoryDirectory
from exo_lab.engines import calibrate, convert, sampling
from exo_lab.engines.base import PREFILL_CHUNK, Want
from exo_lab.engines.numpy_engine import NumpyEngine
from exo_lab.node import planner
from exo_lab.node.draft import Draft
from exo_lab.node.node import Node
from exo_lab.node.parts import NodeParts
from exo_lab.node.session import Request
from exo_lab.node.timing import Timing
from exo_lab.transport.keys import Identity
from exo_lab.transport.memory import MemoryNetwork
from tests.tiny import TinySource, tiny_source

DEADLINE_S = 20.0
MODEL = "tiny"
# Short where a test waits for it, long enough that a busy machine takes nobody for dead.
FAST = Timing(
    hello_timeout_s=0.8,
    greet_again_s=0.05,
    ping_every_s=0.05,
    ping_timeout_s=0.5,
    lost_after_s=1.0,
    sweep_every_s=0.02,
    send_timeout_s=1.5,
    retire_after_s=0.1,
    restart_s=0.02,
)


class Gate:
    """Stops engines in the middle of a generation, until it is opened."""

    def __init__(self) -> None:
        self.opened, self.reached = threading.Event(), threading.Event()
        self.opened.set()
        self.calls = 0
        self.close_at = -1

    def close_before(self, call: int) -> None:
        """Stop before that forward pass, counted from now."""
        self.calls, self.close_at = 0, call
        self.reached.clear()
        self.opened.clear()

    def open(self) -> None:
        """Go on."""
        self.close_at = -1
        self.opened.set()

    def passing(self) -> None:
        """An engine is about to compute."""
        if self.calls == self.close_at:
            self.reached.set()
            assert self.opened.wait(DEADLINE_S), "nobody opened the gate"
        self.calls += 1


class GatedEngine(NumpyEngine):
    """The numpy engine behind a gate. `failing` is raised by the next forward pass."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self.gate = gate
        self.failing: Exception | None = None
        self.closed = False

    def forward(self, session: str, x: Tensor, position: int, want: Want = "last") -> Tensor | None:
        if session == calibrate.SESSION:  # before anybody asks
            return super().forward(session, x, position, want)
        self.gate.passing()
        if self.failing is not None:
            failing, self.failing = self.failing, None
            raise failing
        return super().forward(session, x, position, want)

    def close(self) -> None:
        super().close()
        self.closed = True


class Cluster:
    """Nodes by number. `source` is the model that every node opens under the name `tiny`."""

    def __init__(self, source: TinySource | None = None, **options: Any) -> None:
        self.network = MemoryNetwork()
        self.directory = MemoryDirectory(options.pop("sees", None))
        self.source = source or tiny_source()
        self.options = options
        self.nodes: list[Node] = []
        self.stopped: list[Node] = []  # by a test, before the end
        self.engines: dict[str, list[GatedEngine]] = {}  # every one that was ever made, by node name
        self.gates: dict[str, Gate] = {}

    def __getitem__(self, index: int) -> Node:
        return self.nodes[index]

    def parts(self, name: str, **changes: Any) -> NodeParts:
        """The parts of one node; `changes` are fields of `NodeParts`, or of the device."""
        identity = changes.pop("identity", None) or Identity.create()
        self.engines[name], self.gates[name] = [], Gate()

        def make_engine(engine: str, dtype: str) -> GatedEngine:
            self.engines[name].append(GatedEngine(self.gates[name]))
            return self.engines[name][-1]

        device = {field: changes.pop(field) for field in list(changes) if field in Device.__struct_fields__}
        device.setdefault("memory_bytes", 1 << 30)  # nothing is planned for who does not say how much it has
        made: dict[str, Any] = {
            "device": Device(id=identity.device_id, name=name, engines=("numpy",), **device),
            "identity": identity,
            "control": self.network.control(name),
            "data": self.network.data(name, **changes.pop("data_options", {})),
            "discoveries": [self.directory.discovery()],
            "make_engine": make_engine,
            "open_model": lambda model: self.source,
            "refused": dict,
            "close": lambda: None,
        }
        return NodeParts(**{**made, **changes})

    async def add(self, name: str = "", **changes: Any) -> Node:
        """Start a node. `timing` and `software` are the node's own options."""
        own = {field: changes.pop(field) for field in ("timing", "software") if field in changes}
        name = name or f"n{len(self.nodes)}"
        own.setdefault("timing", self.options.get("timing", FAST))
        node = Node(self.parts(name, **{**self.options.get("parts", {}), **changes}), **own)
        self.nodes.append(node)
        await node.start()
        return node

    def cut_off(self, node: int) -> None:
        """Nothing reaches or leaves this node any more, as if its cable were pulled."""
        self.network.drop(self.nodes[node].card.control)

    def kill(self, node: int) -> None:
        """Nothing reaches or leaves this node any more, and its connections break: its process has ended."""
        self.network.kill(self.nodes[node].card.control)

    async def all_met(self) -> None:
        """Every node knows every other."""
        for node in self.nodes:
            await until(lambda node=node: len(node.members.alive()) == len(self.nodes) - 1, "nodes find each other")

    def plan(self, counts: Sequence[int], nodes: Sequence[int] | None = None) -> Plan:
        """Layer counts for the nodes of these numbers, or for the first ones."""
        chosen = range(len(counts)) if nodes is None else nodes
        devices = tuple(self.nodes[number].id for number in chosen)
        return plan_from_counts(MODEL, devices, tuple(counts))

    async def load(
        self, counts: Sequence[int], nodes: Sequence[int] | None = None, *, by: int = 0, **options: Any
    ) -> Plan:
        """Load the model, cut like this, on the order of node `by`."""
        reference = ModelRef(name=MODEL, digest=self.source.config.digest)
        return await planner.load(self.nodes[by], self.plan(counts, nodes), reference, **options)

    def ask(
        self,
        node: int = 0,
        prompt: Sequence[int] = (5, 6, 7),
        *,
        eos: tuple[int, ...] = (),
        timeout_s: float = DEADLINE_S,
        plan: Plan | None = None,
        draft: Draft | None = None,
        **params: Any,
    ) -> Request:
        """Start a generation on the plan that a node knows; without guesses unless they are asked for."""
        params = {"max_tokens": 12, "speculate": 0, **params}
        plan = plan or self.nodes[node].plans[MODEL]
        return self.nodes[node].submit(plan, tuple(prompt), SamplingParams(**params), eos, timeout_s, draft)

    async def answer(self, node: int = 0, prompt: Sequence[int] = (5, 6, 7), **options: Any) -> list[int]:
        """The tokens of a generation; its error is raised."""
        return await tokens_of(self.ask(node, prompt, **options))

    def expected(self, prompt: Sequence[int] = (5, 6, 7), **options: Any) -> list[int]:
        """What the uncut engine says to it."""
        return uncut(self.source, prompt, **options)

    async def free_of_sessions(self) -> None:
        """No node holds a session any more."""
        await until(
            lambda: all(node.stages.session_count == 0 for node in self.nodes if node not in self.stopped),
            "every stage frees its sessions",
        )

    def count(self, counter: str) -> int:
        """A counter, over all nodes."""
        return sum(node.stats().counters.get(counter, 0) for node in self.nodes)

    async def remove(self, node: Node) -> None:
        """Stop a node and forget it."""
        name = node.device.name
        self.gates[name].open()
        self.nodes.remove(node)
        await node.stop()
        del self.gates[name], self.engines[name]

    async def stop(self) -> None:
        for gate in self.gates.values():
            gate.open()
        await asyncio.gather(*(node.stop() for node in self.nodes))


@contextlib.asynccontextmanager
async def cluster(count: int = 1, **options: Any) -> AsyncIterator[Cluster]:
    """`count` nodes that have met; stopped at the end, and nothing is left of them."""
    made = Cluster(**options)
    try:
        for _ in range(count):
            await made.add()
        if "sees" not in options:
            await made.all_met()
        yield made
    finally:
        await made.stop()
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("exo-data-")]
    assert not left, f"data threads that did not end: {left}"


async def until(condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Wait for a condition that other threads make true."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s:g} s: {what}"
        await asyncio.sleep(0.002)


async def over(request: Request, deadline_s: float = DEADLINE_S) -> Request:
    """A request that has ended, well or not."""
    await until(request.over.is_set, f"request {request.id} ends", deadline_s)
    return request


async def tokens_of(request: Request, deadline_s: float = DEADLINE_S) -> list[int]:
    """All tokens of a request; its error is raised."""
    await over(request, deadline_s)
    found = arrived(request)
    if request.error is not None:
        raise request.error
    return found


def arrived(request: Request) -> list[int]:
    """The tokens that have come and were not taken yet."""
    found: list[int] = []
    while (arrival := request.take(0)) is not None:
        assert all(isinstance(timing, StageTiming) for timing in arrival.token.timings)
        found.append(arrival.token.token)
    return found


def uncut(
    source: TinySource, prompt: Sequence[int], *, eos: tuple[int, ...] = (), max_tokens: int = 12, **params: Any
) -> list[int]:
    """Generation without nodes: one engine that holds everything, and a loop that is written out."""
    engine = NumpyEngine()
    config = source.config
    engine.load(source, Shard(model=MODEL, start=0, end=config.n_layers, n_layers=config.n_layers))
    choose = SamplingParams(max_tokens=max_tokens, **params)
    seen = list(prompt)
    for start in range(0, len(prompt), PREFILL_CHUNK):
        out = engine.forward("one", convert.tokens(seen[start : start + PREFILL_CHUNK]), start, "last")
    while True:
        assert out is not None
        token = sampling.sample(convert.to_numpy(out)[0], choose, len(seen), seen).token
        seen.append(token)
        if token in eos or len(seen) == len(prompt) + max_tokens:
            return seen[len(prompt) :]
        out = engine.forward("one", convert.tokens([token]), len(seen) - 1, "last")
