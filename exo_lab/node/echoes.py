"""What a frame takes to another node's data thread and back: the links as the ring meets them.

Owned by the data thread, which sends and takes the frames; `links` and `history` are for any thread. Half of the
shortest of the latest small round trips is a link's latency. Its bandwidth is measured on the ring's own large frames,
each with a small one right behind it that comes back; where there are none, a large frame is sent now and then. An echo
that waited while its node computed tells of that node and not of the link, says so, and is left out.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.messages import Echo
from exo_lab.core.tensor import Tensor
from exo_lab.node.way import YOUNG, LinkFigures, Moment, Way

if TYPE_CHECKING:
    from collections.abc import Callable

    Came = Callable[[float, bool], object]  # (seconds there and back, did it not wait there?)

PASSIVE_BYTES = 32 << 10  # frames of the ring that are timed
WAITING = 256  # frames under way; those that never came back are forgotten


@lru_cache(maxsize=8)
def _payload(values: int) -> Tensor:
    """Made once: its memory is there when the clock starts."""
    return Tensor("float32", (values,), b"\1" * (4 * values))


class Echoes:
    """See the module. `clock` in seconds, monotonic.

    `prompt`: has this thread computed nothing since it last waited for a frame? The ring says so.
    """

    def __init__(self, node: str, clock: Callable[[], float]) -> None:
        self.prompt = True
        self._node, self._clock = node, clock
        self._stamp = 0
        self._under_way: OrderedDict[int, tuple[Came, float]] = OrderedDict()
        self._ways: dict[str, Way] = {}

    @property
    def links(self) -> dict[str, LinkFigures]:
        """What is known now, by peer. Any thread."""
        return {peer: way.figures for peer, way in self._ways.copy().items() if way.figures is not None}

    def history(self, peer: str) -> tuple[Moment, ...]:
        """How the way to a peer was lately, oldest first, by this object's clock. Any thread."""
        way = self._ways.get(peer)
        return () if way is None else tuple(way.moments.copy())

    def ask(self, peer: str) -> tuple[Echo, Tensor | None]:
        """A frame to send to a peer now: a small one, or a large one if its bandwidth is to be measured."""
        way = self._ways.setdefault(peer, Way())
        way.asked += 1
        size = way.bulk_bytes if way.wants_bulk(self._clock()) else 0
        way.sent += size
        return self.probe(size, self._learning(way, size))

    def young(self, peer: str) -> bool:
        """Is this way new, so that it should be asked in quick succession? Any thread."""
        way = self._ways.get(peer)
        return way is None or way.asked < YOUNG

    def behind(self, peer: str, size_bytes: int) -> Echo | None:
        """What to send right behind a frame of the ring that is sent now, if that one is to be timed.

        It is if nothing else is on the way that it would have to wait for.
        """
        way = self._ways.get(peer)
        if way is None or size_bytes < PASSIVE_BYTES:
            return None
        quiet = way.sent == way.confirmed
        way.sent += size_bytes
        return self.probe(0, self._learning(way, size_bytes))[0] if quiet else None

    def _learning(self, way: Way, size_bytes: int) -> Came:
        sent = way.sent

        def came(took_s: float, prompt: bool) -> None:
            way.confirmed = max(way.confirmed, sent)
            if prompt and size_bytes:
                way.large(size_bytes, took_s, self._clock())
            elif prompt:
                way.small(took_s, self._clock())

        return came

    def probe(self, size_bytes: int, came: Came) -> tuple[Echo, Tensor | None]:
        """A frame of so many bytes (a multiple of 4) to send now; `came` is told what became of it."""
        tensor = _payload(size_bytes // 4) if size_bytes else None
        self._stamp += 1
        self._under_way[self._stamp] = (came, self._clock())
        while len(self._under_way) > WAITING:
            self._under_way.popitem(last=False)
        return Echo(node=self._node, stamp=self._stamp), tensor

    def answer(self, echo: Echo) -> Echo:
        """What is sent back to who asked."""
        return msgspec.structs.replace(echo, back=True, prompt=self.prompt)

    def came(self, echo: Echo) -> bool:
        """A frame came back; False if nobody had sent it."""
        known = self._under_way.pop(echo.stamp, None)
        if known is None:
            return False
        came, sent = known
        came(self._clock() - sent, echo.prompt)
        return True

    def forget(self, peer: str) -> None:
        """A peer is gone."""
        self._ways.pop(peer, None)
