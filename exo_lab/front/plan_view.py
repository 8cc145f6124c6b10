"""A plan: who would hold, or holds, which layers, and why. Pure: state in, HTML or text out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.front import html
from exo_lab.front.explanation_view import explanation_html, explanation_text
from exo_lab.front.nodes_view import show_shard
from exo_lab.front.ring_svg import ring_svg, ring_text
from exo_lab.front.roster import Roster
from exo_lab.front.strip import strip_svg, strip_text
from exo_lab.front.svg import swatch
from exo_lab.front.text import clean, clean_name, table
from exo_lab.front.units import show_bytes, show_count
from exo_lab.front.view import View

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.core.device import Device
    from exo_lab.core.model import ModelConfig
    from exo_lab.core.plan import Plan
    from exo_lab.core.status import LoadedModel, PlanPreview
    from exo_lab.core.topology import Link
    from exo_lab.planning.explain import Explanation

HEADER = ("#", "node", "stage", "layers", "weights in the file", "memory", "chip")
RIGHT = ("stage", "weights in the file", "memory")
KV_TOKENS = 1000


class PlanView(View):
    """A plan as a strip, a table of stages, a ring and its reasons.

    Args:
        config: the model.
        plan: who holds what.
        devices: those of the cluster, used or not.
        links: where measured hop latencies come from.
        loaded: is the plan in force, or only a proposal?
        explanation: what it is predicted to do, and why it is so.
        in_full: show all of that, not only the prediction.
    """

    def __init__(
        self,
        config: ModelConfig,
        plan: Plan,
        devices: Sequence[Device] = (),
        links: Sequence[Link] = (),
        *,
        loaded: bool = False,
        explanation: Explanation | None = None,
        in_full: bool = False,
    ) -> None:
        self.config, self.plan, self.devices, self.links = config, plan, tuple(devices), tuple(links)
        self.loaded, self.explanation, self.in_full = loaded, explanation, in_full
        self.roster = Roster(self.devices, plan.devices)

    @classmethod
    def of_preview(
        cls,
        preview: PlanPreview,
        links: Sequence[Link] = (),
        *,
        explanation: Explanation | None = None,
        in_full: bool = False,
    ) -> PlanView:
        """A plan that was made and not loaded."""
        plan = preview.plan
        return cls(preview.config, plan, preview.devices, links, explanation=explanation, in_full=in_full)

    @classmethod
    def of_loaded(cls, model: LoadedModel, devices: Sequence[Device], links: Sequence[Link] = ()) -> PlanView:
        """A plan that is in force."""
        return cls(model.config, model.plan, devices, links, loaded=True)

    @property
    def unused(self) -> tuple[Device, ...]:
        """Devices that hold nothing."""
        return tuple(device for device in self.devices if device.id not in self.plan.devices)

    def title(self) -> str:
        """Such as "smollm2-135m over 3 nodes: loaded"."""
        over = show_count(len(self.plan.devices), "node")
        state = "loaded" if self.loaded else "a proposal, nothing is loaded"
        return f"{clean_name(self.plan.model)} over {over}: {state}"

    def facts(self) -> str:
        """The model and how the plan was made, in one line."""
        config, plan = self.config, self.plan
        kv_bytes = config.kv_bytes_per_token_per_layer * config.n_layers * KV_TOKENS
        parts = [
            show_count(config.n_layers, "layer"),
            f"{show_bytes(config.total_bytes)} of weights"
            + (f" ({config.quantisation})" if config.quantisation else ""),
            f"KV cache {show_bytes(kv_bytes)} per {KV_TOKENS} tokens",
            f"strategy {plan.strategy}",
            f"dtype {plan.dtype}",
            f"engine {plan.engine}",
        ]
        return clean(" · ".join(parts + ([f"epoch {plan.epoch}"] if self.loaded else [])))

    def html(self) -> str:
        """Strip, table, ring, reasons."""
        return html.block(
            html.line(self.title(), bold=True),
            html.line(self.facts(), faint=True),
            strip_svg(self.plan, self.roster, self.config),
            html.grid("", HEADER, self._rows(html_cells=True), RIGHT),
            html.bullets([clean(sentence) for sentence in self.plan.why]),
            explanation_html(self.explanation, in_full=self.in_full) if self.explanation is not None else "",
            ring_svg(self.plan, self.roster, self.links),
        )

    def text(self) -> str:
        """The same in lines."""
        return "\n".join(
            [
                self.title(),
                self.facts(),
                *strip_text(self.plan, self.roster),
                *table(HEADER, self._rows(html_cells=False), RIGHT),
                f"ring: {ring_text(self.plan, self.roster, self.links)}",
                *(f"- {clean(sentence)}" for sentence in self.plan.why),
                *(explanation_text(self.explanation, in_full=self.in_full) if self.explanation is not None else []),
            ]
        )

    def _rows(self, *, html_cells: bool) -> list[tuple[str, ...]]:
        escape = html.esc if html_cells else str
        known = {device.id: device for device in self.devices}
        rows: list[tuple[str, ...]] = []
        for id_ in (*self.plan.devices, *(device.id for device in self.unused)):
            entry, device, stage = self.roster[id_], known.get(id_), self.plan.stage_of(id_)
            name = entry.name
            if html_cells:
                mark = swatch(entry.mark, emulated=bool(entry.emulated))
                name = f"<b>{html.esc(name)}</b>"
                name += " " + html.badge(f"emulated: {entry.emulated}") if entry.emulated else ""
            else:
                mark = entry.mark.symbol
                name += f" (emulated: {entry.emulated})" if entry.emulated else ""
            memory = show_bytes(device.memory_bytes) if device is not None and device.memory_bytes else ""
            chip = clean(device.chip, 40) if device is not None else ""
            if stage is None:
                rows.append((mark, name, "", "none", "", memory, escape(chip)))
                continue
            shard = self.plan.shards[stage]
            size = self.config.shard_bytes(shard.start, shard.end)
            layers = show_shard(shard.start, shard.end, shard.n_layers)
            rows.append((mark, name, str(stage), escape(layers), show_bytes(size), memory, escape(chip)))
        return rows
