"""What the rest of exo_lab sees of the network: two ports, and their counters.

A `ControlPort` asks and answers, on an asyncio loop. A `DataPort` moves frames one way, for one plain thread. Both
exist as sockets (`control`, `data`) and as in-process twins (`memory`). Knows no message's meaning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

    from exo_lab.core.messages import ControlMessage, DataMessage
    from exo_lab.core.tensor import Tensor
    from exo_lab.transport.frames import Buffer, Part

    Handler = Callable[[ControlMessage], AsyncIterator[ControlMessage]]

DATA_TIMEOUT_S = 5.0


class ControlStats(msgspec.Struct, frozen=True, kw_only=True):
    """A control port's counters since it was made.

    `answered` and `asked` count requests; `late_replies` came after their request had ended; `refused` counts, by
    reason, what could not be understood or was too much.
    """

    answered: int = 0
    asked: int = 0
    late_replies: int = 0
    refused: dict[str, int] = {}


class DataStats(msgspec.Struct, frozen=True, kw_only=True):
    """A data port's counters since it was made. Bytes are those of the frames, headers included.

    `shared_in` and `shared_out` are those of the frames whose tensor went through shared memory. `refused` counts, by
    reason, frames that came and were dropped.
    """

    frames_in: int = 0
    frames_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    shared_in: int = 0
    shared_out: int = 0
    refused: dict[str, int] = {}


class ControlPort(Protocol):
    """Asks other nodes and answers them. Lives on one asyncio loop: that of the first call."""

    @property
    def address(self) -> str:
        """Where others reach it. Known before `start`."""
        ...

    async def start(self, handler: Handler) -> None:
        """Begin to answer. `handler(message)` yields the replies; when it ends, the answer is complete.

        An ExoError that it raises becomes a `Refused`; so does any other exception, which is also logged. Every
        request runs as a task of the port, which is cancelled when the asker gives up and when the port closes.
        """
        ...

    async def request(self, address: str, message: ControlMessage, *, timeout_s: float) -> ControlMessage:
        """Ask, and return the last reply (the only one, for most messages).

        Cancelling it, and the deadline, tell the other side to stop.

        Raises:
            PeerUnreachable: no complete answer within `timeout_s`, or the address cannot be used.
            TransportError: this port was closed meanwhile.
            ExoError: what the other side raised, as the same class.
        """
        ...

    def stream(self, address: str, message: ControlMessage, *, timeout_s: float) -> AsyncGenerator[ControlMessage]:
        """Ask, and yield every reply as it comes. `timeout_s` is the longest wait for one reply.

        Closing the iterator early tells the other side to stop. Raises as `request` does.
        """
        ...

    def on_cut(self, listener: Callable[[str], object]) -> None:
        """Call `listener(address)` on the loop when the connection to an address that was asked breaks.

        A process that ends closes its sockets, so it comes at once; a cable that is pulled is only noticed by silence.
        """
        ...

    def stats(self) -> ControlStats:
        """The counters now. Any thread."""
        ...

    async def close(self) -> None:
        """End every request, both ways, and free the sockets. Idempotent; takes at most a few seconds."""
        ...


class DataPort(Protocol):
    """Sends and receives frames. For one thread, but for `post` and `stats`, which are for any."""

    @property
    def address(self) -> str:
        """Where others reach it."""
        ...

    def send(
        self, address: str, message: DataMessage, tensor: Tensor | None = None, timeout_s: float = DATA_TIMEOUT_S
    ) -> None:
        """Hand a frame to the network; blocks at most `timeout_s`. Connects when first needed.

        It returns when the frame is queued for a connected peer, not when it arrived. The tensor's bytes are copied
        by then.

        Raises:
            PeerUnreachable: there is no such peer, or it takes nothing (its queue is full), for `timeout_s`.
            FrameError: the frame is beyond the limits of `frames`.
            TransportError: the port is closed.
        """
        ...

    def recv(self, timeout_s: float) -> object | None:
        """The next thing: an object that was posted, else `(message, tensor)` from the network, else None in time.

        Frames that are wrong are counted and dropped. Raises TransportError once the port is closed.
        """
        ...

    def post(self, item: object) -> None:
        """Give the thread an object; `recv` returns it, at once if it waits. Any thread."""
        ...

    def forget(self, address: str) -> None:
        """Close the way to an address; what is still queued for it is dropped. The next `send` connects anew."""
        ...

    def shares_memory(self, address: str) -> bool:
        """Do large tensors for an address go through memory that both processes share? Any thread."""
        ...

    def stats(self) -> DataStats:
        """The counters now. Any thread."""
        ...

    def close(self) -> None:
        """Free the sockets. Idempotent. Call it in the thread that used the port."""
        ...


class SideChannel(Protocol):
    """Another way for the bytes of tensors, beside a data port's sockets, which keep the order and ring the bell.

    Between processes of one machine it is `shared_memory`. RDMA (UCX) plugs in here and nowhere else: an offer is the
    exchange of a registered buffer's key, a ticket is the address of a remote read, and what cannot go that way goes
    through the socket. Parts are those of `frames`. For the data thread, but for `carries`.
    """

    def carries(self, address: str) -> bool:
        """Do tensors for this address go this way? Any thread."""
        ...

    def pack(self, address: str, parts: list[Part]) -> list[Part]:
        """The frame as it is to be sent: with a ticket for the tensor, or as it was. `sent` makes it count."""
        ...

    def sent(self, address: str, parts: list[Part]) -> list[Part] | None:
        """Parts that `pack`, or this, gave were sent. What is to be sent to that address next, if anything."""
        ...

    def unpack(self, parts: Sequence[Buffer]) -> Sequence[Buffer] | None:
        """A frame as its sender meant it; None if it was only about this channel. Raises Malformed."""
        ...

    def forget(self, address: str) -> None:
        """Nothing more is sent to an address."""
        ...

    def sweep(self) -> None:
        """Free, now and then, what belonged to peers that are gone. Called often; cheap."""
        ...

    def close(self) -> None:
        """Free everything. Idempotent."""
        ...
