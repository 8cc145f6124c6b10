"""What every view is: something that shows itself as HTML in a notebook and as text anywhere else."""

from __future__ import annotations

from typing import Any


class View:
    """A frozen picture. Subclasses say what it looks like; nothing here talks to a cluster."""

    def html(self) -> str:
        """For notebooks: inline styles only, no scripts, no ids."""
        raise NotImplementedError

    def text(self) -> str:
        """For terminals, and for readers that drop HTML."""
        raise NotImplementedError

    def renderable(self) -> Any:
        """For terminals with colours: something that rich prints instead of the text; None if the text is all."""
        return None

    def metadata(self) -> dict[str, Any]:
        """Of the output that shows it."""
        return {}

    def bundle(self) -> dict[str, Any]:
        """Both, by MIME type."""
        return {"text/plain": self.text(), "text/html": self.html()}

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return self.bundle()

    def __repr__(self) -> str:
        return self.text()
