"""What is known of the way to one node: round trips of small frames, rates of large ones, and how both were lately.

The latency is half of the shortest of the latest small round trips: what else a round trip holds is waiting for busy
threads, here or there, and not the link (as BBR takes the least of a window for a path's propagation time: Cardwell et
al., ACM Queue 14:5, 2016). A rate is what a large frame took beyond the median small round trip, and counts only if
that is well above what a clock and a busy machine blur: a fast link is measured with larger frames or not at all. Of
the latest rates the second highest counts, for the same reason as the shortest round trip. No clock, no frames.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

KEPT = 16  # small round trips
LATELY = 8  # of them, of which the shortest counts: a link that became slower is believed after so many
YOUNG = 8  # small frames that a new way gets in quick succession: its first ones meet a node that is still starting
WINDOW = 5  # rates of which the second highest is told
LEAST_BEYOND_S = 2e-4  # and, where small round trips are spread, so many times their spread (median deviation):
SPREADS = 4
FIRST_BULK_BYTES, LEAST_BULK_BYTES, MOST_BULK_BYTES = 256 << 10, 64 << 10, 4 << 20
LONG_S = 0.5  # a probe that takes longer is to be smaller
YOUNG_EVERY_S, IDLE_EVERY_S = 2.0, 10.0  # between two probes: until the window is full and of one mind; and later
ALIKE = 2.0  # rates of one mind differ by less than this factor
HISTORY, HISTORY_EVERY_S = 600, 1.0


class LinkFigures(NamedTuple):
    """One way: seconds for a small frame, bytes a second for a large one (None: not measured yet)."""

    latency_s: float
    bandwidth_bytes_per_s: float | None = None


class Moment(NamedTuple):
    """The figures at a time of the clock."""

    at: float
    figures: LinkFigures


class Way:
    """See the module. Times are seconds of any one monotonic clock."""

    def __init__(self) -> None:
        self.figures: LinkFigures | None = None
        self.moments: deque[Moment] = deque(maxlen=HISTORY)
        self.bulk_bytes = FIRST_BULK_BYTES  # of the next probe
        self.asked = 0  # frames that were sent to measure it
        self.sent = self.confirmed = 0  # bytes of large frames; what has certainly arrived of them
        self._small: deque[float] = deque(maxlen=KEPT)
        self._rates: deque[float] = deque(maxlen=WINDOW)
        self._tried_at = float("-inf")

    def wants_bulk(self, now: float) -> bool:
        """Is a probe due? Not where the ring's own frames have told lately. Asking counts as trying."""
        settled = len(self._rates) == WINDOW and max(self._rates) <= ALIKE * min(self._rates)
        every_s = IDLE_EVERY_S if settled else YOUNG_EVERY_S
        if not self._small or now - self._tried_at < every_s:
            return False
        self._tried_at = now
        return True

    def small(self, took_s: float, now: float) -> None:
        """A small frame was there and back."""
        self._small.append(took_s)
        self._note(now)

    def large(self, size_bytes: int, took_s: float, now: float) -> None:
        """A frame of so many bytes went there, and a small one came back."""
        if not self._small:
            return
        self._tried_at = now
        round_trip_s = statistics.median(self._small)
        spread_s = statistics.median(abs(one - round_trip_s) for one in self._small)
        beyond_s = took_s - round_trip_s
        if beyond_s >= max(LEAST_BEYOND_S, SPREADS * spread_s):
            self._rates.append(size_bytes / beyond_s)
        elif size_bytes >= MOST_BULK_BYTES:
            # Too fast for the largest frame. It counts: else only those would that something had held up.
            self._rates.append(math.inf)
        elif size_bytes >= self.bulk_bytes:
            self.bulk_bytes = 2 * self.bulk_bytes
            self._rates.clear()
        if beyond_s > LONG_S:
            self.bulk_bytes = max(self.bulk_bytes // 2, LEAST_BULK_BYTES)
        self._note(now)

    def _note(self, now: float) -> None:
        rate = _highest_but_one(self._rates) if self._rates else math.inf
        shortest_s = min(islice(reversed(self._small), LATELY))
        self.figures = LinkFigures(shortest_s / 2, None if rate == math.inf else rate)
        if not self.moments or now - self.moments[-1].at >= HISTORY_EVERY_S:
            self.moments.append(Moment(now, self.figures))


def _highest_but_one(rates: Sequence[float]) -> float:
    """What a link can do: slow readings are often those of a busy machine, a single fast one may be odd."""
    return sorted(rates, reverse=True)[min(1, len(rates) // 3)]
