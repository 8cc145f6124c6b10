"""What the doctor found, step by step: what was seen, and what to do. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.front import html
from exo_lab.front.text import clean
from exo_lab.front.units import show_count
from exo_lab.front.view import View

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.node.doctor import Finding

# Words and signs, so that nothing depends on colour.
SIGNS = {"ok": "ok", "warn": "look", "fail": "WRONG"}


class DoctorView(View):
    """Findings, in the order in which a connection comes about."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)

    def title(self) -> str:
        """How many steps are well, and how many are not."""
        wrong = sum(one.verdict == "fail" for one in self.findings)
        look = sum(one.verdict == "warn" for one in self.findings)
        if not wrong and not look:
            return "Everything that nodes need to find each other is in order."
        if not wrong:
            return f"Nothing is wrong; {show_count(look, 'step')} worth a look:"
        return f"{show_count(wrong, 'step')} wrong, {look} worth a look:"

    def html(self) -> str:
        """A table; what to do is under what was seen."""
        rows = [
            (html.esc(SIGNS[one.verdict]), html.esc(clean(one.step)), _wrapped(clean(one.seen), clean(one.do)))
            for one in self.findings
        ]
        return html.block(html.line(self.title(), bold=True), html.grid("", ("verdict", "step", "seen"), rows))

    def text(self) -> str:
        """A line a step; what to do is under what was seen."""
        lines = [self.title()]
        for one in self.findings:
            lines.append(f"{SIGNS[one.verdict]:<6} {clean(one.step):<11} {clean(one.seen)}")
            if one.do:
                lines.append(f"{'':<18} -> {clean(one.do)}")
        return "\n".join(lines)


def _wrapped(seen: str, do: str) -> str:
    """Long sentences, which break instead of widening the table."""
    remedy = f"<br><b>&rarr; {html.esc(do)}</b>" if do else ""
    return f'<span style="white-space:normal">{html.esc(seen)}{remedy}</span>'
