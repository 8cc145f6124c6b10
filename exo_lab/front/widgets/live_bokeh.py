"""A Bokeh layout as a widget to which a page can come late: after a reload, or in a second tab. It knows no charts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bokeh.core.json_encoder import serialize_json
from bokeh.protocol import Protocol
from jupyter_bokeh.widgets import BokehModel

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


class LiveBokeh(BokehModel):
    """`BokehModel`, but a page that asks for its state gets the layout as it is now, and not as it was at first.

    Changes since then are only told to pages that are there: what they speak of would be unknown in a later one.

    Args:
        layout: what is shown.
        lock: held by whoever changes the layout; reentrant.
    """

    def __init__(self, layout: Any, lock: AbstractContextManager[Any]) -> None:
        self._lock = lock
        super().__init__(layout)

    def _document_patched(self, event: Any) -> None:
        """Tell pages of a change, in three messages that are alike.

        BokehJS takes three for header, metadata and content, and counts from the first that it hears. If that is the
        second of a change, it takes one for the other ever after, and the charts stand still. Of the three only the
        content is used, and content serves as the others too.
        """
        if event.setter is self:
            return
        patch = Protocol().create("PATCH-DOC", [event])
        if patch.buffers:  # announced by the header, which is then needed
            super()._document_patched(event)
            return
        for _ in range(3):
            self.send({"msg": "patch", "payload": patch.content_json})

    def _sync_model(self, _model: Any, content: dict[str, Any], _buffers: list[Any]) -> None:
        """What a page did. Of data it only repeats what it was given: taken back, each figure would be there twice."""
        if content.get("kind") != "ColumnsStreamed" and content.get("attr") != "data":
            super()._sync_model(self, content, _buffers)

    def get_state(self, key: Any = None, drop_defaults: bool = False) -> dict[str, Any]:
        """The widget's state; of the whole of it, which only a new page asks for, the layout is made anew."""
        state = super().get_state(key, drop_defaults)
        if key is None:
            with self._lock:
                state["render_bundle"] = serialize_json(self._model_to_traits(self._model))
        return state
