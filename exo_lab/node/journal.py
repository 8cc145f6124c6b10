"""What happened on a node lately, in bounded memory: told by the node's own changes, and by what this process logs.

The user's name and home folder are taken out before anybody is told: others of the cluster may be other people.
"""

from __future__ import annotations

import getpass
import logging
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from exo_lab.core.alerts import changes
from exo_lab.core.events import MAX_CHARACTERS, MAX_EVENTS, Event, Kind
from exo_lab.core.scrub import scrub

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_lab.core.telemetry import Alert
    from exo_lab.node.node import Node

SAID = {"alive": "is there", "suspect": "does not answer", "lost": "was lost"}


class Journal:
    """Listens to one node, on its control loop. `events` may be read by any thread.

    Args:
        node: whose events they are.
        clock: seconds since the epoch.
    """

    def __init__(self, node: Node, clock: Callable[[], float] = time.time) -> None:
        self._node, self._clock = node, clock
        self._own: deque[Event] = deque(maxlen=MAX_EVENTS)
        self._states: dict[str, str] = {}
        self._plans: dict[str, tuple[int, str]] = {}
        self._alerts: tuple[Alert, ...] = ()
        node.listeners.add(self)
        LOG.attach()

    def __call__(self, what: str) -> None:
        """A listener of the node's."""
        match what:
            case "nodes":
                self._peers_changed()
            case "plans":
                self._plans_changed()
            case "alerts":
                self._alerts_changed()
            case _:
                pass

    @property
    def events(self) -> tuple[Event, ...]:
        """The latest, oldest first."""
        words = private_words()
        latest = sorted((*tuple(self._own), *LOG.events), key=lambda one: one.at_s)[-MAX_EVENTS:]
        return tuple(Event(at_s=one.at_s, kind=one.kind, text=scrub(one.text, words)) for one in latest)

    def _peers_changed(self) -> None:
        peers = self._node.members.peers
        states: dict[str, str] = {id_: peer.liveness for id_, peer in peers.items()}
        for id_, state in states.items():
            if self._states.get(id_) != state:
                self._note("nodes", f"{peers[id_].card.device.name} {SAID[state]}")
        self._states = states

    def _plans_changed(self) -> None:
        plans = self._node.plans
        for model, plan in plans.items():
            if self._plans.get(model) != plan.rank:
                shares = ", ".join(str(len(shard)) for shard in plan.shards)
                self._note("plans", f"{model}: epoch {plan.epoch}, {shares} layers by {plan.strategy}")
        for model in self._plans.keys() - plans.keys():
            self._note("plans", f"{model} was unloaded")
        self._plans = {model: plan.rank for model, plan in plans.items()}

    def _alerts_changed(self) -> None:
        now = self._node.sensing.vitals.alerts
        for alert in changes(self._alerts, now, self._node.members.there(self._node.id)):
            about = f" ({alert.about})" if alert.about else ""
            value = f"{alert.value:.3g}, threshold {alert.threshold:.3g}"
            self._note("alerts", f"{alert.quantity}{about} {alert.state}: {value} ({alert.id})")
        self._alerts = now

    def _note(self, kind: Kind, text: str) -> None:
        self._own.append(Event(at_s=self._clock(), kind=kind, text=text[:MAX_CHARACTERS]))


class LogTail(logging.Handler):
    """The latest warnings and errors that exo_lab logged in this process."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._records: deque[Event] = deque(maxlen=MAX_EVENTS)

    def attach(self) -> None:
        """Begin to listen. Idempotent."""
        logging.getLogger("exo_lab").addHandler(self)

    @property
    def events(self) -> tuple[Event, ...]:
        """Oldest first."""
        return tuple(self._records)

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        text = record.getMessage()
        if record.exc_info is not None and record.exc_info[1] is not None:
            text += f": {record.exc_info[1]!r}"
        kind: Kind = "error" if record.levelno >= logging.ERROR else "warning"
        self._records.append(Event(at_s=record.created, kind=kind, text=text[:MAX_CHARACTERS]))


LOG = LogTail()


def private_words() -> dict[str, str]:
    """This user's name and home folder, and what is put in their place."""
    try:
        home, user = str(Path.home()), getpass.getuser()
    except (KeyError, OSError, RuntimeError):
        return {}  # a container without a user of that number
    return {home: "~", user: "(user)"}
