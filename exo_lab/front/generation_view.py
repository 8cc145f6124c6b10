"""An answer, finished or in the making: its text, its figures, and the plan that it runs on. Pure.

Only measured figures are shown; one that is not known yet is left out.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from exo_lab.front import html
from exo_lab.front.roster import Roster
from exo_lab.front.strip import strip_svg, strip_text
from exo_lab.front.svg import swatch
from exo_lab.front.text import clean, clean_block, clean_name
from exo_lab.front.units import show_count, show_rate, show_seconds
from exo_lab.front.view import View

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exo_lab.core.device import Device
    from exo_lab.core.model import ModelConfig
    from exo_lab.core.status import GenerationStats, TokenEvent

State = Literal["running", "stop", "length", "cancelled", "interrupted", "error"]
STATES: dict[State, str] = {
    "running": "running",
    "stop": "finished",
    "length": "stopped at max_tokens",
    "cancelled": "cancelled",
    "interrupted": "interrupted",
    "error": "failed",
}
TOKENS_LISTED = 256  # in the table of alternatives
TOKENS_TINTED = 1500  # a longer answer is one piece of text


class GenerationView(View):
    """A generation at one moment.

    Args:
        text: the answer so far.
        stats: its figures so far.
        devices: those that are known, for names and colours.
        config: the model, for sizes in the strip's tooltips.
        tokens: with alternatives, to be listed below the answer; few figures if empty.
        state: overrides what the statistics say ("interrupted").
        error: what went wrong, if anything did.
        warnings: of the cluster, said below the answer.
        metadata: of the output that shows it.
    """

    def __init__(
        self,
        text: str,
        stats: GenerationStats,
        devices: Sequence[Device] = (),
        *,
        config: ModelConfig | None = None,
        tokens: Sequence[TokenEvent] = (),
        state: State | None = None,
        error: str = "",
        warnings: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.answer, self.stats, self.config, self.tokens = text, stats, config, tuple(tokens)
        self.state: State = state or stats.finish or "running"
        self.roster = Roster(devices, stats.plan.devices)
        self.warnings = tuple(map(clean, warnings))
        self._metadata = dict(metadata or {})
        self.error = clean(self.roster.named(error))

    def metadata(self) -> dict[str, Any]:
        """See `View`."""
        return self._metadata

    @property
    def running(self) -> bool:
        """Is more to come?"""
        return self.state == "running"

    def html(self) -> str:
        """Text, figures, strip; what was computed where once it is over."""
        return html.block(self._answer_html(), self._plan_html())

    def text(self) -> str:
        """The same in lines."""
        return "\n".join([clean_block(self.answer), *self.remarks(), *strip_text(self.stats.plan, self.roster)])

    def remarks(self) -> list[str]:
        """What is said about the answer: what happened on the way, and its figures."""
        ending = [f"! {self._ending()}"] if self._ending() else []
        notices = [f"! {clean(remark)}" for remark in self.stats.notices]
        return [*notices, *ending, f"[{figures(self.stats, self.state)}]", *(f"! {one}" for one in self.warnings)]

    def _answer_html(self) -> str:
        waiting = self.running and not self.answer
        shown = "waiting for the first token …" if waiting else clean_block(self.answer)
        style = "white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:isolate;margin:2px 0 6px 0;font-size:14px"
        cursor = '<span aria-hidden="true">▍</span>' if self.running and not waiting else ""
        text = html.esc(shown) if waiting else self._tinted() or html.esc(shown)
        return (
            f'<div dir="auto" style="{style}{";" + html.FAINT if waiting else ""}">{text}{cursor}</div>'
            + "".join(html.notice(clean(remark)) for remark in self.stats.notices)
            + (html.notice(self._ending()) if self._ending() else "")
            + html.line(figures(self.stats, self.state), faint=True)
            + "".join(map(html.notice, self.warnings))
        )

    def _tinted(self) -> str:
        """The answer token by token, if alternatives were asked for: tinted by doubt, with them in the tooltip.

        Empty where that is not so, where it would be too long, or where the pieces are not the answer.
        """
        pieces = self.tokens
        if self.running or not any(event.alternatives for event in pieces) or len(pieces) > TOKENS_TINTED:
            return ""  # drawn ten times a second while it runs, it would be heavy; the panel does it live
        if "".join(event.text for event in pieces) != self.answer:
            return ""
        return "".join(_span(event) for event in pieces if event.text)

    def _plan_html(self) -> str:
        strip = strip_svg(self.stats.plan, self.roster, self.config, detail=not self.running)
        return strip if self.running else strip + self._stages_html() + self._alternatives_html()

    def _ending(self) -> str:
        if self.state in ("interrupted", "cancelled"):
            return f"{STATES[self.state]}: stopped on every node, what had come is kept"
        return f"failed: {self.error}" if self.state == "error" else ""

    def _stages_html(self) -> str:
        spent = dict(self.stats.stage_compute_s)
        if not spent:
            return ""
        rows = [
            (
                swatch(entry.mark, emulated=bool(entry.emulated)),
                html.esc(entry.name) + (" " + html.badge(f"emulated: {entry.emulated}") if entry.emulated else ""),
                show_seconds(spent[device]),
                f"{spent[device] / self.stats.total_s:.0%}" if self.stats.total_s > 0 else "",
            )
            for device, entry in ((device, self.roster[device]) for device in self.stats.plan.devices)
            if device in spent
        ]
        grid = html.grid("", ("#", "node", "computing", "of the whole time"), rows, ("computing", "of the whole time"))
        return _details("Where the time went (measured)", grid)

    def _alternatives_html(self) -> str:
        listed = [event for event in self.tokens if event.alternatives][:TOKENS_LISTED]
        if not listed:
            return ""
        rows = [
            (
                str(event.index),
                _token(event.text),
                f"{math.exp(event.logprob):.1%}",
                " &nbsp; ".join(f"{_token(text)} {math.exp(logprob):.1%}" for text, logprob in event.alternatives),
            )
            for event in listed
        ]
        grid = html.grid("", ("token", "text", "probability", "most likely"), rows, ("token", "probability"))
        return _details("Token by token", grid)


def figures(stats: GenerationStats, state: State) -> str:
    """Tokens, speed and the time to the first token, in one line."""
    parts = [STATES[state], clean_name(stats.model), show_count(stats.tokens, "token")]
    if stats.tokens_per_s is not None:
        parts.append(show_rate(stats.tokens_per_s))
    if stats.ttft_s is not None:
        prompt = show_count(stats.prompt_tokens, "prompt token")
        if stats.prompt_tokens_reused:
            prompt = f"{stats.prompt_tokens_reused:,} of {prompt} from the cache"
        parts.append(f"first token after {show_seconds(stats.ttft_s)} ({prompt})")
    if state != "running":
        parts.append(f"{show_seconds(stats.total_s)} in all")
    return " · ".join(parts)


def _token(text: str) -> str:
    """A token's text in a table."""
    shown = _visible(text)
    return f"<code>{html.esc(shown)}</code>" if shown else "<i>(none)</i>"


def _span(event: TokenEvent) -> str:
    """One token as the panel draws it: the less likely, the stronger the tint; dotted below it under one half."""
    chance = math.exp(min(0.0, event.logprob))
    style = f"background:rgba(213,94,0,{0.45 * (1 - chance):.2f})"
    style += ";border-bottom:1px dotted currentColor" if chance < 0.5 else ""
    others = [f"{_visible(text)} {math.exp(logprob):.1%}" for text, logprob in event.alternatives]
    tip = "\n".join([f"probability {chance:.1%}", *others])
    return f'<span style="{style}" title="{html.esc(tip)}">{html.esc(clean_block(event.text))}</span>'


def _visible(text: str) -> str:
    """A token's text with its white space made visible."""
    return clean_block(text).replace("\n", "⏎").replace("\t", "⇥").replace(" ", "·")


def _details(summary: str, inner: str) -> str:
    return f'<details style="margin:2px 0"><summary>{html.esc(summary)}</summary>{inner}</details>'
