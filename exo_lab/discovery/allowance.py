"""How many datagrams each source may send before they are dropped unread: a token bucket a source, and one for all."""

from __future__ import annotations

from typing import NamedTuple

MAX_SOURCES = 512


class _Bucket(NamedTuple):
    tokens: float
    at: float


class Allowance:
    """Counts down. Time is handed in, seconds of one monotonic clock.

    Args:
        per_s: what one source may send, lasting.
        burst: what one source may send at once.
        all_per_s: what all sources together may send: addresses are easily made up.
        all_burst: at once, together.
    """

    def __init__(
        self, per_s: float = 50.0, burst: float = 100.0, all_per_s: float = 400.0, all_burst: float = 800.0
    ) -> None:
        self._per_s, self._burst, self._all_per_s, self._all_burst = per_s, burst, all_per_s, all_burst
        self._sources: dict[str, _Bucket] = {}
        self._all: _Bucket | None = None

    def take(self, source: str, now: float) -> bool:
        """May this one be read? The source that was quiet longest is forgotten first when there are too many."""
        # A source that is over its own limit does not use up what the others share.
        mine = _refill(self._sources.pop(source, None), now, self._per_s, self._burst)
        if len(self._sources) >= MAX_SOURCES:
            del self._sources[next(iter(self._sources))]
        if mine.tokens < 1:
            self._sources[source] = mine
            return False
        self._sources[source] = _Bucket(mine.tokens - 1, now)
        shared = _refill(self._all, now, self._all_per_s, self._all_burst)
        self._all = shared if shared.tokens < 1 else _Bucket(shared.tokens - 1, now)
        return shared.tokens >= 1


def _refill(bucket: _Bucket | None, now: float, per_s: float, burst: float) -> _Bucket:
    if bucket is None:
        return _Bucket(burst, now)
    return _Bucket(min(burst, bucket.tokens + max(0.0, now - bucket.at) * per_s), now)
