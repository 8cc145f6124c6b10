"""Objects for a thread that waits in a ZeroMQ poll: any thread posts, that one takes.

A socket pair and not an eventfd, so that it works on Windows too.
"""

from __future__ import annotations

import socket
from collections import deque


class Mailbox:
    """`post` from any thread wakes a poll on `receiver`. `take` and `close` are for the owner only."""

    def __init__(self) -> None:
        self.receiver, self._sender = socket.socketpair()
        self.receiver.setblocking(False)
        self._sender.setblocking(False)
        self._items: deque[object] = deque()

    def post(self, item: object) -> None:
        """Leave an object; returns at once. After `close` it goes nowhere."""
        self._items.append(item)
        try:
            self._sender.send(b"\0")
        except OSError:
            # Full: the owner has wake-ups enough. Closed: nobody is left to wake.
            return

    def take(self) -> object | None:
        """The oldest object, or None."""
        return self._items.popleft() if self._items else None

    def quiet(self) -> None:
        """Clear the wake-ups. Call it before `take`, so that none is missed."""
        try:
            while len(self.receiver.recv(4096)) == 4096:
                pass
        except BlockingIOError:
            return

    def close(self) -> None:
        """Close both ends. Idempotent."""
        self._sender.close()
        self.receiver.close()
