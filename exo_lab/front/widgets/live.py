"""Live views in a cell's output: devices and links, placement that can be tuned, the running answer.

In JupyterLab with our extension the output is live for as long as the kernel is: it speaks with the kernel over the
panel's comm and holds no state of its own. Anywhere else (GitHub, nbviewer, VS Code, a terminal) the same output shows
the moment at which it was made, as HTML or text, and says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from exo_lab.front.html import block, line
from exo_lab.front.panel_cluster import ClusterView
from exo_lab.front.panel_messages import VIEW_MIME, OutputView, StatusEvent
from exo_lab.front.picture import picture
from exo_lab.front.topology_view import TopologyView
from exo_lab.front.view import View
from exo_lab.front.views import PlanView, StatusView
from exo_lab.front.widgets.place import NO_EXTENSION, STILL, Place, place

if TYPE_CHECKING:
    from exo_lab.cluster import Cluster
    from exo_lab.core.status import ClusterStatus

Kind = Literal["topology", "placement", "generation"]


class LiveView(View):
    """What `topology`, `placement` and `answer` return: shows itself in a cell."""

    def __init__(self, kind: Kind, cluster: Cluster) -> None:
        view = ClusterView(cluster)
        status = view.status()
        self.kind: Kind = kind
        self.snapshot = StatusEvent(status=status, links=view.links(), strategies=view.strategies)
        self._where: Place = place()
        self._still = _still(kind, cluster, status)

    def html(self) -> str:
        """The picture, and that it is one."""
        remark = STILL["jupyter" if self._where == "terminal" else self._where]
        return block(line(remark, faint=True)) + self._still.html()

    def text(self) -> str:
        """The same in lines."""
        return self._still.text()

    def bundle(self) -> dict[str, Any]:
        """For our extension, and the picture for everybody else; the picture alone where no extension can be."""
        still = {"text/html": self.html(), "text/plain": self.text()}
        if self._where in NO_EXTENSION:
            return still
        output = OutputView(view=self.kind, snapshot=self.snapshot)
        live = msgspec.json.decode(msgspec.json.encode(output))
        return {VIEW_MIME: live, **still}


def _still(kind: Kind, cluster: Cluster, status: ClusterStatus) -> View:
    """The picture of this moment."""
    match kind:
        case "topology":
            return TopologyView(picture(status.nodes, cluster.topology(), status.models))
        case "placement" if status.models:
            return PlanView.of_loaded(status.models[0], [node.device for node in status.nodes])
        case _:
            return StatusView(status)


def topology(cluster: Cluster | None = None) -> LiveView:
    """Devices, links, and the token on its way round the ring. Of this kernel's cluster if none is given.

    Raises:
        NotConnected: this kernel is no node.
    """
    return LiveView("topology", cluster or _current())


def placement(cluster: Cluster | None = None) -> LiveView:
    """The layers of the loaded model, with boundaries that can be moved.

    Raises:
        NotConnected: this kernel is no node.
    """
    return LiveView("placement", cluster or _current())


def answer(cluster: Cluster | None = None) -> LiveView:
    """The running or last answer, each token tinted by its probability, with Stop.

    Raises:
        NotConnected: this kernel is no node.
    """
    return LiveView("generation", cluster or _current())


def _current() -> Cluster:
    from exo_lab.cluster import require

    return require()
