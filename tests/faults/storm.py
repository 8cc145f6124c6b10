"""A storm: seeded faults at random tokens of running generations, on a cluster of in-process twins.

Every fault is one of `KINDS`. After each: every generation gave the tokens of the uncut model, or a clear error after a
beginning that is right; within a deadline; and no session, request or thread is left. Same seed, same schedule; when
threads meet the faults is up to the machine, as in life.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest import mock

import msgspec

from exo_lab.core.errors import BadPlan, ExoError, NodeLost, StaleEpoch
from exo_lab.node.moves import moved
from tests.node.clusters import FAST, MODEL, Cluster, arrived, cluster, until

if TYPE_CHECKING:
    from exo_lab.node.node import Node
    from exo_lab.node.session import Request

KINDS = (
    "kill",
    "leave",
    "freeze",
    "freeze briefly",
    "cut",
    "cut briefly",
    "part",
    "slow",
    "rejoin",
    "move",
    "duplicate",
    "garbage",
)
DEADLINE_S = 30.0
NODES = 5
LAYERS = 4
# Short, so that many faults fit into a minute. On a busy machine a node may be taken for dead: one fault more.
TIMING = msgspec.structs.replace(
    FAST, ping_every_s=0.05, ping_timeout_s=0.25, confirm_s=0.1, lost_after_s=0.5, busy_lost_after_s=0.6,
    send_timeout_s=0.8, retire_after_s=0.1, idle_session_s=10.0,
)  # fmt: skip
BRIEFLY_S = 0.15
LOADS = 5
SLOW_S = 0.01
TWICE = 0.25  # so often a second node goes a moment later
PARAMS: tuple[dict[str, Any], ...] = (
    {},
    {},
    {"temperature": 0.9, "seed": 11},
    {"repetition_penalty": 1.2},
    {"speculate": 3},
    {"speculate": None},
)


@dataclass
class Outcome:
    """One fault and what came of it."""

    number: int
    kind: str
    after: int  # forward passes of some stage before it struck
    requests: int
    same: int = 0
    errors: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    hung: list[str] = field(default_factory=list)
    recovered: int = 0
    seconds: float = 0.0


class Storm:
    """Faults on one cluster. Node 0 asks and is spared; everybody else may be struck."""

    def __init__(self, made: Cluster, seed: int) -> None:
        self.made, self.random = made, random.Random(seed)
        self.outcomes: list[Outcome] = []
        self._frames: deque[tuple[str, list[bytes]]] = deque(maxlen=64)
        self._names = 0
        self._slow = ""
        self._expected: dict[str, list[int]] = {}
        made.network.tap = lambda address, parts: self._frames.append((address, parts))
        made.network.delay = lambda source, address: SLOW_S if self._slow and self._slow in (source, address) else 0.0

    async def strike(self, kind: str | None = None) -> Outcome:
        """One fault while generations run, and everything that is demanded afterwards."""
        await self._heal()
        draw = self.random
        plan = self.made[0].plans[MODEL]
        kind = kind or draw.choice(KINDS)
        outcome = Outcome(len(self.outcomes), kind, draw.randrange(12), draw.randint(1, 3))
        started = time.monotonic()
        stopper = self._node(draw.choice(plan.devices))
        gate = self.made.gates[stopper.device.name]
        gate.close_before(outcome.after)
        asked = [self._ask() for _ in range(outcome.requests)]
        await until(lambda: gate.reached.is_set() or all(r.over.is_set() for r, _ in asked), "the fault's moment")
        others = [node for node in self.made.nodes[1:] if node.id in plan.devices]
        victim = draw.choice(others or self.made.nodes[1:])
        undo = [self._apply(kind, victim)]
        if kind == "move":
            await undo[0]()  # nobody computes meanwhile, so that the answers are moved where the gate stopped them
        if not (kind.startswith("freeze") and victim is stopper):
            gate.open()
        if draw.random() < TWICE:
            undo.append(await self._again(kind, victim))
        for request, expected in asked:
            await self._judge(outcome, request, expected)
        for one in undo:
            await one()
        outcome.seconds = time.monotonic() - started
        self.outcomes.append(outcome)
        await self._nothing_left()
        return outcome

    async def _again(self, kind: str, victim: Node) -> Any:
        """A second one, perhaps while the first is being mended."""
        await asyncio.sleep(self.random.uniform(0, TIMING.lost_after_s))
        left = [node for node in self.made.nodes[1:] if node is not victim]
        return self._apply(self.random.choice(("kill", "leave")), self.random.choice(left))

    # -- before ------------------------------------------------------------------------------------------

    async def _heal(self) -> None:
        """Enough nodes that know each other, and a model that is loaded on some of them, cut at random."""
        made, draw = self.made, self.random
        while len(made.nodes) < NODES:
            await self._add()
        await made.all_met()
        there = {node.id for node in made.nodes}
        plan = made[0].plans.get(MODEL)
        if plan is None or not there.issuperset(plan.devices) or draw.random() < 0.3:
            count = draw.randint(2, 3)
            chosen = draw.sample(range(NODES), count)
            cuts = sorted(draw.sample(range(1, LAYERS), count - 1))
            counts = [end - start for start, end in zip([0, *cuts], [*cuts, LAYERS], strict=True)]
            await self._load(counts, chosen)

    async def _load(self, counts: list[int], chosen: list[int]) -> None:
        """On a busy machine a node may be taken for dead while it loads: a clear error, and another try."""
        for tries_left in reversed(range(LOADS)):
            await self.made.all_met()
            try:
                await self.made.load(counts, chosen)
            except NodeLost:
                if not tries_left:
                    raise
            else:
                return

    async def _add(self) -> Node:
        self._names += 1
        return await self.made.add(f"s{self._names}")

    def _node(self, device: str) -> Node:
        return next(node for node in self.made.nodes if node.id == device)

    def _ask(self) -> tuple[Request, list[int]]:
        draw = self.random
        prompt = tuple(draw.randrange(3, 200) for _ in range(draw.choice((2, 8, 150))))
        params = {"max_tokens": draw.randint(10, 24), **draw.choice(PARAMS)}
        return self.made.ask(0, prompt, **params), self.made.expected(prompt, **params)

    # -- the fault ---------------------------------------------------------------------------------------

    def _apply(self, kind: str, victim: Node) -> Any:
        """Do it; returns what undoes it, to be awaited once the generations are over."""
        network, address = self.made.network, victim.card.control
        match kind:
            case "kill" | "leave":
                if kind == "kill":
                    network.kill(address)
                leaving = asyncio.create_task(self.made.remove(victim))
                return lambda: self._gone(leaving, address)
            case "freeze" | "freeze briefly":
                thaw = self._freeze(victim)
                return self._later(thaw, kind)
            case "cut" | "cut briefly":
                network.drop(address)
                return self._later(lambda: network.restore(address), kind)
            case "part":
                other = self.random.choice([node for node in self.made.nodes if node is not victim])
                network.part(address, other.card.control)
                return self._later(lambda: network.restore(address), kind)
            case "slow":
                self._slow = address
                return self._later(lambda: setattr(self, "_slow", ""), kind)
            case "rejoin":
                network.kill(address)
                leaving = asyncio.create_task(self.made.remove(victim))
                joining = asyncio.create_task(self._add())
                return lambda: asyncio.gather(self._gone(leaving, address), joining)
            case "move":
                moving = asyncio.create_task(self._move(victim))
                return lambda: moving
            case "duplicate":
                for frame in self.random.sample(self._frames, min(len(self._frames), 8)):
                    network.inject(*frame)
            case "garbage":
                self._garbage(victim.card.data)
            case _:
                raise ValueError(kind)
        return lambda: asyncio.sleep(0)

    async def _move(self, target: Node) -> None:
        """Some layers go to a node while answers run on them; half of the time their caches go along."""
        made, draw = self.made, self.random
        old, reference = made[0].plans[MODEL], made[0].models[MODEL]
        made[0].recovery.shapes[reference.digest] = made.source.config
        along = draw.random() < 0.5
        for _ in range(20):
            start = draw.randrange(LAYERS)
            try:
                plan = moved(old, start, draw.randint(start + 1, LAYERS), target.id)
            except BadPlan:
                continue  # a node's layers would not follow each other
            # On a busy machine a node may be taken for dead while it loads: then everything is as before, or an
            # answer that needed it has made another plan meanwhile.
            with mock.patch("exo_lab.node.recovery.migrates", return_value=along):
                try:
                    await made[0].recovery.change(old, plan, reference, "layers were moved")
                except (NodeLost, StaleEpoch):
                    for node in made.nodes:
                        if node is made[0] or node.id in old.devices:
                            known = node.plans.get(MODEL)
                            assert known is not None, f"{node.device.name} lost its plan to a move that failed"
                            assert known == old or known.rank > old.rank
            return

    def _later(self, undo: Any, kind: str) -> Any:
        """Undo at once if it is brief, else when everything is over."""

        async def brief() -> None:
            await asyncio.sleep(BRIEFLY_S)
            undo()

        async def finally_() -> None:
            if task is not None:
                await task
            else:
                undo()

        task = asyncio.create_task(brief()) if kind.endswith("briefly") else None
        return finally_

    async def _gone(self, leaving: asyncio.Task[None], address: str) -> None:
        await leaving
        self.made.network.restore(address)

    def _freeze(self, victim: Node) -> Any:
        """It answers nothing and computes nothing, and its connections stay open."""
        gate, control = self.made.gates[victim.device.name], victim.parts.control
        gate.close_before(0)
        asked, control._asked = control._asked, lambda *packet: held.append(packet)
        held: list[Any] = []

        def thaw() -> None:
            control._asked = asked
            for packet in held:
                asked(*packet)
            gate.open()

        return thaw

    def _garbage(self, address: str) -> None:
        draw = self.random
        for _ in range(8):
            parts = [draw.randbytes(draw.randrange(64)) for _ in range(draw.randrange(4))]
            self.made.network.inject(address, parts)
        for where, frame in list(self._frames)[-4:]:  # real ones that were cut short
            self.made.network.inject(where, [frame[0], frame[1][: len(frame[1]) // 2], *frame[2:]])

    # -- after -------------------------------------------------------------------------------------------

    async def _judge(self, outcome: Outcome, request: Request, expected: list[int]) -> None:
        await asyncio.to_thread(request.over.wait, DEADLINE_S)
        tokens = arrived(request)
        outcome.recovered += bool(request.notices)
        if not request.over.is_set():
            outcome.hung.append(f"{request.id} at token {len(tokens)}")
        elif tokens != expected[: len(tokens)] or (request.error is None and tokens != expected):
            outcome.wrong.append(f"{request.id}: {tokens} instead of {expected}")
        elif request.error is None:
            outcome.same += 1
        else:
            assert isinstance(request.error, ExoError)
            outcome.errors.append(f"{type(request.error).__name__}: {request.error}")

    async def _nothing_left(self) -> None:
        await self.made.free_of_sessions()
        await until(lambda: not self.made[0].ring.requests, "the requester forgets its requests")


async def storm(count: int, seed: int, kinds: tuple[str, ...] | None = None) -> list[Outcome]:
    """`count` faults; whoever calls judges the outcomes."""
    async with cluster(NODES, timing=TIMING) as made:
        weather = Storm(made, seed)
        for number in range(count):
            await weather.strike(None if kinds is None else kinds[number % len(kinds)])
    assert not made.network._controls, "control ports that were not closed"
    assert not made.network._datas, "data ports that were not closed"
    return weather.outcomes


def tally(outcomes: list[Outcome]) -> dict[str, Counter[str]]:
    """Figures by kind of fault."""
    found: dict[str, Counter[str]] = {}
    for one in outcomes:
        found.setdefault(one.kind, Counter()).update(
            faults=1,
            generations=one.requests,
            same=one.same,
            errors=len(one.errors),
            wrong=len(one.wrong),
            hung=len(one.hung),
            recovered=one.recovered,
        )
    return found
