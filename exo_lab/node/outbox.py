"""Frames on their way out. One lane per address, so that a node that takes nothing holds up nobody else.

A frame goes out at once where it can. Where it cannot (no connection yet, a full queue) it waits its turn, in order,
until the lane has not moved for `timeout_s`: then everything in it comes back as unsent. Owned by the data thread.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from exo_lab.core.errors import FrameError, PeerUnreachable, TransportError
from exo_lab.core.messages import Cancel

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_lab.core.messages import DataMessage
    from exo_lab.core.tensor import Tensor
    from exo_lab.transport.base import DataPort

MAX_FRAMES = 256  # waiting frames, over all lanes, before a stage stops to compute more
MAX_BYTES = 64 << 20
FIRST_PAUSE_S, LAST_PAUSE_S = 0.001, 0.032  # between two tries; a connection takes 2 to 3 ms to be made


class Unsent(NamedTuple):
    """A frame that could not be delivered, and why. `node`: see `Outbox.send`."""

    address: str
    message: DataMessage
    error: TransportError
    node: str


class _Frame(NamedTuple):
    message: DataMessage
    tensor: Tensor | None
    node: str

    @property
    def nbytes(self) -> int:
        return 0 if self.tensor is None else self.tensor.nbytes


class _Lane:
    __slots__ = ("frames", "moved_at", "pause_s", "try_at")

    def __init__(self, now: float) -> None:
        self.frames: deque[_Frame] = deque()
        self.moved(now)

    def moved(self, now: float) -> None:
        self.moved_at, self.pause_s, self.try_at = now, FIRST_PAUSE_S, now + FIRST_PAUSE_S

    def refused(self, now: float) -> None:
        self.pause_s = min(2 * self.pause_s, LAST_PAUSE_S)
        self.try_at = now + self.pause_s


class Outbox:
    """See the module.

    Args:
        port: what sends. Only ever asked not to wait.
        timeout_s: how long an address may take nothing.
        clock: seconds, monotonic.
    """

    def __init__(self, port: DataPort, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._port, self._timeout_s, self._clock = port, timeout_s, clock
        self._lanes: dict[str, _Lane] = {}
        self._unsent: list[Unsent] = []
        self._frames = self._bytes = 0

    @property
    def waiting(self) -> bool:
        """Is there something that `flush` should try again, or report?"""
        return bool(self._lanes or self._unsent)

    @property
    def pause_s(self) -> float:
        """How long to wait at most before the next `flush`; a second if nothing waits."""
        if self._unsent:
            return 0.0
        return max(0.0, min((lane.try_at for lane in self._lanes.values()), default=self._clock() + 1) - self._clock())

    @property
    def full(self) -> bool:
        """Does so much wait that no more should be made?"""
        return self._frames >= MAX_FRAMES or self._bytes >= MAX_BYTES

    def send(self, address: str, message: DataMessage, tensor: Tensor | None = None, node: str = "") -> None:
        """Send now, or keep for later. Never waits; what cannot be sent at all is reported by `flush`.

        `node` is who is there, if it matters to whoever hears that it could not be reached.

        Raises:
            TransportError: the port is closed.
        """
        frame = _Frame(message, tensor, node)
        lane = self._lanes.get(address)
        if lane is None:
            if self._sent(address, frame):
                return
            lane = self._lanes[address] = _Lane(self._clock())
        lane.frames.append(frame)
        self._frames += 1
        self._bytes += frame.nbytes

    def flush(self) -> list[Unsent]:
        """Send what can be sent by now; returns what was given up since the last time."""
        for address, lane in list(self._lanes.items()):
            now = self._clock()
            if now < lane.try_at:
                continue
            while lane.frames and self._sent(address, lane.frames[0]):
                self._took(lane.frames.popleft())
                lane.moved(now)
            if not lane.frames:
                del self._lanes[address]
            elif now - lane.moved_at >= self._timeout_s:
                self._give_up(address)
            else:
                lane.refused(now)
        given_up, self._unsent = self._unsent, []
        return given_up

    def drop(self, request: str) -> None:
        """Forget what waits of a request, but for the word that it is over: without it others would keep it."""
        for lane in self._lanes.values():
            unwanted = [frame for frame in lane.frames if _unwanted(frame, request)]
            if unwanted:
                for frame in unwanted:
                    self._took(frame)
                lane.frames = deque(frame for frame in lane.frames if not _unwanted(frame, request))

    def forget(self, address: str) -> list[Unsent]:
        """A node is gone: close the way to it. What waited for it comes back."""
        lane = self._lanes.pop(address, None)
        self._port.forget(address)
        return self._given_up(address, lane, PeerUnreachable(f"{address} is gone")) if lane else []

    def _sent(self, address: str, frame: _Frame) -> bool:
        """True if there is nothing left to do about a frame."""
        try:
            self._port.send(address, frame.message, frame.tensor, 0.0)
        except PeerUnreachable:
            return False
        except FrameError as exc:
            self._unsent.append(Unsent(address, frame.message, exc, frame.node))  # too large, say: it will never go
        return True

    def _took(self, frame: _Frame) -> None:
        self._frames -= 1
        self._bytes -= frame.nbytes

    def _give_up(self, address: str) -> None:
        error = PeerUnreachable(
            f"{address} took no frame for {self._timeout_s:g} s. "
            "Is it running, in reach, and does it have the same token?"
        )
        self._unsent += self._given_up(address, self._lanes.pop(address), error)

    def _given_up(self, address: str, lane: _Lane, error: PeerUnreachable) -> list[Unsent]:
        for frame in lane.frames:
            self._took(frame)
        return [Unsent(address, frame.message, error, frame.node) for frame in lane.frames]


def _unwanted(frame: _Frame, request: str) -> bool:
    return frame.message.request == request and not isinstance(frame.message, Cancel)
