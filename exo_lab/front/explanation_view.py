"""What a plan is predicted to do and why it is as it is, as pieces of a plan's view. Pure.

Every figure here is a prediction and says so; where its numbers come from is told with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.front import html
from exo_lab.front.text import clean, table
from exo_lab.front.units import show_count, show_seconds

if TYPE_CHECKING:
    from exo_lab.planning.explain import Explanation, Table

ORIGINS = ("measured", "chip table", "assumed")


def predicted(explanation: Explanation) -> str:
    """One line: "190 tokens/s, first token after 0.42 s (measured, assumed)"."""
    prediction = explanation.prediction
    parts = [
        f"{prediction.tokens_per_s:.3g} tokens/s for one request",
        f"up to {prediction.throughput_per_s:.3g} for {show_count(prediction.sessions_to_fill, 'request')} at once",
        f"first token of a prompt of {explanation.prompt_tokens} after {show_seconds(prediction.ttft_s)}",
    ]
    return clean(f"{', '.join(parts)}; from {' and '.join(origins(explanation))} figures")


def origins(explanation: Explanation) -> tuple[str, ...]:
    """Where the numbers come from, the best first."""
    there = {row[-1] for one in explanation.tables if one.title == "coefficients" for row in one.rows}
    return tuple(origin for origin in ORIGINS if origin in there) + tuple(sorted(there - {*ORIGINS}))


def explanation_html(explanation: Explanation, *, in_full: bool) -> str:
    """The prediction; in full also reasons and tables."""
    line = f'<div style="margin:4px 0">{html.badge("predicted")} {html.esc(predicted(explanation))}</div>'
    if not in_full:
        return line
    grids = [
        html.grid(one.title, one.header, [[html.esc(clean(cell)) for cell in row] for row in one.rows])
        for one in _told(explanation)
    ]
    return "".join([line, html.bullets(_reasons(explanation)), *grids])


def explanation_text(explanation: Explanation, *, in_full: bool) -> list[str]:
    """The same in lines."""
    lines = [f"predicted: {predicted(explanation)}"]
    if in_full:
        lines += [f"- {text}" for text in _reasons(explanation)]
        for one in _told(explanation):
            lines += ["", f"{one.title} (predicted)", *table(one.header, [[clean(c) for c in row] for row in one.rows])]
    return lines


def _reasons(explanation: Explanation) -> list[str]:
    """The plan as a whole, each stage, hops; what was rejected has a table of its own."""
    stages = (stage.why for stage in explanation.stages)
    return [clean(text) for text in (explanation.summary, *stages, *explanation.exact_hops)]


def _told(explanation: Explanation) -> list[Table]:
    return [one for one in explanation.tables if one.rows]
