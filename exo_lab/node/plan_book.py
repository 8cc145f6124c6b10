"""The plans that a node knows, and its own shards of them: loading, switching, forgetting. Lives on the control loop.

Of two plans of one model the one of higher rank is the plan, on every node alike. What a plan's stages compute is the
data thread's business; it is told by orders.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.errors import BadPlan, NodeError, StaleEpoch
from exo_lab.core.messages import Done
from exo_lab.node.holds import Hold, PlanKey, key_of
from exo_lab.node.orders import Install, Retire

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable

    from exo_lab.core.messages import ControlMessage, LoadShard, ModelRef
    from exo_lab.core.plan import Plan
    from exo_lab.node.loader import Loader
    from exo_lab.node.pace import Paces
    from exo_lab.node.ring import Ring

MAX_MODELS = 64
MAX_PLAN_BYTES = 64 << 10
MAX_LOADS = 4  # shards that are being loaded; and as many that are loaded and not yet in use
MAX_EPOCH_LEAP = 1 << 20  # above the highest one known, so that nobody uses up the epochs


class PlanBook:
    """See the module. `plans` and `models` are replaced, never changed, so any thread may read them."""

    def __init__(self, node: str, loader: Loader, ring: Ring, paces: Paces, changed: Callable[[], object]) -> None:
        self.plans: dict[str, Plan] = {}  # the active plan of each model
        self.models: dict[str, ModelRef] = {}
        self._node, self._loader, self._ring, self._paces, self._changed = node, loader, ring, paces, changed
        self.highest_epoch = 0  # that was ever heard of here, or given to a plan that was begun
        self._loads = 0
        self._loaded: dict[PlanKey, Hold] = {}  # loaded here and not yet handed to the data thread
        self._installed: dict[PlanKey, Hold] = {}
        self._forgotten: dict[str, tuple[int, str]] = {}  # rank of the newest plan of a model that was unloaded

    @property
    def offered(self) -> tuple[tuple[str, int, str], ...]:
        """What is active here, as pongs tell it: (model, epoch, proposer)."""
        return tuple((plan.model, plan.epoch, plan.proposer) for plan in self.plans.values())

    @property
    def loading(self) -> bool:
        """Is a shard being loaded here?"""
        return self._loads > 0

    def is_plausible(self, epoch: int) -> bool:
        """Could an epoch have been reached in order?"""
        return epoch <= self.highest_epoch + MAX_EPOCH_LEAP

    def is_news(self, model: str, epoch: int, proposer: str) -> bool:
        """Would a plan of this rank be taken over?"""
        current = self.plans.get(model)
        known = max(self._forgotten.get(model, (-1, "")), (-1, "") if current is None else current.rank)
        return (epoch, proposer) > known

    async def load(self, order: LoadShard) -> AsyncGenerator[ControlMessage]:
        """Load this node's shard of a plan; the replies to `LoadShard`.

        Raises:
            StaleEpoch: the stage is not this node's.
            NodeError: it loads enough already.
            BadPlan: it uses this one already, or it is not plausible.
            ExoError: see `Loader`.
        """
        if order.plan.stage_of(self._node) != order.stage:
            raise StaleEpoch(f"stage {order.stage} of this plan is not node {self._node}")
        key = key_of(order.plan)
        if key in self._installed:
            raise BadPlan(f"node {self._node} uses its shard of this plan already; a new plan needs a new epoch")
        self._check_size(order.plan)
        self._give_up_before(key)
        kept = self._same_shard(order)
        if kept is not None:
            self._keep(kept)
            yield Done(bytes=kept.engine.info.weight_bytes, detail=f"{kept.engine.info.dtype}, held already")
            return
        if self._loads >= MAX_LOADS:
            raise NodeError(f"node {self._node} is loading {MAX_LOADS} shards already; ask again in a moment")
        self._loads += 1
        try:
            loaded: list[Hold] = []
            async with contextlib.aclosing(self._loader.load(order, loaded)) as replies:
                async for reply in replies:
                    if loaded:
                        self._keep(loaded.pop())
                    yield reply
        finally:
            self._loads -= 1

    def _same_shard(self, order: LoadShard) -> Hold | None:
        """The same layers of the same weights, if they are in use here for another plan."""
        for hold in self._installed.values():
            kept = hold.for_plan(order.plan, order.stage, order.model.digest)
            if kept is not None:
                return kept
        return None

    def _give_up_before(self, new: PlanKey) -> None:
        """Free what a proposer had loaded for earlier plans of a model, and never used: it makes one after the other.

        It gave them up, and may not have reached us.
        """
        for key in [*self._loaded, *self._unswitched]:
            if (key.model, key.proposer) == (new.model, new.proposer) and key.epoch < new.epoch:
                self._drop(key)

    def _drop(self, key: PlanKey) -> None:
        """Free a shard that nobody has used."""
        if key in self._loaded:
            self._loaded.pop(key).close()
        self._retire(key, now=True)

    def _keep(self, hold: Hold) -> None:
        """Keep a loaded shard until it is used. Of too many, the one that waits longest is freed."""
        self._drop(hold.key)
        while len(self._loaded) >= MAX_LOADS:
            self._drop(next(iter(self._loaded)))
        self._loaded[hold.key] = hold

    def reserve_epoch(self, told: Iterable[int]) -> int:
        """An epoch above every one that was heard of, or reserved, here, and above those that others tell of now."""
        self.highest_epoch = max([self.highest_epoch, *(epoch for epoch in told if self.is_plausible(epoch))]) + 1
        return self.highest_epoch

    def holds(self, plan: Plan) -> bool:
        """Is this node's shard of a plan in use here?"""
        return key_of(plan) in self._installed

    def activate(self, plan: Plan, model: ModelRef, *, switch: bool = True) -> None:
        """Make a plan the model's plan here. Its shard must be loaded, if it has one for this node.

        Without `switch` the shard is taken into use, and the model's plan stays what it was.

        Raises:
            StaleEpoch: it is not loaded.
            BadPlan: too many models, or a plan that is too large.
        """
        key = key_of(plan)
        needed = plan.stage_of(self._node) is not None
        if needed and key not in self._loaded and key not in self._installed:
            raise StaleEpoch(f"node {self._node} was told to use a plan whose shard it has not loaded")
        self._check_room(plan)
        hold = self._loaded.pop(key, None)
        if hold is not None:
            self._installed[key] = hold
            self._paces.keep(model.digest, plan, hold.meter)
            self._ring.post(Install(hold))
            if not switch:
                for idle in self._unswitched[:-MAX_LOADS]:
                    self._drop(idle)
        if switch:
            self.adopt(plan, model)

    @property
    def _unswitched(self) -> list[PlanKey]:
        """Plans whose shards are in use, and to which nobody has switched yet; the oldest first."""
        current = {key_of(plan) for plan in self.plans.values()}
        return [key for key in self._installed if key not in current]

    def adopt(self, plan: Plan, model: ModelRef) -> None:
        """A plan that others use. Of an older one than ours, what is held is freed. BadPlan as `activate`."""
        current = self.plans.get(plan.model)
        if current is not None and current.rank >= plan.rank:
            if current.rank > plan.rank:
                self._retire(key_of(plan))
            return
        self._check_room(plan)
        self.highest_epoch = max(self.highest_epoch, plan.epoch)
        self.plans = {**self.plans, plan.model: plan}
        self.models = {**self.models, plan.model: model}
        for key in tuple(self._installed):
            if key.model == plan.model and (key.epoch, key.proposer) < plan.rank:  # a newer one may be on its way
                self._retire(key)
        self._changed()

    def _check_room(self, plan: Plan) -> None:
        if plan.model not in self.plans and len(self.plans) >= MAX_MODELS:
            raise BadPlan(f"node {self._node} has plans of {MAX_MODELS} models already. Unload some.")
        self._check_size(plan)

    def _check_size(self, plan: Plan) -> None:
        size = len(msgspec.msgpack.encode(plan))
        if size > MAX_PLAN_BYTES:
            raise BadPlan(f"a plan of {size} bytes; node {self._node} takes at most {MAX_PLAN_BYTES}")
        if not self.is_plausible(plan.epoch):
            raise BadPlan(f"epoch {plan.epoch} is far above {self.highest_epoch}, the highest that {self._node} knows")

    def _retire(self, key: PlanKey, *, now: bool = False) -> None:
        if key in self._installed:
            del self._installed[key]
            self._ring.post(Retire(key, now=now))

    def forget(self, model: str, epoch: int | None = None, proposer: str = "") -> None:
        """Free a plan's shard (epoch given), or every plan of a model. What is not known is fine."""

        def meant(key: PlanKey) -> bool:
            return key.model == model and (epoch is None or (key.epoch, key.proposer) == (epoch, proposer))

        for key in [*self._loaded, *self._unswitched]:
            if meant(key):
                self._drop(key)
        for key in [key for key in self._installed if meant(key)]:
            self._retire(key, now=epoch is None)
        current = self.plans.get(model)
        if current is not None and meant(key_of(current)):
            self._forgotten[model] = current.rank
            while len(self._forgotten) > MAX_MODELS:
                del self._forgotten[next(iter(self._forgotten))]
            self.plans = {name: plan for name, plan in self.plans.items() if name != model}
            self.models = {name: reference for name, reference in self.models.items() if name != model}
            self._changed()

    def proposer_lost(self, node: str) -> None:
        """A node is gone: nobody will activate what it had loaded."""
        for key in [*self._loaded, *self._unswitched]:
            if key.proposer == node:
                self._drop(key)

    def close(self) -> None:
        """Free what was loaded and never used."""
        for hold in self._loaded.values():
            hold.close()
        self._loaded.clear()
