"""`heatmap()`: where an answer's time went, in a cell. Live in JupyterLab with our extension, a picture anywhere else.

The front end draws it from the tokens that it gets anyway: pausing and saving it need nothing of the kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from exo_lab.front.html import block, line
from exo_lab.front.panel_cluster import ClusterView
from exo_lab.front.panel_messages import VIEW_MIME, OutputView, PastAnswer, StatusEvent
from exo_lab.front.widgets.heat_view import HeatView
from exo_lab.front.widgets.place import NO_EXTENSION, STILL, Place, place

if TYPE_CHECKING:
    from exo_lab.cluster import Cluster
    from exo_lab.generation import Generation

KEPT = 1024  # tokens in an output; the CSV that the kernel writes has them all


class LiveHeat(HeatView):
    """A heatmap that shows itself live where our extension is.

    Args:
        generation: the answer; it may still be running.
        cluster: this kernel's.
        last: only the latest so many tokens; all if None.
        follow: go on to later answers of this kernel.
    """

    def __init__(
        self, generation: Generation, cluster: Cluster, last: int | None = None, *, follow: bool = False
    ) -> None:
        view = ClusterView(cluster)
        status = view.status()
        tokens, stats = tuple(generation.tokens), generation.stats
        super().__init__(tokens, stats, [node.device for node in status.nodes], last)
        shown = tokens[-1 - min(KEPT, last or KEPT) :]  # the first one's time is not shown
        slim = tuple(msgspec.structs.replace(one, alternatives=()) for one in shown)
        self._output = OutputView(
            view="heatmap",
            snapshot=StatusEvent(status=status, links=view.links()),
            answer=PastAnswer(tokens=slim, stats=stats),
            follow=follow,
        )
        self._where: Place = place()

    def html(self) -> str:
        """The picture, and that it is one."""
        remark = STILL["jupyter" if self._where == "terminal" else self._where]
        return block(line(remark, faint=True)) + super().html()

    def bundle(self) -> dict[str, Any]:
        """For our extension, and the picture for everybody else; the picture alone where no extension can be."""
        still = {"text/html": self.html(), "text/plain": self.text()}
        if self._where in NO_EXTENSION:
            return still
        return {VIEW_MIME: msgspec.json.decode(msgspec.json.encode(self._output)), **still}


def heatmap(generation: Generation, last: int | None = None, *, follow: bool = False) -> HeatView:
    """Where the time of an answer went. It is not polled: what has arrived and was not taken is not shown.

    Args:
        generation: the answer; it may still be running.
        last: only the latest so many tokens.
        follow: go on to later answers of this kernel, where the view is live. Without a cluster it is a picture.
    """
    from exo_lab.cluster import current

    present = current()
    if present is None:
        return HeatView(generation.tokens, generation.stats, (), last)
    return LiveHeat(generation, present, last, follow=follow)
