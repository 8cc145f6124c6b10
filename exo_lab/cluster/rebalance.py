"""When nodes come or go, another plan may be better: what is done about it, by the user's policy.

`auto` loads it, `ask` (the default) says what it would give, `never` is silent. One node acts for a plan: who made it,
or the first one by id when that is gone. Nothing flaps: the nodes must have stayed the same for a moment, the predicted
gain must be worth a load, and between two changes there is a pause. `pace_watch` does it for nodes that become slower.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import msgspec

from exo_lab.cluster.pace_watch import PaceWatch
from exo_lab.cluster.planning import problem_of, wish_behind
from exo_lab.core.errors import ConfigError, DoesNotFit, ExoError
from exo_lab.node import planner
from exo_lab.planning.choose import choose
from exo_lab.planning.cost import predict

if TYPE_CHECKING:
    from collections.abc import Set

    from exo_lab.cluster.planning import Wish
    from exo_lab.core.messages import ModelRef
    from exo_lab.core.model import ModelConfig
    from exo_lab.core.plan import Plan
    from exo_lab.node.node import Node

Policy = Literal["auto", "ask", "never"]
POLICIES: tuple[str, ...] = get_args(Policy)
Verdict = Literal["nothing", "tell", "change"]
GAIN = 1.15  # predicted tokens a second, new over old, from which on it is worth a load
SETTLE_S = 1.0  # nodes must have stayed the same for so long
LOOK_AGAIN_S = 5.0  # while other nodes are there than when the plan came
PAUSE_S = 30.0  # between two changes of one model
REFUSED_S = 300.0  # after one that nodes had no room for: old layers stay until the new ones are in use
FALLBACK = "ring-memory-weighted"  # where layers were given by hand, and a node of them is gone


def policy_of(text: str) -> Policy:
    """A policy by name. ConfigError if there is none such."""
    for policy in get_args(Policy):
        if policy == text:
            return policy
    raise ConfigError(f"no rebalance policy {text!r}; there are {', '.join(POLICIES)}")


def decide(policy: Policy, before: float | None, after: float, *, same: bool, paused: bool) -> Verdict:
    """What to do about a new plan of `after` predicted tokens a second.

    Args:
        policy: the user's.
        before: what the present plan is predicted to do; None if a node of it is gone.
        after: what the new one is.
        same: it gives everybody the layers that they have.
        paused: there was a change just now.
    """
    if policy == "never" or same or (before is not None and after < GAIN * before):
        return "nothing"
    return "change" if policy == "auto" and not (paused and before is not None) else "tell"


def acts(plan: Plan, me: str, alive: Set[str]) -> bool:
    """Is it this node that acts for a plan? `alive`: those that stay; who only visits acts for none."""
    return me == (plan.proposer if plan.proposer in alive else min(alive, default=None))


class Proposal(NamedTuple):
    """A plan that could be loaded, and predicted tokens a second: of it, and of the one in use (None: it is broken)."""

    plan: Plan
    after: float
    before: float | None


class Rebalancer:
    """Watches one node's cluster. Lives on its control loop; `policy` may be set by any thread."""

    def __init__(self, node: Node, policy: Policy) -> None:
        self.policy: Policy = policy
        self.wishes: dict[str, Wish] = {}  # what the user said when a model was loaded, by the plan's model
        self._node = node
        self._timer: asyncio.TimerHandle | None = None
        self._changed_at: dict[str, float] = {}
        self._refused_at: dict[str, float] = {}
        self._first: dict[str, tuple[Plan, Set[str]]] = {}  # by model: its plan, and who was there when it came
        self._paces = PaceWatch(node, lambda: self.policy, self.wish_of, self._acts)
        node.listeners.add(self._on_change)

    def _on_change(self, what: str) -> None:
        if what in ("nodes", "plans") and not self._node.stopped:
            self._note_newcomers()
            self._later()
            self._paces.follow()

    def _note_newcomers(self) -> None:
        before, there = self._first, planner.residents(self._node)
        for model in before.keys() - self._node.plans.keys():
            for subject in (f"rebalance {model}", f"pace of {model}", f"shape of {model}"):
                self._node.problems.settle(subject)
        self._first = {
            model: before[model] if model in before and before[model][0] == plan else (plan, there)
            for model, plan in self._node.plans.items()
        }

    def _same_nodes(self, plan: Plan) -> bool:
        """Is everybody there who was when this plan came, and nobody else? Then it is for `pace_watch`."""
        known = self._first.get(plan.model)
        return known is not None and known == (plan, planner.residents(self._node))

    def _acts(self, plan: Plan) -> bool:
        return acts(plan, self._node.id, planner.residents(self._node))

    def wish_of(self, plan: Plan) -> Wish:
        """What the user said when the model was loaded; what the plan says if another node's user did."""
        return wish_behind(plan, self.wishes.get(plan.model))

    def _later(self, after_s: float = SETTLE_S) -> None:
        """Look at it once nothing has changed for a moment."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(after_s, self._look)

    def _look(self) -> None:
        if not self._node.stopped:
            self._node.tasks.start(self._consider_all(), "rebalance")

    async def _consider_all(self) -> None:
        node = self._node
        if node.recovery.busy:
            self._later()
            return
        for model, plan in node.plans.items():
            subject, reference = f"rebalance {model}", node.models.get(model)
            if reference is None or not self._acts(plan) or self._same_nodes(plan):
                node.problems.settle(subject)
                continue
            self._later(LOOK_AGAIN_S)  # the first figures of a newcomer are not the best
            try:
                await self._consider(plan, reference, subject)
            except ExoError as exc:
                node.problems.note(subject, f"{model} cannot be shared out anew over who is there: {exc}")

    async def _consider(self, plan: Plan, reference: ModelRef, subject: str) -> None:
        node, now = self._node, time.monotonic()
        config = await node.shapes.of(reference, at_once=False)
        proposal = await asyncio.to_thread(self._propose, plan, config)
        if node.recovery.busy or node.plans.get(plan.model) != plan:
            return  # it is being changed, or was
        if proposal is None:
            node.problems.settle(subject)
            return
        made, after, before = proposal
        same = (made.devices, made.shards) == (plan.devices, plan.shards)
        paused = now - self._changed_at.get(plan.model, -PAUSE_S) < PAUSE_S
        if self.policy == "auto" and now - self._refused_at.get(plan.model, -REFUSED_S) < REFUSED_S:
            return  # the notice says why
        match decide(self.policy, before, after, same=same, paused=paused):
            case "nothing":
                node.problems.settle(subject)
            case "tell":
                node.problems.note(subject, self._notice(plan, proposal))
            case "change":
                self._changed_at[plan.model] = now
                node.problems.settle(subject)
                why = "nodes came or went, and layers were shared out anew"
                try:
                    await node.recovery.change(plan, made, reference, why)
                except DoesNotFit:
                    self._refused_at[plan.model] = now
                    raise

    def _propose(self, plan: Plan, config: ModelConfig) -> Proposal | None:
        """Another plan by the user's wish; None if the user chose nodes or layers, and all of them are there."""
        node = self._node
        wish = self.wish_of(plan)
        whole = all(device in planner.residents(node) for device in plan.devices)
        by_hand = plan.strategy == "manual" or wish.devices is not None
        if by_hand and whole:
            return None
        if wish.strategy == "manual" or wish.layers is not None:
            wish = msgspec.structs.replace(wish, strategy=FALLBACK, layers=None)
        problem = problem_of(node, config, wish)
        made = msgspec.structs.replace(choose(problem, wish.strategy), dtype=plan.dtype, engine=plan.engine)
        before = predict(problem, plan).tokens_per_s if whole else None
        return Proposal(made, predict(problem, made).tokens_per_s, before)

    def _notice(self, plan: Plan, proposal: Proposal) -> str:
        names = {device.id: device.name for device in self._node.topology.devices}
        there = ", ".join(names.get(device, device) for device in proposal.plan.devices)
        new = f"a new plan over {there} is predicted to give {proposal.after:.3g} tokens/s"
        how = f"`%exo load {plan.model}` makes it; with `%exo connect --rebalance auto` it would make itself."
        if proposal.before is None:
            gone = ", ".join(device for device in plan.devices if device not in names)
            return f"{plan.model} lost a node of its plan ({gone}); {new}. The next answer makes one. Or {how}"
        now = f"{plan.model} is predicted to give {proposal.before:.3g} tokens/s as it is"
        return f"Nodes came or went: {now}, {new}. {how}"
