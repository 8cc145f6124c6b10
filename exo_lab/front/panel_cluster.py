"""The real cluster as the panel sees it: plans are judged by `planning`, made by `Cluster.load`.

A change names the epoch of the plan that the person looked at. When the cluster has another one by now, the change is
refused: it was made for a picture that is no longer true.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import msgspec

from exo_lab.core.errors import ConfigError, ExoError, PlanError, StaleEpoch
from exo_lab.core.status import residents
from exo_lab.front.panel_messages import DevicePrediction, PlanChange, Prediction
from exo_lab.front.roster import Roster

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_lab.cluster import Cluster
    from exo_lab.core.plan import Plan
    from exo_lab.core.status import ClusterStatus, LoadedModel
    from exo_lab.core.topology import Link
    from exo_lab.planning.problem import Problem


class ClusterView:
    """`PanelCluster` over a `Cluster`."""

    def __init__(self, cluster: Cluster) -> None:
        from exo_lab.cluster import DEFAULT_STRATEGY
        from exo_lab.planning.choose import STRATEGIES

        self.cluster = cluster
        self.strategies = tuple(name for name in STRATEGIES if name != "manual")
        self.default_strategy = DEFAULT_STRATEGY
        self.predicts = find_spec("exo_lab.planning.cost") is not None

    def status(self) -> ClusterStatus:
        """Everything at this moment; who only visits is no part of it."""
        status = self.cluster.status()
        return msgspec.structs.replace(status, nodes=residents(status.nodes))

    def links(self) -> tuple[Link, ...]:
        """The known links between nodes."""
        return self.cluster.node.topology.residents.links

    def on_change(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Call the listener on every change."""
        return self.cluster.on_change(lambda what: listener(what))

    def predict(self, change: PlanChange) -> Prediction:
        """What a change would do; `fits` false where a device lacks memory for it."""
        loaded = self._loaded(change)
        try:
            return self._predict(loaded, change, force=False)
        except PlanError as exc:
            reason = self._named(exc)
            if change.layers is None:
                return Prediction(devices=(), fits=False, reason=reason, strategy=change.strategy)
            # By how much is seen best in the figures of the plan that cannot be.
            forced = self._predict(loaded, change, force=True)
            return Prediction(
                devices=forced.devices, fits=False, reason=reason, strategy=forced.strategy, origin=forced.origin
            )

    def apply(self, change: PlanChange, progress: Callable[[str, int, int, str], None]) -> Plan:
        """Load the plan on every node and switch to it; answers of this node go along."""
        loaded = self._loaded(change)
        try:
            return self.cluster.rearrange(change.model, progress=progress, **self._options(loaded, change)).plan
        except ExoError as exc:
            raise type(exc)(self._named(exc)) from exc

    def cancel(self, request: str | None) -> int:
        """End one generation, or all."""
        return self.cluster.stop(request)

    def acknowledge(self, alert: str) -> None:
        """Tell the node whose alert it is."""
        self.cluster.acknowledge(alert)

    # -- inside ------------------------------------------------------------------------------------------

    def _loaded(self, change: PlanChange) -> LoadedModel:
        loaded = next((one for one in self.cluster.models() if one.plan.model == change.model), None)
        if loaded is None:
            raise ConfigError(f"{change.model} is not loaded any more. Load it again: %exo load {change.model}")
        if loaded.plan.epoch != change.epoch:
            raise StaleEpoch(
                f"the plan of {change.model} is number {loaded.plan.epoch} by now, this change was made for number "
                f"{change.epoch}. Look at the new one and move the layers again."
            )
        return loaded

    def _options(self, loaded: LoadedModel, change: PlanChange) -> dict[str, Any]:
        """How the change differs from the wish with which the model was loaded. Nothing is forced to fit from here."""
        used = _used(change)
        by_hand = change.layers is not None
        return {
            "strategy": change.strategy or self.default_strategy,
            "devices": tuple(device for device, _ in used) if by_hand else None,
            "layers": tuple(count for _, count in used) if by_hand else None,
            "context": max(change.context_tokens, loaded.plan.context_tokens),
            "force": False,
        }

    def _predict(self, loaded: LoadedModel, change: PlanChange, *, force: bool) -> Prediction:
        from exo_lab.cluster.planning import problem_of
        from exo_lab.node.failover import computing_alike
        from exo_lab.planning.choose import choose

        wish = self.cluster.wish_of(loaded.plan, **{**self._options(loaded, change), "force": force})
        problem = problem_of(self.cluster.node, loaded.config, wish, wish.devices or ())
        made = choose(problem, wish.strategy if wish.layers is None else "manual", wish.layers)
        plan = computing_alike(loaded.plan, made)
        figures = self._costs(problem, plan) if self.predicts else _memory_only(problem, plan)
        strategy = change.strategy if change.layers is not None and change.strategy else plan.strategy
        context = problem.context_tokens
        return Prediction(**{**figures, "strategy": strategy, "notes": tuple(plan.why), "context_tokens": context})

    def _costs(self, problem: Problem, plan: Plan) -> dict[str, object]:
        from exo_lab.planning.cost import Costs
        from exo_lab.planning.origins import coefficient_rows

        places = [problem.device(device) for device in plan.devices]
        costs = Costs(msgspec.structs.replace(problem, chunk=plan.chunk), places)
        cuts = [shard.start for shard in plan.shards] + [plan.n_layers]
        made = costs.predict(range(len(places)), cuts, [plan.wire_out_of(stage) for stage in range(len(places) - 1)])
        devices = tuple(
            DevicePrediction(
                device=device.id,
                layers=len(shard),
                memory_needed_bytes=needed,
                memory_available_bytes=problem.room_bytes(device),
                stage_s=stage_s,
            )
            for device, shard, needed, stage_s in zip(places, plan.shards, made.memory_bytes, made.stage_s, strict=True)
        )
        rows = coefficient_rows(costs, plan, {device: device for device in plan.devices})
        return {
            "devices": devices,
            "tokens_per_s": made.tokens_per_s,
            "ttft_s": made.ttft_s,
            "prompt_tokens": problem.prompt_tokens,
            "origin": ", ".join(sorted({row[-1] for row in rows})),
        }

    def _named(self, error: ExoError) -> str:
        """The error's text with nodes by name."""
        return Roster(node.device for node in self.cluster.nodes()).named(str(error))


