"""The part of `Cluster` that is about what nodes measure: alerts, forecasts, history, and the user's own function."""

from __future__ import annotations

import logging
import queue
import threading
import time
from typing import TYPE_CHECKING

from exo_lab.cluster.looking import link_history
from exo_lab.core.alerts import changes
from exo_lab.core.errors import ConfigError, NodeError
from exo_lab.core.events import Event, Events, GetEvents
from exo_lab.core.messages import Acknowledge, GetHistory, History
from exo_lab.core.telemetry import QUANTITIES, Alert, Forecast, Series

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exo_lab.core.status import LinkMoment
    from exo_lab.core.watching import Watching
    from exo_lab.node.node import Node
    from exo_lab.node.thread import ControlThread

    AlertFunction = Callable[[Alert], object]

log = logging.getLogger(__name__)

ASK_S = 5.0
WAITING = 256  # alerts that wait for a slow function
END_S = 1.0
HEARD_S = 2.0  # an alert's state comes back with the answers to pings


class Measurements:
    """See the module. `Cluster` makes `node` and its control thread."""

    node: Node
    _thread: ControlThread

    def __init__(self) -> None:
        super().__init__()
        self._callers: set[AlertCaller] = set()

    @property
    def watching(self) -> Watching:
        """How often this node measures, and what is too much of it."""
        return self.node.sensing.watching

    def alerts(self) -> tuple[Alert, ...]:
        """What is above its threshold now, on any node that is there; oldest first."""
        return alerts_of(self.node)

    def forecasts(self) -> tuple[Forecast, ...]:
        """Predicted: what will be above its threshold, on any node that is there; the nearest first."""
        return forecasts_of(self.node)

    def link_history(self, node: str) -> tuple[LinkMoment, ...]:
        """How the link from here to a node was in the last ten minutes at most, oldest first; a moment a second.

        Args:
            node: its id. Of one that is not there, and of this node itself, nothing is kept.
        """
        return link_history(self.node, node)

    def acknowledge(self, alert: str) -> None:
        """Say that somebody has seen an alert, to the node whose it is. It stays until it is over.

        Returns when this node has heard back that it is acknowledged, or after a second or two.

        Args:
            alert: its id.

        Raises:
            ConfigError: there is no such alert.
            ExoError: its node did not answer.
        """
        found = next((one for one in self.alerts() if one.id == alert), None)
        if found is None:
            there = ", ".join(one.id for one in self.alerts())
            raise ConfigError(f"there is no alert {alert!r}; {f'there are {there}' if there else 'there are none'}.")
        address = self.node.control_address(found.node)
        ask = self.node.parts.control.request(address, Acknowledge(alert=alert), timeout_s=ASK_S)
        heard = threading.Event()

        def listen(what: str) -> None:
            if what == "alerts" and all(one.state != "raised" for one in alerts_of(self.node) if one.id == alert):
                heard.set()

        self.node.listeners.add(listen)
        try:
            self._thread.run(ask, ASK_S + 1.0)
            listen("alerts")
            heard.wait(HEARD_S)
        finally:
            self.node.listeners.discard(listen)

    def history(
        self, node: str | None = None, last_s: float = 3600.0, quantities: Sequence[str] = QUANTITIES
    ) -> tuple[Series, ...]:
        """What a node measured lately, as it keeps it; also what it measured before it was restarted.

        Args:
            node: its id; this node if None.
            last_s: seconds until now. Older than an hour are means of minutes; a week is kept.
            quantities: some of `core.telemetry.QUANTITIES`.

        Returns:
            A series of each thing that was measured, at most 1,000 points each.

        Raises:
            ExoError: the node is not there, or did not answer.
        """
        address = self.node.control_address(node or self.node.id)
        since_s = time.time() - last_s
        if address == self.node.card.control:
            return self._thread.run(self.node.sensing.history(since_s, tuple(quantities)), ASK_S)
        question = GetHistory(since_s=since_s, quantities=tuple(quantities))
        answer = self._thread.run(self.node.parts.control.request(address, question, timeout_s=ASK_S), ASK_S + 1.0)
        if not isinstance(answer, History):
            raise NodeError(f"node {node} answered {type(answer).__name__} when it was asked what it measured")
        return answer.series

    def events(self, node: str | None = None) -> tuple[Event, ...]:
        """What happened on a node lately, oldest first: nodes that came and went, plans, alerts, what went wrong.

        Args:
            node: its id; this node if None.

        Raises:
            ExoError: the node is not there, or did not answer.
        """
        if node in (None, self.node.id):
            return self.node.journal.events
        ask = self.node.parts.control.request(self.node.control_address(node), GetEvents(), timeout_s=ASK_S)
        answer = self._thread.run(ask, ASK_S + 1.0)
        if not isinstance(answer, Events):
            raise NodeError(f"node {node} answered {type(answer).__name__} when it was asked what happened")
        return answer.events

    def on_alert(self, function: AlertFunction) -> Callable[[], None]:
        """Call `function(alert)` when an alert of any node changes its state (see `Alert`).

        In a thread of its own, one call at a time: it may take its time. What it raises is among the cluster's
        problems, and it is called again for the next alert. It is called at once for those that are there already, and
        no more once this node has left the cluster.

        Returns:
            A function that ends it.
        """
        caller = AlertCaller(self.node, function)
        self._callers.add(caller)
        self.node.listeners.add(caller)
        caller("alerts")

        def end() -> None:
            self._callers.discard(caller)
            caller.close()

        return end

    def _end_callers(self) -> None:
        while self._callers:
            self._callers.pop().close()


