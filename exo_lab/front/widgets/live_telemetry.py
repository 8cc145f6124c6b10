"""`telemetry()`: what the cluster does, over time, in a cell. Live with Bokeh in Jupyter, a picture anywhere else.

One a cluster: a new one takes over the history of the one before, whose output becomes a picture.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any
from uuid import uuid4
from weakref import WeakKeyDictionary

import msgspec

from exo_lab.front import html
from exo_lab.front.files import write_file
from exo_lab.front.panel_cluster import ClusterView
from exo_lab.front.panel_messages import CHARTS_MIME, LiveCharts
from exo_lab.front.roster import Roster
from exo_lab.front.view import View
from exo_lab.front.widgets.history import METRICS, History, Metric, with_rules
from exo_lab.front.widgets.place import STILL, Place, place
from exo_lab.front.widgets.sampler import EVERY_S, Sampler
from exo_lab.front.widgets.telemetry_view import TelemetryView

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from exo_lab.cluster import Cluster
    from exo_lab.core.device import Device
    from exo_lab.core.messages import Stats
    from exo_lab.front.widgets.charts import Charts
    from exo_lab.front.widgets.history import Moment

log = logging.getLogger(__name__)


class _Watched(ClusterView):
    """The cluster as the sampler needs it."""

    def counters(self) -> Mapping[str, Stats]:
        """What each node is busy with."""
        return self.cluster.counters()

    @property
    def closed(self) -> bool:
        """Has it been left?"""
        return self.cluster.closed


class Telemetry(View):
    """Watches a cluster until `close()`, until the cluster is left, or until the next one is made.

    Args:
        cluster: what is watched.
        every_s: seconds between two looks; 0.25 at least.
        metrics: what is drawn, with lines where this node has an alert.
        history: that of another one, to go on with.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        every_s: float = EVERY_S,
        metrics: Sequence[Metric] = METRICS,
        history: History | None = None,
    ) -> None:
        self.metrics = with_rules(metrics, cluster.watching.rules)
        self.history = history or History()
        self.paused = False
        self._cluster = cluster
        self._charts: Charts | None = None
        self._shown: Any = None  # the widget that is in an output
        self._display_id = f"exo-{uuid4().hex}"
        self._lock = threading.RLock()
        self._sampler = Sampler(_Watched(cluster), self.history, self._push, self._freeze, every_s=every_s)
        self._sampler.look()  # so that there is something to show at once
        self._sampler.start()

    # -- for people --------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Draw no more; what is measured meanwhile is drawn after `resume`."""
        self.paused = True

    def resume(self) -> None:
        """Go on drawing."""
        self.paused = False

    def csv(self, path: str | Path | None = None) -> str:
        """Everything that is remembered as CSV; also written to `path` if one is given."""
        text = self.history.csv(self.metrics)
        if path is not None:
            write_file(str(path), text)
        return text

    def close(self) -> None:
        """Watch no more; the output becomes a picture of what was measured. Idempotent."""
        self._sampler.stop()
        self._freeze()

    @property
    def running(self) -> bool:
        """Does it watch?"""
        return self._sampler.running

    # -- showing -----------------------------------------------------------------------------------------

    def html(self) -> str:
        """The charts of this moment."""
        return self._view().html()

    def text(self) -> str:
        """The figures of this moment."""
        return self._view().text()

    def bundle(self) -> dict[str, Any]:
        """A picture, and that it is one."""
        return self._still(place())

    def _ipython_display_(self) -> None:
        where = place()
        if where != "jupyter" or not self.running:
            _publish(self._still(where), self._display_id)
            return
        with self._lock:
            if self._shown is not None:  # shown again: the one before would be fed for ever
                _end(self._shown)
            widget, self._charts = self._draw()
            self._shown = widget
        _publish({**_charts_bundle(), **(widget._repr_mimebundle_() or {}), **self._still(where)}, self._display_id)

    def _draw(self) -> tuple[Any, Charts]:
        from exo_lab.front.widgets.charts import Charts
        from exo_lab.front.widgets.live_bokeh import LiveBokeh

        _load_bokeh()
        charts = Charts(self.history, self._roster(), self.metrics)
        return LiveBokeh(charts.layout, self._lock), charts

    def _push(self, now: Moment) -> None:
        """In the sampler's thread, which is the only one that writes once charts are shown."""
        if self.paused:
            return
        with self._lock:
            if self._charts is not None:
                self._charts.catch_up(self.history, self._roster())

    def _freeze(self) -> None:
        """What is in the output becomes a picture of what was measured."""
        with self._lock:
            shown, self._shown, self._charts = self._shown, None, None
        if shown is not None:
            _publish({"text/html": self.html(), "text/plain": self.text()}, self._display_id, update=True)
            _end(shown)

    def _still(self, where: Place) -> dict[str, Any]:
        view = self._view()
        remark = html.block(html.line(STILL[where], faint=True)) if STILL[where] else ""
        return {"text/html": remark + view.html(), "text/plain": view.text()}

    def _view(self) -> TelemetryView:
        return TelemetryView(self.history, self._devices(), self.metrics)

    def _devices(self) -> list[Device]:
        return [node.device for node in self._cluster.nodes()]

    def _roster(self) -> Roster:
        return Roster(self._devices(), self.history.names)


_running: WeakKeyDictionary[Cluster, Telemetry] = WeakKeyDictionary()


def telemetry(cluster: Cluster | None = None, *, every_s: float = EVERY_S) -> Telemetry:
    """Tokens a second, stage times, requests, memory, load and links of each device, over time.

    Args:
        cluster: this kernel's if None.
        every_s: seconds between two looks; 0.25 at least.

    Raises:
        NotConnected: this kernel is no node.
    """
    from exo_lab.cluster import require

    cluster = cluster or require()
    before = _running.get(cluster)
    if before is not None:
        before.close()
    made = Telemetry(cluster, every_s=every_s, history=before.history if before is not None else None)
    _running[cluster] = made
    return made


def watching(cluster: Cluster) -> Telemetry | None:
    """The telemetry that was made of a cluster last, running or not; None if none was."""
    return _running.get(cluster)


def _end(widget: Any) -> None:
    """Close a BokehModel. It is closed again when it is collected, which only a model without a document survives."""
    document = widget._document
    widget.close()
    if document is not None:
        document.clear()


def _charts_bundle() -> dict[str, Any]:
    """For our extension, which gives BokehJS to a page that came too late for `_load_bokeh`."""
    import bokeh

    return {CHARTS_MIME: msgspec.to_builtins(LiveCharts(bokeh=bokeh.__version__))}


def _load_bokeh() -> None:
    """BokehJS into the page that is there, without the network. Its output is emptied again: it has 1.6 MB."""
    from bokeh.io import output_notebook
    from bokeh.resources import Resources
    from IPython.utils.capture import capture_output

    with capture_output(stdout=False, stderr=False) as captured:
        output_notebook(Resources(mode="inline", components=["bokeh", "bokeh-widgets"]), hide_banner=True)
    for made in captured.outputs:
        display_id = f"exo-{uuid4().hex}"
        _publish(made.data, display_id, metadata=made.metadata)
        _publish({"text/html": "", "text/plain": ""}, display_id, update=True)


def _publish(data: dict[str, Any], display_id: str, *, update: bool = False, metadata: Any = None) -> None:
    from IPython.display import publish_display_data

    publish_display_data(data, metadata or {}, transient={"display_id": display_id}, update=update)
