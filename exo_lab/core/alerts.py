"""When a reading becomes an alert and when it ends, as a pure function: (state, rule, reading) -> state.

A reading must stay above its threshold for a while before there is an alert, and must go below a second, lower value
for a while before there is none: what moves between the two changes nothing. No clock: time comes with the readings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.telemetry import Alert, AlertState, Quantity

if TYPE_CHECKING:
    from collections.abc import Iterable, Set

    from exo_lab.core.telemetry import Sample
    from exo_lab.core.watching import Rule, Watching


LINK = ("latency", "bandwidth")  # of them, `about` is a peer


class Calm(msgspec.Struct, frozen=True):
    """Not above the threshold."""


class Rising(msgspec.Struct, frozen=True):
    """Above the threshold since then; not for long enough yet."""

    since_s: float


class Raised(msgspec.Struct, frozen=True):
    """An alert. `below_s`: below `clear` since then, not for long enough yet; None: it is not below."""

    since_s: float
    below_s: float | None = None


State = Calm | Rising | Raised


def step(state: State, rule: Rule, at_s: float, value: float) -> State:
    """The state after a reading. A clock that was set back begins its waiting anew."""
    match state:
        case Calm():
            return step(Rising(at_s), rule, at_s, value) if value > rule.threshold else state
        case Rising(since_s=since_s):
            if value <= rule.threshold:
                return Calm()
            since_s = min(since_s, at_s)
            return Raised(since_s) if at_s - since_s >= rule.raise_after_s else Rising(since_s)
        case Raised(since_s=since_s, below_s=below_s):
            if value >= rule.clear:
                return Raised(since_s)
            below_s = at_s if below_s is None else min(below_s, at_s)
            return Calm() if at_s - below_s >= rule.clear_after_s else Raised(since_s, below_s)


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is watched: its state, and the alert if there is one."""

    state: State = Calm()
    alert: Alert | None = None


Key = tuple[Quantity, str]  # (quantity, about)


class Board(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one node watches. `count` is of the alerts that there ever were: it numbers them."""

    node: str
    watched: dict[Key, Watched] = {}
    count: int = 0

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """Those that are there, oldest first."""
        found = [one.alert for one in self.watched.values() if one.alert is not None]
        return tuple(sorted(found, key=lambda alert: (alert.since_s, alert.id)))


def observe(board: Board, watching: Watching, sample: Sample) -> Board:
    """The board after a reading."""
    rule = watching.rule(sample.quantity)
    if rule is None:
        return board
    key = (sample.quantity, sample.about)
    before = board.watched.get(key, Watched())
    state = step(before.state, rule, sample.at_s, sample.value)
    if not isinstance(state, Raised):
        return _with(board, key, Watched(state=state))
    if before.alert is not None:
        return _with(board, key, Watched(state=state, alert=msgspec.structs.replace(before.alert, value=sample.value)))
    alert = Alert(
        id=f"{board.node[:4]}-{board.count + 1}",
        node=board.node,
        quantity=sample.quantity,
        about=sample.about,
        value=sample.value,
        threshold=rule.threshold,
        since_s=state.since_s,
    )
    return msgspec.structs.replace(_with(board, key, Watched(state=state, alert=alert)), count=board.count + 1)


def acknowledge(board: Board, alert_id: str) -> Board:
    """Somebody has seen an alert; it stays until it is over. The same board if there is none of that id."""
    for key, one in board.watched.items():
        if one.alert is not None and one.alert.id == alert_id:
            alert = msgspec.structs.replace(one.alert, state="acknowledged")
            return _with(board, key, Watched(state=one.state, alert=alert))
    return board


def without(board: Board, quantity: Quantity, present: Set[str]) -> Board:
    """The board without what is not there any more: a peer that left has no latency."""
    kept = {key: one for key, one in board.watched.items() if key[0] != quantity or key[1] in present}
    return board if len(kept) == len(board.watched) else msgspec.structs.replace(board, watched=kept)


def changes(before: Iterable[Alert], after: Iterable[Alert], there: Set[str]) -> tuple[Alert, ...]:
    """Alerts whose state is another one now; those that are gone come as cleared, or as lost with a node.

    Args:
        before: what there was.
        after: what there is.
        there: ids of the nodes that are there now.
    """
    states: dict[str, AlertState] = {alert.id: alert.state for alert in before}
    now = {alert.id: alert for alert in after}
    changed = [alert for alert in now.values() if states.get(alert.id) != alert.state]
    gone = [msgspec.structs.replace(alert, state=_end(alert, there)) for alert in before if alert.id not in now]
    return (*changed, *gone)


def _end(alert: Alert, there: Set[str]) -> AlertState:
    """A node that is gone took its troubles along; it did not get over them."""
    meant = {alert.node, alert.about} if alert.quantity in LINK else {alert.node}
    return "cleared" if meant <= there else "lost"


def _with(board: Board, key: Key, one: Watched) -> Board:
    return msgspec.structs.replace(board, watched={**board.watched, key: one})
