"""A few lines of text as a view: answers of verbs that have nothing to draw, and help."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.front import html
from exo_lab.front.text import clean, clean_block, table
from exo_lab.front.view import View

if TYPE_CHECKING:
    from collections.abc import Sequence


class MessageView(View):
    """Lines; those in `warnings` must not be overlooked."""

    def __init__(self, *lines: str, warnings: Sequence[str] = ()) -> None:
        self.lines, self.warnings = tuple(map(clean, lines)), tuple(map(clean, warnings))

    def html(self) -> str:
        """A line each."""
        return html.block(*map(html.line, self.lines), *map(html.notice, self.warnings))

    def text(self) -> str:
        """A line each."""
        return "\n".join([*self.lines, *(f"! {warning}" for warning in self.warnings)])


class HelpView(View):
    """Help, as argparse lays it out."""

    def __init__(self, text: str) -> None:
        self._text = clean_block(text)

    def html(self) -> str:
        """In a fixed-width font."""
        return f'<pre style="white-space:pre-wrap;color:{html.INK}">{html.esc(self._text)}</pre>'

    def text(self) -> str:
        """As it is."""
        return self._text


class TableView(View):
    """A table of texts with a caption."""

    def __init__(
        self, caption: str, header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()
    ) -> None:
        self.caption, self.header, self.right = clean(caption), tuple(header), tuple(right)
        self.rows = [tuple(map(clean, row)) for row in rows]

    def html(self) -> str:
        """An HTML table."""
        rows = [tuple(map(html.esc, row)) for row in self.rows]
        return html.block(html.grid(self.caption, self.header, rows, self.right))

    def text(self) -> str:
        """Aligned columns."""
        return "\n".join([self.caption, *table(self.header, self.rows, self.right)])
