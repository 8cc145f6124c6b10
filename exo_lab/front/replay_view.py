"""A recorded run beside the same one again: tokens, what they ran on, and how long it took. Pure."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from exo_lab.front import html
from exo_lab.front.text import clean, clean_name, table
from exo_lab.front.units import show_count, show_layers, show_rate, show_seconds
from exo_lab.front.view import View

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.core.record import Replayed, RunRecord

RAN_ON = "What it ran on (≠: differs)"
TIMES = "Timings"
EMULATED = " (emulated: "
MEASURED = ("", "measured then", "measured now")
AROUND = 4  # tokens that are shown before and after the first difference
Row = tuple[str, str, str]


class ReplayView(View):
    """What differs between a run and its replay."""

    def __init__(self, runs: Replayed) -> None:
        self.runs = runs

    def title(self) -> str:
        """Whether the tokens are the same ones."""
        then, now, at = self.runs.then, self.runs.now, self.runs.first_difference
        if at is None:
            return f"The same {show_count(len(now.tokens), 'token')} as then"
        counts = f"{show_count(len(then.tokens), 'token')} then, {len(now.tokens)} now"
        return f"The tokens differ from number {at + 1} on ({counts})"

    def difference(self) -> list[str]:
        """The text around the first difference; nothing if there is none."""
        at = self.runs.first_difference
        if at is None:
            return []
        return [f"{word}: … {_around(run, at)} …" for word, run in (("then", self.runs.then), ("now", self.runs.now))]

    def facts(self) -> list[Row]:
        """What it ran on: (what, then, now)."""
        then, now = _facts(self.runs.then), _facts(self.runs.now)
        names = [*then, *(name for name in now if name not in then)]
        rows = [(name, then.get(name, "–"), now.get(name, "–")) for name in names]  # noqa: RUF001 - a dash is meant
        return [(name if a == b or name == "sent" else f"≠ {name}", a, b) for name, a, b in rows]

    def times(self) -> list[Row]:
        """How long it took: (what, then, now)."""
        then, now = _times(self.runs.then), _times(self.runs.now)
        return [(name, then[name], now[name]) for name in then]

    def notices(self) -> list[str]:
        """What happened on the way, this time."""
        return [clean(one) for one in self.runs.now.notices]

    def html(self) -> str:
        """Two tables."""
        facts = [tuple(map(_cell, row)) for row in self.facts()]
        times = [tuple(map(html.esc, row)) for row in self.times()]
        return html.block(
            html.line(self.title(), bold=True),
            *map(html.notice, (*self.difference(), *self.notices())),
            html.grid(RAN_ON, ("what", "then", "now"), facts),
            html.grid(TIMES, ("what", *MEASURED[1:]), times, MEASURED[1:]),
        )

    def text(self) -> str:
        """The same in lines."""
        return "\n".join(
            [
                self.title(),
                *(f"! {one}" for one in (*self.difference(), *self.notices())),
                "",
                RAN_ON,
                *table(("what", "then", "now"), self.facts()),
                "",
                TIMES,
                *table(("what", *MEASURED[1:]), self.times(), MEASURED[1:]),
            ]
        )


def _cell(text: str) -> str:
    """What is emulated stands below the rest, or two columns would be too wide for a page."""
    first, mark, rest = text.partition(EMULATED)
    return html.stacked(first, f"{mark.lstrip()}{rest}")


def _facts(run: RunRecord) -> dict[str, str]:
    names = {device.id: device for device in run.devices}
    plan = run.plan
    sent = datetime.datetime.fromtimestamp(run.made_at_s, datetime.UTC) if run.made_at_s < 1e11 else None
    found = {
        "sent": "?" if sent is None else f"{sent:%Y-%m-%d %H:%M:%S} UTC",
        "model": f"{clean_name(plan.model)} ({clean(run.digest[:12])})",
        "seed, temperature": f"{run.sampling.seed}, {run.sampling.temperature:g}",
        "weights as": f"{clean_name(plan.dtype)}, engine {clean_name(plan.engine)}",
        "rounded on the way": ", ".join(f"{one.dtype} before layer {one.layer}" for one in plan.roundings) or "nowhere",
        "pieces of a prompt": show_count(plan.chunk, "token"),
        "strategy": clean_name(plan.strategy),
    }
    for index, (id_, shard) in enumerate(zip(plan.devices, plan.shards, strict=True)):
        device = names.get(id_)
        name = clean_name(device.name if device else id_)
        emulated = f"{EMULATED}{clean(device.emulated)})" if device and device.emulated else ""
        chip = f", {clean_name(device.chip)}" if device and device.chip else ""
        found[f"stage {index}"] = f"{name}, layers {show_layers(shard.start, shard.end)}{chip}{emulated}"
    return {**found, **{clean_name(name): clean_name(version) for name, version in sorted(run.versions.items())}}


def _times(run: RunRecord) -> dict[str, str]:
    decoded = [one for one in run.tokens[1:] if one.timings]
    compute = [sum(timing.compute_s for timing in one.timings) for one in decoded]
    return {
        "first token after": "" if run.ttft_s is None else show_seconds(run.ttft_s),
        "prompt tokens from the cache": str(run.prompt_tokens_reused),
        "tokens a second": "" if run.tokens_per_s is None else show_rate(run.tokens_per_s),
        "computing of a token, all stages": show_seconds(sum(compute) / len(compute)) if compute else "",
        "in all": show_seconds(run.total_s),
    }


def _around(run: RunRecord, at: int) -> str:
    tokens: Sequence = run.tokens[max(0, at - AROUND) : at + AROUND]
    return clean("".join(one.text for one in tokens), 200) or "(the end)"
