"""Sizing advice to look at: what fits, the rules of thumb, what one more device buys, and the plan. Pure.

Everything about speed in it is predicted, and says so.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from exo_lab.front import html
from exo_lab.front.plan_view import PlanView
from exo_lab.front.text import clean, clean_name, table
from exo_lab.front.units import show_bytes, show_count, show_rate, show_seconds
from exo_lab.front.view import View

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.core.topology import Link
    from exo_lab.planning.sizing import Choice, OneMore, Sizing

HEADER = (
    *("weights as", "size", "needed", "fits", "longest context", "tokens/s (predicted)", "first token (predicted)"),
    "devices used",
)
MANY, REASONS = 24, 2  # devices, and sentences about a plan of more than those
RIGHT = ("size", "needed", "longest context", "tokens/s (predicted)", "first token (predicted)", "devices used")


class FitView(View):
    """See the module.

    Args:
        sizing: the advice.
        on_paper: the devices were described, and are no cluster's.
        remark: about the scenario that was asked for.
        links: those of the devices.
    """

    def __init__(self, sizing: Sizing, *, on_paper: bool = False, remark: str = "", links: Sequence[Link] = ()) -> None:
        self.sizing, self.on_paper, self.remark, self.links = sizing, on_paper, remark, tuple(links)

    @property
    def shown(self) -> Choice:
        """The finest that fits, or the coarsest."""
        return self.sizing.choices[-1 if self.sizing.best is None else self.sizing.best]

    def title(self) -> str:
        """Such as "Llama 3.1 8B fits on 4 devices: as Q8_0, with 4096 tokens of context"."""
        sizing, shown = self.sizing, self.shown
        where = show_count(len(sizing.devices), "device") + (" on paper" if self.on_paper else "")
        name = clean_name(shown.config.name)
        if sizing.best is None:
            return f"{name} does not fit on {where} with {sizing.context_tokens} tokens of context"
        return f"{name} fits on {where}: as {_kind(shown)}, with {sizing.context_tokens} tokens of context"

    def facts(self) -> str:
        """Memory, and what is not known."""
        sizing = self.sizing
        free = "described; what else runs on them is not known" if self.on_paper else "free now"
        return clean(
            f"{show_bytes(sizing.memory_bytes)} of memory, {free} · model made for {self.shown.config.context_length} "
            f"tokens · loads nothing"
        )

    def warnings(self) -> list[str]:
        """What must not be overlooked."""
        shown, forced = self.shown, "Forced: it does not fit, and loading it will fail or swap."
        found = [f"{rule.name}: {clean(rule.text)}" for rule in self.sizing.rules if not rule.kept]
        if self.sizing.best is None:
            found.insert(0, forced if shown.plan is not None else clean(shown.short))
        return found

    def remarks(self) -> list[str]:
        """Rules that are kept, and what one more device would buy."""
        kept = [f"{rule.name} (kept): {clean(rule.text)}" for rule in self.sizing.rules if rule.kept]
        return kept + [clean(self._one_more(one)) for one in self.sizing.more]

    def html(self) -> str:
        """Table, warnings, remarks, plan."""
        rows = [tuple(map(html.esc, self._row(choice))) for choice in self.sizing.choices]
        return html.block(
            html.line(self.title(), bold=True),
            html.line(self.facts(), faint=True),
            html.notice(self.remark) if self.remark else "",
            html.grid("", HEADER, rows, RIGHT),
            *map(html.notice, self.warnings()),
            html.bullets(self.remarks()),
            self._plan().html() if self.shown.plan is not None else "",
        )

    def text(self) -> str:
        """The same in lines."""
        rows = [self._row(choice) for choice in self.sizing.choices]
        return "\n".join(
            [
                self.title(),
                self.facts(),
                *([f"! {self.remark}"] if self.remark else []),
                *table(HEADER, rows, RIGHT),
                *(f"! {warning}" for warning in self.warnings()),
                *(f"- {remark}" for remark in self.remarks()),
                *([self._plan().text()] if self.shown.plan is not None else []),
            ]
        )

    def _plan(self) -> PlanView:
        """The plan; of many devices only those that it uses."""
        shown, devices = self.shown, self.sizing.devices
        assert shown.plan is not None
        plan = shown.plan
        if len(devices) > MANY:
            devices = tuple(device for device in devices if device.id in plan.devices)
            why = (
                *plan.why[:REASONS],
                f"{show_count(len(self.sizing.devices) - len(devices), 'device')} more are left out",
            )
            plan = msgspec.structs.replace(plan, why=why)
        return PlanView(shown.config, plan, devices, self.links)

    def _row(self, choice: Choice) -> tuple[str, ...]:
        made = choice.prediction
        fits = "yes" if choice.fits else "no, forced" if choice.plan is not None else "no"
        return (
            _kind(choice),
            show_bytes(choice.config.total_bytes),
            show_bytes(choice.needed_bytes),
            fits,
            f"{choice.most_context:,}" if choice.most_context else "",
            f"{made.tokens_per_s:.3g}" if made is not None else "",
            show_seconds(made.ttft_s) if made is not None else "",
            str(len(choice.plan.devices)) if choice.plan is not None else "",
        )

    def _one_more(self, one: OneMore) -> str:
        device = one.device
        name = re.sub(r" #\d+$", "", clean_name(device.name))
        what = f"One more like {name} ({show_bytes(device.memory_bytes)})"
        if one.best is None:
            return f"{what} would not make it fit either."
        before = None if self.sizing.best is None else self.sizing.choices[self.sizing.best]
        if before is None or one.same is None:
            return f"{what} would make it fit, as {_kind(one.best)}{_speed(one.best)}."
        gains: list[str] = []
        if one.best.config != before.config:
            gains.append(f"{_kind(one.best)} fits instead of {_kind(before)}")
        if one.same.most_context > before.most_context:
            gains.append(
                f"{_kind(before)} takes up to {one.same.most_context:,} tokens of context instead of "
                f"{before.most_context:,}"
            )
        if before.prediction is not None and one.same.prediction is not None:
            was, will = before.prediction.tokens_per_s, one.same.prediction.tokens_per_s
            if will > was * 1.01:
                gains.append(f"{_kind(before)} makes {show_rate(will)} instead of {show_rate(was)} (predicted)")
        return f"{what} buys: {'; '.join(gains)}." if gains else f"{what} buys nothing for this model."


def _kind(choice: Choice) -> str:
    return clean(choice.config.quantisation, 40) or "stored"


def _speed(choice: Choice) -> str:
    return "" if choice.prediction is None else f", {show_rate(choice.prediction.tokens_per_s)} (predicted)"
