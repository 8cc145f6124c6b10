"""Everything about a cluster at a glance: this node, the others, loaded models, what is wrong. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.front import html
from exo_lab.front.alert_words import warnings
from exo_lab.front.nodes_view import NodesView
from exo_lab.front.strip import strip_svg, strip_text
from exo_lab.front.text import clean, clean_name
from exo_lab.front.units import show_bytes, show_count
from exo_lab.front.view import View

if TYPE_CHECKING:
    from exo_lab.core.status import ClusterStatus, LoadedModel


class StatusView(View):
    """A `ClusterStatus` as a page."""

    def __init__(self, status: ClusterStatus) -> None:
        self.status = status
        self.nodes = NodesView(status.nodes, status.models)

    def title(self) -> str:
        """Which node this is; a command of the shell is none."""
        if not any(node.device.id == self.status.node_id for node in self.nodes.nodes):
            return "exo_lab: the cluster, as a command of the shell sees it"
        return f"exo_lab: this process is node {clean_name(self.status.name)} ({clean(self.status.node_id, 16)})"

    def facts(self) -> str:
        """Where it listens, what it is busy with."""
        bind = clean(self.status.bind, 60)
        reach = "this machine only" if bind.startswith("127.") or bind in ("localhost", "::1") else "other machines too"
        parts = [f"listens on {bind} ({reach})", f"{show_count(self.status.sessions, 'running session')} here"]
        if self.status.kept_bytes or self.status.reused_tokens:
            kept, reused = show_bytes(self.status.kept_bytes), show_count(self.status.reused_tokens, "token")
            parts.append(f"{kept} of earlier prompts kept, {reused} reused")
        return " · ".join(parts)

    def problems(self) -> list[str]:
        """What is wrong, and what to do: sentences of the node, and models that miss a node."""
        gone = [sentence for model in self.status.models if (sentence := self._missing(model))]
        return [*map(clean, self.status.problems), *gone, *warnings(self.status)]

    def _missing(self, model: LoadedModel) -> str:
        """A sentence about the plan's nodes that are not alive; empty if all are."""
        alive = {node.device.id for node in self.status.nodes if node.liveness == "alive"}
        away = [self.nodes.roster[device].name for device in model.plan.devices if device not in alive]
        if not away:
            return ""
        return (
            f"{clean_name(model.plan.model)} cannot be relied on: {', '.join(away)} should hold layers and is gone. "
            "%exo load cuts it anew."
        )

    def refused(self) -> str:
        """What was turned away, by reason; empty if nothing was."""
        counts = ", ".join(f"{clean(why, 60)}: {count}" for why, count in sorted(self.status.refused.items()) if count)
        return f"Turned away so far: {counts}." if counts else ""

    def html(self) -> str:
        """Title, warnings, nodes, models."""
        problems = "".join(html.notice(f"! {problem}") for problem in self.problems())
        models = "".join(
            html.line(_model_line(model), bold=True) + strip_svg(model.plan, self.nodes.roster, model.config)
            for model in self.status.models
        )
        return html.block(
            html.line(self.title(), bold=True),
            html.line(self.facts(), faint=True),
            problems,
            self.nodes.html(),
            models or html.line(NO_MODEL, faint=True),
            html.line(self.refused(), faint=True) if self.refused() else "",
        )

    def text(self) -> str:
        """The same in lines."""
        lines = [self.title(), self.facts(), *(f"! {problem}" for problem in self.problems()), ""]
        lines.append(self.nodes.text())
        for model in self.status.models:
            lines += ["", _model_line(model), *strip_text(model.plan, self.nodes.roster)]
        if not self.status.models:
            lines += ["", NO_MODEL]
        return "\n".join(lines + ([self.refused()] if self.refused() else []))


NO_MODEL = "No model is loaded. %exo load cuts one over the nodes."


def _model_line(model: LoadedModel) -> str:
    config, plan = model.config, model.plan
    kind = f" ({clean(config.quantisation, 20)})" if config.quantisation else ""
    return (
        f"{clean_name(plan.model)}: {show_count(config.n_layers, 'layer')}, {show_bytes(config.total_bytes)}{kind}, "
        f"cut by {clean(plan.strategy, 40)}, epoch {plan.epoch}"
    )
