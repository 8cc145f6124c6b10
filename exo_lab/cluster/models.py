"""The part of `Cluster` that is about models: planning, loading, moving layers, forgetting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from exo_lab.cluster.asking import DEFAULT_MODEL, chosen
from exo_lab.cluster.catalogue import config_of
from exo_lab.cluster.changing import change, planned_move
from exo_lab.cluster.loaded import ask_shapes, loaded_models
from exo_lab.cluster.reach import check_reach
from exo_lab.cluster.rebalance import Policy, Rebalancer, policy_of
from exo_lab.core.messages import ModelRef
from exo_lab.core.plan import CONTEXT_TOKENS
from exo_lab.core.status import LoadedModel, PlanPreview
from exo_lab.node import planner

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exo_lab.cluster.planning import Explained, Wish
    from exo_lab.core.model import ModelConfig
    from exo_lab.core.plan import Plan
    from exo_lab.core.topology import Topology
    from exo_lab.node.node import Node
    from exo_lab.node.planner import PlanProgress
    from exo_lab.node.thread import ControlThread

DEFAULT_STRATEGY = "ring-memory-weighted"
STOP_TIMEOUT_S = 15.0
LOAD_SILENCE_S = 600.0
OUTLINE_TIMEOUT_S = 300.0  # for a header of up to a hundred megabytes, from several nodes in turn


class Models:
    """See the module. `Cluster` makes `node` and its control thread."""

    node: Node
    _thread: ControlThread
    _rebalancer: Rebalancer

    @property
    def rebalance(self) -> Policy:
        """What is done when nodes come, go or change pace and another plan is better: "auto" loads it, "ask" tells."""
        return self._rebalancer.policy

    @rebalance.setter
    def rebalance(self, policy: str) -> None:
        self._rebalancer.policy = policy_of(policy)

    def models(self) -> tuple[LoadedModel, ...]:
        """Models that are loaded, with the plans that every node agreed on.

        One whose shape neither this machine nor another node can tell is left out, and the status says so.
        """
        loaded = loaded_models(self.node)
        if loaded.unknown and not self._thread.is_current:
            self._thread.run(ask_shapes(self.node, loaded.unknown), OUTLINE_TIMEOUT_S)
            loaded = loaded_models(self.node)
        return loaded.known

    def config_of(self, model: str) -> ModelConfig:
        """The shape of a model. If it is not on this machine, its header is asked of the other nodes, then of the hub.

        Args:
            model: a name, a path or a hub id, as this machine's user gives it.

        Raises:
            ModelError: it cannot be found, or not be run.
            ConfigError: another is on this machine than other nodes have.
        """
        return config_of(model, self._outline(model), self.node.parts.store)

    def _outline(self, model: str) -> str | None:
        """Have the header of a model here, if this machine or another node has it; its digest, if that is known now."""
        borrower = self.node.borrower
        if borrower is None:
            return None
        here = borrower.store.held(model)
        return here.digest if here is not None else self._thread.run(borrower.outline(model), OUTLINE_TIMEOUT_S)

    def plan(self, model: str = DEFAULT_MODEL, **options: Any) -> PlanPreview:
        """What `load` would do. Loads nothing.

        Args:
            model: a name, a path or a hub id.
            options: fields of `cluster.planning.Wish`: `strategy` (one of `planning.choose.STRATEGIES`), `devices`
                (names or ids in ring order; all nodes, in an order that the strategy chooses, if not given), `layers`
                (per device, in the order of `devices`; overrides the strategy), `dtype` ("auto", "float32",
                "bfloat16", "quantised"), `engine` ("auto", "torch", "numpy"), `context` (tokens of prompt and answer
                that the memory must hold), `prompt` (tokens of a typical prompt), `objective` ("decode",
                "throughput", "prefill") or `mix` (weights of these), `force` (plan what does not fit), `wire` (the
                precision of hidden states between nodes: "float32", "bfloat16", "int8", or "auto": float32 but on
                measured links that are slow), `chunk` (tokens of the pieces in which prompts run, or "auto": what
                the cost model finds best; usual are 32 for quantised weights on processors and 128 elsewhere, where
                other sizes give other last bits).

        Raises:
            ModelError: the model cannot be found or run.
            PlanError: it does not fit, or the layers do not add up.
            ConfigError: a name that nobody has, an unknown strategy or option.
        """
        from exo_lab.cluster.planning import preview

        return preview(self, self.config_of(model), self._wish(options))[0]

    def explain(self, model: str = DEFAULT_MODEL, *, compare: bool = True, **options: Any) -> Explained:
        """A plan as `plan` makes it, with what it is predicted to do, what binds it, and what was rejected and why.

        Args:
            model: a name, a path or a hub id.
            compare: also plan with the other strategies and objectives, to say what they would give.
            options: those of `plan`.

        Raises:
            ExoError: as `plan`.
        """
        from exo_lab.cluster.planning import explained

        return explained(self, self.config_of(model), self._wish(options), compare=compare)

    def collected(self) -> Topology:
        """What this node and its neighbours know of devices and links."""
        return self._thread.run(self.node.collect(1), STOP_TIMEOUT_S)

    @staticmethod
    def _wish(options: Mapping[str, Any]) -> Wish:
        from exo_lab.cluster.planning import wish_of

        return wish_of({"strategy": DEFAULT_STRATEGY, "context": CONTEXT_TOKENS, **options})

    def load(self, model: str = DEFAULT_MODEL, *, progress: PlanProgress | None = None, **options: Any) -> LoadedModel:
        """Plan and have every stage load its layers; all or nothing. Takes the options of `plan`.

        Args:
            model: a name, a path or a hub id.
            progress: called with (node name, bytes done, bytes in all, what), in the control thread.
            options: those of `plan`.

        Raises:
            ExoError: as `plan`, and what went wrong on a node, by name.
        """
        self.node.allow_model(model)
        return self._load(model, self.config_of(model), self._wish(options), progress)

    def _load(
        self,
        name: str,
        config: ModelConfig,
        wish: Wish,
        progress: PlanProgress | None = None,
        alike: Plan | None = None,
    ) -> LoadedModel:
        """As `load`, of a model that other nodes may have named; `alike` as in `planning.preview`."""
        from exo_lab.cluster.planning import preview

        plan = preview(self, config, wish, alike)[0].plan
        self._rebalancer.wishes[plan.model] = wish
        reference = ModelRef(name=name, digest=config.digest)
        work = planner.load(self.node, plan, reference, progress=progress, timeout_s=LOAD_SILENCE_S)
        return LoadedModel(config=config, plan=self._thread.run(work))

    def move(
        self,
        layers: str | tuple[int, int],
        node: str,
        *,
        model: str | None = None,
        progress: PlanProgress | None = None,
    ) -> LoadedModel:
        """Have a node hold these layers from now on. They are loaded first; answers that this node asked for go along.

        Args:
            layers: "10-14" (both included), "10", or a half-open range (10, 15).
            node: a name or an id.
            model: which of the loaded models; not needed if there is one.
            progress: as `load`.

        Raises:
            BadPlan: no such layers, or a node's layers would not follow each other any more.
            ExoError: what went wrong on a node; then everything is as before.
        """
        loaded = self._loaded(model)
        self._check_reach(loaded.plan, node)
        plan = planned_move(self, layers, node, loaded.plan)
        reference = self.node.models[loaded.plan.model]
        return self._thread.run(change(self, loaded, plan, reference, f"layers were moved to {node}", progress))

    def rearrange(
        self, model: str | None = None, *, progress: PlanProgress | None = None, **options: Any
    ) -> LoadedModel:
        """Share out the layers of a loaded model anew, by the wish with which it was loaded but for these options.

        Prompts run in the same pieces and hidden states are rounded as before, so that answers of this node go along.

        Args:
            model: which of the loaded models; not needed if there is one.
            progress: as `load`.
            options: those of `plan`.

        Raises:
            ExoError: as `load`; then everything is as before.
        """
        from exo_lab.cluster.planning import preview

        loaded = self._loaded(model)
        wish = self.wish_of(loaded.plan, **options)
        plan = preview(self, loaded.config, wish, loaded.plan)[0].plan
        reference = self.node.models[plan.model]
        work = change(self, loaded, plan, reference, "layers were shared out anew", progress)
        made = self._thread.run(work)
        self._rebalancer.wishes[plan.model] = wish
        return made

    def wish_of(self, plan: Plan, **options: Any) -> Wish:
        """The wish that a loaded plan fulfils, as far as it is known here, but for these options.

        Raises:
            ConfigError: an option that there is not, or a value that it cannot have.
        """
        wish = self._rebalancer.wish_of(plan)
        return self._wish({**msgspec.structs.asdict(wish), **options})

    def unload(self, model: str | None = None) -> str:
        """Have every node forget a model; the only one if None. Returns what its plan calls it."""
        plan = chosen(self.node.plans, self.node.models, model)
        self._check_reach(plan)
        self._thread.run(planner.unload(self.node, plan.model), STOP_TIMEOUT_S)
        return plan.model

    def _check_reach(self, plan: Plan, *more: str) -> None:
        """See `check_reach`, of the nodes of a plan and of `more`, names or ids."""
        check_reach(self, f"layers of {plan.model} are there, or to go there", (*plan.devices, *more))

    def _loaded(self, model: str | None) -> LoadedModel:
        """The loaded model that a user means. ConfigError as `chosen`; ModelError if its shape cannot be had."""
        plan = chosen(self.node.plans, self.node.models, model)
        shape = self.node.shapes.of(self.node.models[plan.model])
        return LoadedModel(config=self._thread.run(shape, OUTLINE_TIMEOUT_S), plan=plan)
