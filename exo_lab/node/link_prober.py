"""Tests this node's links when somebody asks: one test at a time, within bounds of bytes and seconds, never in the way.

Lives on the control loop; the data thread sends the frames, as it sends those of the ring. What the figures are is in
`core.probe`.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from exo_lab.core.errors import FrameError, NodeError
from exo_lab.core.messages import Progress
from exo_lab.core.probe import Probed, ProbeLinks, summarise
from exo_lab.node.orders import Probe

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from exo_lab.core.messages import ControlMessage
    from exo_lab.core.probe import LinkProbe, RoundTrip
    from exo_lab.node.peers import Peers
    from exo_lab.node.ring import Ring

REPEATS, FEWEST = 8, 3  # frames of each size
SIZE_BYTES = 16 << 20  # of one size in all, where it is not fewer than the fewest frames
LINK_BYTES = 48 << 20  # sent over one link in one test, at most
LINK_S = 6.0  # for one link, at most; the frame that is under way is waited for
ECHO_S = 2.0  # a frame that is not back by then is lost
LOST_IN_A_ROW = 3  # then the link is given up
MOST_PINGS, MOST_SIZES, MOST_PEERS = 1000, 16, 256
LARGEST_BYTES = 16 << 20


class LinkProber:
    """See the module.

    Args:
        node: this node's id.
        ring: its data plane.
        peers: who is there.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        node: str,
        ring: Ring,
        peers: Peers,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._node, self._ring, self._peers, self._clock = node, ring, peers, clock
        self._at_work = False

    async def probe(self, order: ProbeLinks) -> AsyncGenerator[ControlMessage]:
        """Test one link after the other; closing the generator early ends the test.

        Raises:
            FrameError: more is asked than is ever done.
            NodeError: it tests already, or a generation runs and may not be disturbed.
        """
        _check(order)
        if self._at_work:
            raise NodeError(f"node {self._node} tests its links already; ask again in some seconds")
        if not order.while_busy and self._busy:
            raise NodeError(
                f"node {self._node} is computing answers, which a test would slow down. Wait for them, or ask for it "
                "with --while-busy."
            )
        self._at_work = True
        try:
            links: list[LinkProbe] = []
            for i, peer in enumerate(order.peers):
                yield Progress(done=i, total=len(order.peers), what=f"testing the way to {peer}")
                links.append(await self._link(peer, order))
            yield Probed(links=tuple(links))
        finally:
            self._at_work = False

    @property
    def _busy(self) -> bool:
        return bool(self._ring.requests or self._ring.stages.session_count)

    async def _link(self, peer: str, order: ProbeLinks) -> LinkProbe:
        if all(one.id != peer for one in self._peers.members.alive()):
            return summarise(self._node, peer, (), (), "this node does not know it, or has lost it")
        busy = (lambda: False) if order.while_busy else (lambda: self._busy)
        test = _Test(lambda size: self._round_trip_s(peer, size), busy, self._clock)
        pings = await test.frames(0, order.pings + 1)
        loads = [(size, await test.frames(size, repeats(size))) for size in sorted(order.sizes)]
        # The first one may have had to make the connection.
        return summarise(self._node, peer, pings[1:] or pings, loads, test.remark)

    async def _round_trip_s(self, peer: str, size_bytes: int) -> RoundTrip:
        """One frame there and back; None if it is not back in time."""
        loop = asyncio.get_running_loop()
        came: asyncio.Future[float] = loop.create_future()

        def tell(took_s: float) -> None:
            loop.call_soon_threadsafe(lambda: came.done() or came.set_result(took_s))

        self._ring.post(Probe(peer, size_bytes, tell))
        try:
            async with asyncio.timeout(ECHO_S):
                return await came
        except TimeoutError:
            return None


class _Test:
    """One link's test: sends until there is a reason not to, which is then its `remark`."""

    def __init__(
        self, send: Callable[[int], Awaitable[RoundTrip]], busy: Callable[[], bool], clock: Callable[[], float]
    ) -> None:
        self.remark = ""
        self._send, self._busy, self._clock = send, busy, clock
        self._deadline = clock() + LINK_S
        self._bytes = self._lost = 0
        self._bytes_per_s = 0.0  # of the last frame that came back, latency included

    async def frames(self, size: int, count: int) -> list[RoundTrip]:
        """So many frames of a size, one after the other; fewer if there is a reason."""
        trips: list[RoundTrip] = []
        while len(trips) < count and not self.remark:
            self.remark = self._reason(size)
            if not self.remark:
                trips.append(await self._one(size))
        return trips

    async def _one(self, size: int) -> RoundTrip:
        took_s = await self._send(size)
        self._bytes += size
        self._lost = self._lost + 1 if took_s is None else 0
        if size and took_s:
            self._bytes_per_s = size / took_s
        return took_s

    def _reason(self, size: int) -> str:
        """Why the next frame is not sent; empty if it is."""
        if self._lost >= LOST_IN_A_ROW:
            return f"given up: {LOST_IN_A_ROW} frames in a row did not come back within {ECHO_S:g} s"
        if self._clock() >= self._deadline:
            return f"ended after {LINK_S:g} s"
        if self._busy():
            return "broken off: a generation began"
        if self._bytes_per_s and size / self._bytes_per_s > ECHO_S:
            return f"frames of {size} bytes were left out: one takes longer than {ECHO_S:g} s"
        if self._bytes + size > LINK_BYTES:
            return f"ended after {self._bytes} bytes"
        return ""


def repeats(size_bytes: int) -> int:
    """How many frames of a size are sent: fewer large ones."""
    return max(FEWEST, min(REPEATS, SIZE_BYTES // size_bytes))


def _check(order: ProbeLinks) -> None:
    sizes_fit = len(order.sizes) <= MOST_SIZES and all(0 < size <= LARGEST_BYTES for size in order.sizes)
    if not sizes_fit or not 1 <= order.pings <= MOST_PINGS or len(order.peers) > MOST_PEERS:
        raise FrameError(
            f"a test has 1 to {MOST_PINGS} pings, at most {MOST_SIZES} sizes of at most {LARGEST_BYTES} bytes, and "
            f"{MOST_PEERS} peers; got {order.pings} pings, sizes {order.sizes[:MOST_SIZES]}, {len(order.peers)} peers"
        )
