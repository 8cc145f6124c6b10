"""While a model is loaded: do its stages still take what they took? If not, layers move, by the user's policy.

Nodes measure their stages with every token and tell each other; this looks at it now and then, plans anew with the
figures of now, and asks `planning.drift` whether it is time. What the user cut by hand stays as it is.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec

from exo_lab.cluster.planning import problem_of
from exo_lab.core.errors import ExoError, PlanError
from exo_lab.node import planner
from exo_lab.node.failover import computing_alike, is_whole
from exo_lab.planning.choose import choose
from exo_lab.planning.cost import predict
from exo_lab.planning.drift import LOAD_BYTES_PER_S, MOVE_S, Drift, Offer, due, move_s, moved, replaced, step

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_lab.cluster.planning import Wish
    from exo_lab.core.messages import ModelRef
    from exo_lab.core.model import ModelConfig
    from exo_lab.core.plan import Plan
    from exo_lab.node.node import Node
    from exo_lab.planning.problem import Problem

LOOK_EVERY_S = 1.0
REST = 20  # planning takes at most one part in so many of a core
WHY = "stages take otherwise than when the layers were shared out, so some were moved"


class PaceWatch:
    """Lives on a node's control loop.

    Args:
        node: whose plans are watched.
        policy: the user's, asked at each look.
        wish_of: what the user said of a plan, or what its strategy says.
        acts: is it this node that acts for a plan?
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        node: Node,
        policy: Callable[[], str],
        wish_of: Callable[[Plan], Wish],
        acts: Callable[[Plan], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._node, self._policy, self._wish_of, self._acts, self._clock = node, policy, wish_of, acts, clock
        self._drifts: dict[str, Drift] = {}  # by the plan's model; kept when it is unloaded, so that nothing flaps
        self._seen: dict[str, Plan] = {}  # at the last look
        self._planning_s = 0.0  # what it took the last time
        self._load_bytes_per_s = LOAD_BYTES_PER_S
        self._following: asyncio.Task[None] | None = None

    def follow(self) -> None:
        """Look from now on, as long as something is loaded."""
        if self._node.plans and (self._following is None or self._following.done()):
            self._following = self._node.tasks.keep(self._follow, "paces of stages")

    async def _follow(self) -> None:
        while self._node.plans:
            await asyncio.sleep(max(LOOK_EVERY_S, REST * self._planning_s))
            await self.look()

    async def look(self) -> None:
        """Once, at every model. Errors are problems of the node."""
        node = self._node
        self._seen = {model: plan for model, plan in self._seen.items() if model in node.plans}
        for model, plan in tuple(node.plans.items()):
            subject, may = f"pace of {model}", self._may(plan)
            if self._seen.get(model) != plan or not may:
                self._seen[model] = plan
                self._drifts[model] = replaced(self._drift(model))
                node.problems.settle(subject)
            reference = node.models.get(model)
            if reference is None or not may:
                continue
            try:
                await self._consider(plan, reference, subject)
            except ExoError as exc:
                node.problems.note(subject, f"{model} could not be shared out anew: {exc}")

    def _may(self, plan: Plan) -> bool:
        """Whole, ours to act for, not cut by hand, and nothing else is being done about it."""
        free = self._policy() != "never" and plan.strategy != "manual" and not self._node.recovery.busy
        return free and is_whole(plan, planner.residents(self._node)) and self._acts(plan)

    def _drift(self, model: str) -> Drift:
        return self._drifts.get(model, Drift())

    async def _consider(self, plan: Plan, reference: ModelRef, subject: str) -> None:
        node, model = self._node, plan.model
        config = await node.shapes.of(reference, at_once=False)
        began = time.perf_counter()
        offer = await asyncio.to_thread(self._offer, plan, config)
        self._planning_s = time.perf_counter() - began
        if node.plans.get(model) != plan:
            return  # it was replaced meanwhile
        now = self._clock()
        drift = self._drifts[model] = step(self._drift(model), offer, now)
        if not due(drift, now):
            if drift.since is None:
                node.problems.settle(subject)
        elif self._policy() == "auto":
            node.problems.settle(subject)
            await self._move(plan, offer, reference, config)
        else:
            node.problems.note(subject, self._notice(plan, offer))

    async def _move(self, plan: Plan, offer: Offer, reference: ModelRef, config: ModelConfig) -> None:
        node, began = self._node, self._clock()
        node.recovery.shapes[reference.digest] = config  # so that caches can go along
        # Before it is known how it ends: what failed is not tried again at once either.
        self._drifts[plan.model] = moved(self._drift(plan.model), began)
        await node.recovery.change(plan, offer.plan, reference, WHY)
        loading_s = self._clock() - began - MOVE_S
        size = (move_s(config, plan, offer.plan, 1.0) - MOVE_S) if loading_s > 0 else 0.0  # at a byte a second
        if size > 0:
            self._load_bytes_per_s = size / loading_s

    def _offer(self, plan: Plan, config: ModelConfig) -> Offer:
        """The best plan of those that could take over, the present one included."""
        wish = self._wish_of(plan)
        everybody = problem_of(self._node, config, wish)
        before = _rate(everybody, plan)
        found = [Offer(plan=plan, before=before, after=before, move_s=0.0)]
        for problem in self._problems(everybody, plan, wish):
            try:
                made = choose(problem, "optimal")
            except PlanError:
                continue  # then it is too tight for another plan
            made = computing_alike(plan, msgspec.structs.replace(made, dtype=plan.dtype, engine=plan.engine))
            if (made.devices, made.shards) != (plan.devices, plan.shards):
                cost_s = move_s(config, plan, made, self._load_bytes_per_s)
                found.append(Offer(plan=made, before=before, after=_rate(everybody, made), move_s=cost_s))
        return max(found, key=lambda offer: offer.won)

    def _problems(self, everybody: Problem, plan: Plan, wish: Wish) -> list[Problem]:
        """Who may hold layers in which order: as before, so that little moves; and whoever there is, in any order."""
        if wish.devices is not None:
            chosen = planner.select(everybody.topology.devices, wish.devices)
            return [msgspec.structs.replace(everybody, order=tuple(device.id for device in chosen))]
        return [msgspec.structs.replace(everybody, order=plan.devices, required=()), everybody]

    def _notice(self, plan: Plan, offer: Offer) -> str:
        names = {device.id: device.name for device in self._node.topology.devices}
        cut = zip(offer.plan.devices, offer.plan.shards, strict=True)
        shares = ", ".join(f"{names.get(device, device)} {len(shard)}" for device, shard in cut)
        return (
            f"{plan.model}: stages take otherwise than when the layers were shared out. It is predicted to give "
            f"{offer.before:.3g} tokens/s as it is and {offer.after:.3g} with these layers: {shares}. "
            "`%exo move` moves some; with `%exo connect --rebalance auto` they would move by themselves."
        )


def _rate(problem: Problem, plan: Plan) -> float:
    """Predicted tokens a second, or prompts, of what the user wants to be quick."""
    found = predict(problem, plan)
    match problem.objective:
        case "decode":
            return found.tokens_per_s
        case "throughput":
            return found.throughput_per_s
        case "prefill":
            return 1 / found.ttft_s
