"""One node's share of ZeroMQ: the context, the cluster's keys, the doorkeeper, and the ports made of them."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import msgspec
import zmq

from exo_lab.core.errors import TransportError
from exo_lab.transport import control as _control
from exo_lab.transport import data as _data
from exo_lab.transport.base import ControlStats, DataStats
from exo_lab.transport.frames import MAX_TENSOR_BYTES
from exo_lab.transport.keys import ClusterKeys
from exo_lab.transport.zap import Doorkeeper, DoorStats

if TYPE_CHECKING:
    from exo_lab.transport.base import SideChannel

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 5.0


class TransportStats(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a node's transport counted: the door, and each port it made."""

    door: DoorStats
    control: tuple[ControlStats, ...] = ()
    data: tuple[DataStats, ...] = ()

    @property
    def refused(self) -> dict[str, int]:
        """What was turned away, by reason, over all of it."""
        total = dict(self.door.by_reason)
        for stats in (*self.control, *self.data):
            for reason, count in stats.refused.items():
                total[reason] = total.get(reason, 0) + count
        return total


class SecureContext:
    """A ZeroMQ context in which every socket is encrypted and admits holders of one token only.

    Close the ports first (each in its own thread or loop), then this.

    Raises:
        ConfigError: the token is weak.
    """

    def __init__(self, token: str) -> None:
        self._keys = ClusterKeys.from_token(token)
        self._context: zmq.Context[zmq.Socket[Any]] = zmq.Context()
        self._door = Doorkeeper(self._context, self._keys)
        self._controls: list[_control.ZmqControl] = []
        self._datas: list[_data.ZmqData] = []
        self._closed = False

    def control(self, bind_host: str = "127.0.0.1", port: int = 0, *, name: str = "") -> _control.ZmqControl:
        """A control port that listens on `bind_host`. TransportError if it cannot."""
        self._check_open()
        made = _control.ZmqControl(self._context, self._keys, bind_host, port, name=name, watch=self._door.watch)
        self._controls.append(made)
        return made

    def data(
        self,
        bind_host: str = "127.0.0.1",
        port: int = 0,
        *,
        high_water_mark: int = _data.HIGH_WATER_MARK,
        max_tensor_bytes: int = MAX_TENSOR_BYTES,
        side: SideChannel | None = None,
    ) -> _data.ZmqData:
        """A data port that listens on `bind_host`; `side` as for `ZmqData`. TransportError if it cannot."""
        self._check_open()
        made = _data.ZmqData(
            self._context,
            self._keys,
            bind_host,
            port,
            watch=self._door.watch,
            high_water_mark=high_water_mark,
            max_tensor_bytes=max_tensor_bytes,
            side=side,
        )
        self._datas.append(made)
        return made

    def _check_open(self) -> None:
        if self._closed:
            raise TransportError("this node's network is closed; connect again")

    def stats(self) -> TransportStats:
        """The counters now. Any thread."""
        return TransportStats(
            door=self._door.stats(),
            control=tuple(port.stats() for port in self._controls),
            data=tuple(port.stats() for port in self._datas),
        )

    def refused(self) -> dict[str, int]:
        """What was turned away, by reason."""
        return self.stats().refused

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> bool:
        """Free everything. Idempotent. False, and a warning, if a port is still in use after the deadline.

        A port that nobody runs any more is closed on the way. One that a thread still uses is not touched (a socket
        must not be closed under its user): its next call raises TransportError, and it frees itself then.
        """
        if self._closed:
            return True
        self._closed = True
        idle = [port.abandon() for port in self._controls if not port.closed]
        idle += [port.abandon() for port in self._datas if not port.closed]
        if all(idle):
            self._door.stop()
        # `term` waits for every socket; in a thread of its own, so that this call has a deadline all the same.
        ending = threading.Thread(target=self._context.term, name="exo-zmq-term", daemon=True)
        ending.start()
        ending.join(timeout_s)
        if ending.is_alive():
            log.warning("a port is still in use %g s after this node's network was told to close", timeout_s)
        return not ending.is_alive()