def _used(change: PlanChange) -> list[tuple[str, int]]:
    """Devices that get layers, with their counts; all with 0 where a strategy decides."""
    if change.layers is None:
        return [(device, 0) for device in change.devices]
    if len(change.layers) != len(change.devices):
        raise ConfigError(
            f"{len(change.layers)} layer counts for {len(change.devices)} devices; one for each is needed"
        )
    return [(device, count) for device, count in zip(change.devices, change.layers, strict=True) if count]


def _memory_only(problem: Problem, plan: Plan) -> dict[str, object]:
    """What is known without a cost model."""
    return {
        "devices": tuple(
            DevicePrediction(
                device=device.id,
                layers=len(shard),
                memory_needed_bytes=problem.shard_memory_bytes(device, shard.start, shard.end),
                memory_available_bytes=problem.room_bytes(device),
            )
            for device, shard in zip(map(problem.device, plan.devices), plan.shards, strict=True)
        )
    }


class Current:
    """This kernel's cluster for the panel: one view for as long as it is the same cluster."""

    def __init__(self, find: Callable[[], Cluster | None]) -> None:
        self._find = find
        self._view: ClusterView | None = None

    def __call__(self) -> ClusterView | None:
        """The view; None while the kernel is no node."""
        cluster = self._find()
        if cluster is None:
            self._view = None
        elif self._view is None or self._view.cluster is not cluster:
            self._view = ClusterView(cluster)
        return self._view
