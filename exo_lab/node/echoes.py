"""What a frame takes to another node's data thread and back: the links as the ring meets them.

Owned by the data thread, which sends and takes the frames; `links` may be read by any thread. Half of the median round
trip of the latest small frames is a link's latency; what a large frame takes beyond that gives its bandwidth.
"""

from __future__ import annotations

import statistics
from collections import OrderedDict, deque
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from exo_lab.core.messages import Echo
from exo_lab.core.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

KEPT = 16  # round trips of each kind and peer
BULK_BYTES = 256 << 10
WAITING = 256  # frames under way; those that never came back are forgotten


@lru_cache(maxsize=8)
def _payload(values: int) -> Tensor:
    """Made once: its memory is there when the clock starts."""
    return Tensor("float32", (values,), b"\1" * (4 * values))


class LinkFigures(NamedTuple):
    """One way: seconds for a small frame, bytes a second for a large one (None: not measured yet)."""

    latency_s: float
    bandwidth_bytes_per_s: float | None = None


class Echoes:
    """See the module. `clock` in seconds, monotonic."""

    def __init__(self, node: str, clock: Callable[[], float]) -> None:
        self.links: dict[str, LinkFigures] = {}
        self._node, self._clock = node, clock
        self._stamp = 0
        self._under_way: OrderedDict[int, tuple[Callable[[float], object], float]] = OrderedDict()
        self._small: dict[str, deque[float]] = {}
        self._large: dict[str, deque[float]] = {}

    def ask(self, peer: str, *, bulk: bool) -> tuple[Echo, Tensor | None]:
        """A frame to send to a peer now."""
        return self.probe(BULK_BYTES if bulk else 0, lambda took_s: self._learn(peer, took_s, bulk=bulk))

    def probe(self, size_bytes: int, came: Callable[[float], object]) -> tuple[Echo, Tensor | None]:
        """A frame of so many bytes (a multiple of 4) to send now; `came` is told how long it took there and back."""
        tensor = _payload(size_bytes // 4) if size_bytes else None
        self._stamp += 1
        self._under_way[self._stamp] = (came, self._clock())
        while len(self._under_way) > WAITING:
            self._under_way.popitem(last=False)
        return Echo(node=self._node, stamp=self._stamp), tensor

    def came(self, echo: Echo) -> bool:
        """A frame came back; False if nobody had sent it."""
        known = self._under_way.pop(echo.stamp, None)
        if known is None:
            return False
        came, sent = known
        came(self._clock() - sent)
        return True

    def _learn(self, peer: str, took_s: float, *, bulk: bool) -> None:
        kept = (self._large if bulk else self._small).setdefault(peer, deque(maxlen=KEPT))
        kept.append(took_s)
        small = self._small.get(peer)
        if small:
            round_trip_s = statistics.median(small)
            large = self._large.get(peer)
            beyond_s = statistics.median(large) - round_trip_s if large else 0.0
            bandwidth = BULK_BYTES / beyond_s if beyond_s > 0 else None
            self.links = {**self.links, peer: LinkFigures(round_trip_s / 2, bandwidth)}

    def forget(self, peer: str) -> None:
        """A peer is gone."""
        self._small.pop(peer, None)
        self._large.pop(peer, None)
        self.links = {one: figures for one, figures in self.links.items() if one != peer}