class AlertCaller:
    """Calls a user's function for every alert that changes, in a thread of its own.

    Args:
        node: whose cluster is watched.
        function: the user's.
    """

    def __init__(self, node: Node, function: AlertFunction) -> None:
        self._node, self._function = node, function
        self._subject = f"on_alert {getattr(function, '__name__', 'function')}"
        self._known: tuple[Alert, ...] = ()
        self._waiting: queue.Queue[Alert | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._run, name="exo-alerts", daemon=True)
        self._lock = threading.Lock()
        self._thread.start()

    def __call__(self, what: str) -> None:
        """A listener of the node's: never waits."""
        if what not in ("alerts", "nodes"):
            return
        with self._lock:
            now, there = alerts_of(self._node), self._node.members.there(self._node.id)
            changed, self._known = changes(self._known, now, there), now
        for alert in changed:
            try:
                self._waiting.put_nowait(alert)
            except queue.Full:
                self._node.problems.note(
                    self._subject,
                    f"{self._subject} is so slow that {WAITING} alerts wait for it; alert {alert.id} was left out",
                )

    def close(self) -> None:
        """Call it no more. Idempotent; a call that is under way is waited for, briefly."""
        self._node.listeners.discard(self)
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            self._waiting.get_nowait()
            self._waiting.put_nowait(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(END_S)

    def _run(self) -> None:
        while (alert := self._waiting.get()) is not None:
            try:
                self._function(alert)
            except Exception as exc:
                log.exception("%s failed on alert %s", self._subject, alert.id)
                self._node.problems.note(self._subject, f"{self._subject} failed on alert {alert.id}: {exc!r}")
            else:
                self._node.problems.settle(self._subject)


def alerts_of(node: Node) -> tuple[Alert, ...]:
    """See `Measurements.alerts`."""
    found = [*node.sensing.vitals.alerts, *(one for peer in node.members.alive() for one in peer.vitals.alerts)]
    return tuple(sorted(found, key=lambda alert: (alert.since_s, alert.id)))


def forecasts_of(node: Node) -> tuple[Forecast, ...]:
    """See `Measurements.forecasts`."""
    found = [*node.sensing.vitals.forecasts, *(one for peer in node.members.alive() for one in peer.vitals.forecasts)]
    return tuple(sorted(found, key=lambda one: (one.made_at_s + one.lead_s, one.node)))
