"""Text that is shown as it is: JSON for programs, a file that was written. Pure."""

from __future__ import annotations

from exo_lab.front import html
from exo_lab.front.view import View


class TextView(View):
    """Lines in a fixed-width font."""

    def __init__(self, content: str) -> None:
        self.content = content

    def html(self) -> str:
        """Preformatted."""
        return f'<pre style="color:{html.INK};margin:0">{html.esc(self.content)}</pre>'

    def text(self) -> str:
        """The lines."""
        return self.content
