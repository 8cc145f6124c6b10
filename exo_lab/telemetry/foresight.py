"""Forecasts of everything that a node watches, kept up to date.

Fed with readings, and asked now and then; has no clock of its own. One is shown when looks in a row agree.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from exo_lab.telemetry.forecast import KEPT_S, foresee

if TYPE_CHECKING:
    from collections.abc import Iterable, Set

    from exo_lab.core.alerts import Key
    from exo_lab.core.telemetry import Forecast, Quantity, Sample
    from exo_lab.core.watching import Watching

LOOK_S = 5.0  # between two looks at everything
AGREED = 3  # looks in a row that see something before it is shown
LET_GO = 4  # looks in a row that do not, before it is taken back
MOST_SAMPLES = 4096  # of one thing, however often it is read


class Foresight:
    """See the module. Belongs to one thread.

    Args:
        node: whose readings they are.
        watching: what is too much.
    """

    def __init__(self, node: str, watching: Watching) -> None:
        self.forecasts: tuple[Forecast, ...] = ()  # what is shown now, the nearest first
        self._node, self._watching = node, watching
        self._past: dict[Key, deque[Sample]] = {}
        self._seen: dict[Key, tuple[Forecast, int, int]] = {}  # the latest, looks that saw it, looks since that did not
        self._looked_at: float | None = None

    def add(self, samples: Iterable[Sample]) -> None:
        """Readings, in the order in which they were taken. What has no threshold is not looked at."""
        for sample in samples:
            if self._watching.rule(sample.quantity) is None:
                continue
            past = self._past.setdefault((sample.quantity, sample.about), deque(maxlen=MOST_SAMPLES))
            if past and sample.at_s <= past[-1].at_s:  # a clock that was set back
                past.clear()
            past.append(sample)
            while past[-1].at_s - past[0].at_s > KEPT_S:
                past.popleft()

    def keep_only(self, quantity: Quantity, present: Set[str]) -> None:
        """Forget what is not there any more, such as the links to peers that left."""
        for key in [key for key in self._past if key[0] == quantity and key[1] not in present]:
            del self._past[key]
            self._seen.pop(key, None)

    def look(self, now_s: float) -> tuple[Forecast, ...]:
        """What is to be shown now; looked at anew every `LOOK_S`."""
        if self._looked_at is not None and self._looked_at <= now_s < self._looked_at + LOOK_S:
            return self.forecasts
        self._looked_at = now_s
        for key, past in self._past.items():
            rule = self._watching.rule(key[0])
            found = foresee(self._node, rule, tuple(past)) if rule is not None else None
            self._note(key, found, over=rule is None or past[-1].value > rule.threshold)
        shown = [latest for latest, looks, _ in self._seen.values() if looks >= AGREED]
        self.forecasts = tuple(sorted(shown, key=lambda one: (one.lead_s, one.quantity, one.about)))
        return self.forecasts

    def _note(self, key: Key, found: Forecast | None, *, over: bool) -> None:
        latest, looks, misses = self._seen.get(key, (None, 0, 0))
        if found is not None:
            self._seen[key] = (found, looks + 1, 0)
        elif latest is not None and looks >= AGREED and misses + 1 < LET_GO and not over:
            self._seen[key] = (latest, looks, misses + 1)
        else:
            self._seen.pop(key, None)
