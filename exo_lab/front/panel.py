"""The kernel's side of the JupyterLab panel: it answers requests and pushes what changes.

The front end opens a comm to the target `exo_lab.panel`. This knows no cluster, only `PanelCluster`, the few things
that it needs of one.

Threads: requests arrive on the comm's subshell (or on the main thread where there are none). Short ones are answered
there; a change of plan runs on a thread of its own, so that Stop gets through. Everything unasked is pushed by one
thread, which lives as long as a front end is connected. A front end that asks nothing for a while is let go.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from exo_lab import __version__
from exo_lab.core.errors import ConfigError
from exo_lab.front import panel_messages as m
from exo_lab.front.comm import Line, id_of, problem, read_request
from exo_lab.front.panel_feed import Feed

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_lab.core.status import GenerationStats, TokenEvent
    from exo_lab.front.comm import Comm
    from exo_lab.front.panel_feed import Told
    from exo_lab.front.panel_port import PanelCluster

STATUS_EVERY_S = 1.0  # load and memory change without an event
FLUSH_EVERY_S = 0.03  # at most one push of tokens in this time
STATUS_GAP_S = 0.25  # at most one status in this time

log = logging.getLogger(__name__)


class Panel:
    """All front ends of this kernel.

    Args:
        current: this kernel's cluster, or None while it is no node.
        busy: does a cell run? Where comms have no subshell, no front end can be heard then.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        current: Callable[[], PanelCluster | None],
        busy: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._current, self._busy, self._clock = current, busy, clock
        self._lines: list[Line] = []
        self._feed = Feed()
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._changed = True
        self._told_at = 0.0
        self._watched: PanelCluster | None = None
        self._unwatch: Callable[[], None] | None = None
        self._pusher: threading.Thread | None = None
        self._applying = threading.Lock()

    # -- the cluster's side ------------------------------------------------------------------------------

    def started(self, stats: GenerationStats) -> None:
        """A generation began. Returns at once, like the next three; see `hearing.Ear`."""
        plan = stats.plan
        self._push(
            m.GenerationStart(
                request=stats.request,
                model=stats.model,
                epoch=plan.epoch,
                devices=plan.devices,
                prompt_tokens=stats.prompt_tokens,
            )
        )

    def moved(self, stats: GenerationStats) -> None:
        """It goes on over another plan."""
        plan = stats.plan
        self._push(m.GenerationMoved(request=stats.request, epoch=plan.epoch, devices=plan.devices, index=stats.tokens))

    def token(self, request: str, event: TokenEvent) -> None:
        """A token came."""
        self._push(m.TokensEvent(request=request, tokens=(event,)))

    def ended(self, stats: GenerationStats) -> None:
        """A generation is over."""
        self._push(m.GenerationEnd(stats=stats))

    def changed(self) -> None:
        """Something that the status shows is different now, such as: this kernel has become a node."""
        self._changed = True
        self._wake.set()

    def _push(self, event: Told) -> None:
        wanted = bool(self._lines)
        self._feed.put(event, wanted=wanted)
        if wanted:
            self._wake.set()

    # -- the front end's side ----------------------------------------------------------------------------

    def opened(self, comm: Comm, message: dict[str, Any]) -> None:
        """The comm target's handler: a front end is there."""
        line = Line(comm, self._clock())
        comm.on_msg(lambda received: self._received(line, received))
        comm.on_close(lambda _: self._closed(line))
        with self._lock:
            self._lines.append(line)
            self._changed = True
            if self._pusher is None:
                self._pusher = threading.Thread(target=self._push_all, name="exo-panel", daemon=True)
                self._pusher.start()
        self._wake.set()

    def close(self) -> None:
        """Tell every front end that this is the end, and wait for the pushing thread's. Idempotent."""
        with self._lock:
            lines, self._lines = self._lines, []
            pusher = self._pusher
        for line in lines:
            line.close(m.Goodbye(reason="unloaded"))
        self._wake.set()
        if pusher is not None:
            pusher.join(timeout=5)

    def _closed(self, line: Line) -> None:
        with self._lock:
            if line in self._lines:
                self._lines.remove(line)
        self._wake.set()

    def _let_go_of_silent(self) -> None:
        """Whoever asks nothing for a while has gone without a word."""
        now, busy = self._clock(), self._busy()
        for line in tuple(self._lines):
            if busy:
                line.heard_at = now
            elif now - line.heard_at >= m.SILENT_S:
                self._closed(line)
                line.close(m.Goodbye(reason="silent"))

    def _received(self, line: Line, message: dict[str, Any]) -> None:
        """Answer one request, whatever it is; never raises."""
        line.heard_at = self._clock()
        data = message.get("content", {}).get("data")
        identity = id_of(data)
        try:
            request = read_request(data)
            if isinstance(request, m.Apply):
                threading.Thread(target=self._apply, args=(line, request), name="exo-panel-apply", daemon=True).start()
                return
            answer = self._answer(request)
        except Exception as exc:
            answer = problem(identity, exc)
        self._send(line, answer)

    def _answer(self, request: m.PanelRequest) -> m.PanelAnswer:
        match request:
            case m.WhatIf(id=id_, change=change):
                return m.Predicted(id=id_, prediction=self._cluster().predict(change))
            case m.StopGeneration(id=id_, request=which):
                return m.Stopped(id=id_, count=self._cluster().cancel(which))
            case m.Refresh(id=id_):
                self.changed()
                return m.Acknowledged(id=id_)
            case m.AcknowledgeAlert(id=id_, alert=alert):
                self._cluster().acknowledge(alert)
                return m.Acknowledged(id=id_)
            case _:
                raise AssertionError(f"{type(request).__name__} is answered elsewhere")

    def _apply(self, line: Line, request: m.Apply) -> None:
        if not self._applying.acquire(blocking=False):
            busy = ConfigError("another change of plan is being made from this kernel; wait until it is done")
            self._send(line, problem(request.id, busy))
            return
        try:
            plan = self._cluster().apply(request.change, self._progress)
            answer: m.PanelAnswer = m.Applied(id=request.id, plan=plan)
        except Exception as exc:
            answer = problem(request.id, exc)
        finally:
            self._applying.release()
        self._send(line, answer)
        self.changed()

    def _progress(self, node: str, done: int, total: int, what: str) -> None:
        self._push(m.LoadProgress(node=node, done=done, total=total, what=what))

    def _cluster(self) -> PanelCluster:
        cluster = self._current()
        if cluster is None:
            raise ConfigError("this kernel is not a node yet. Run %exo connect first.")
        return cluster

    # -- pushing -----------------------------------------------------------------------------------------

    def _push_all(self) -> None:
        """Until nobody looks any more: one round after the other, whatever goes wrong in one."""
        while True:
            self._wake.wait(STATUS_EVERY_S)
            self._wake.clear()
            self._let_go_of_silent()
            with self._lock:
                if not self._lines:
                    self._pusher = None
                    self._watch(None)
                    return
            try:
                self._round()
            except Exception as exc:
                log.warning("the panel could not be told how things are, and will be next time: %s", exc)
                self._changed = True
            time.sleep(FLUSH_EVERY_S)  # what comes meanwhile goes out together

    def _round(self) -> None:
        """Events as they came, batched; the status on change and once a second."""
        cluster = self._current()
        self._watch(cluster)
        lines = tuple(self._lines)  # who comes after this hears the whole story in the next round
        news, story = self._feed.take()
        for line in lines:
            for event in news if line.told else story:
                self._send(line, event)
            line.told = True
        now = self._clock()
        due = now - self._told_at
        if due >= STATUS_EVERY_S or (self._changed and due >= STATUS_GAP_S):
            self._changed, self._told_at = False, now
            self._send_all(self._status(cluster))
        elif self._changed:
            self._wake.set()  # comes round again when the gap is over

    def _watch(self, cluster: PanelCluster | None) -> None:
        """Be told of changes in this cluster, and in no other."""
        if cluster is self._watched:
            return
        if self._unwatch is not None:
            self._unwatch()
        self._watched, self._changed = cluster, True
        self._unwatch = None if cluster is None else cluster.on_change(lambda _: self.changed())

    def _status(self, cluster: PanelCluster | None) -> m.StatusEvent:
        software = f"exo_lab {__version__}"
        if cluster is None:
            return m.StatusEvent(software=software)
        try:
            status, links = cluster.status(), cluster.links()
        except Exception as exc:
            log.warning("the panel cannot read the cluster's status: %s", exc)
            return m.StatusEvent(software=software)
        return m.StatusEvent(
            software=software,
            status=status,
            links=links,
            strategies=cluster.strategies,
            default_strategy=cluster.default_strategy,
            predicts=cluster.predicts,
        )

    def _send_all(self, message: Any) -> None:
        for line in tuple(self._lines):
            self._send(line, message)

    def _send(self, line: Line, message: Any) -> None:
        try:
            line.send(message)
        except Exception as exc:
            log.warning("a front end could not be told of %s and is dropped: %s", type(message).__name__, exc)
            self._closed(line)
