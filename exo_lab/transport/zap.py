"""The doorkeeper of a ZeroMQ context: admits holders of the cluster's client key, counts everybody else.

A thread of its own answers ZeroMQ's authentication requests (ZAP, RFC 27) and reads the listening sockets' reports of
failed handshakes: who lacks the server key, or speaks no CURVE, fails before ZAP is ever asked.
"""

from __future__ import annotations

import hmac
import itertools
import logging
import threading
from typing import Any, NamedTuple

import msgspec
import zmq
from zmq.utils import z85
from zmq.utils.monitor import parse_monitor_message

from exo_lab.core.errors import TransportError
from exo_lab.transport.keys import ZAP_DOMAIN, ClusterKeys
from exo_lab.transport.mailbox import Mailbox
from exo_lab.transport.tally import Tally

log = logging.getLogger(__name__)

ZAP_ENDPOINT = "inproc://zeromq.zap.01"
MAX_ADDRESSES = 256
START_TIMEOUT_S = 5.0
WRONG_KEY = "client key of another cluster"
HANDSHAKE = "handshake failed (no or another secret)"

_FAILURES = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
_WATCHED = _FAILURES | zmq.EVENT_MONITOR_STOPPED
_numbers = itertools.count()


class DoorStats(msgspec.Struct, frozen=True, kw_only=True):
    """Who knocked since the start.

    `rejected_by_address` counts those that ZAP turned away; a handshake that failed earlier has no address and is in
    `rejected` and `by_reason` only.
    """

    admitted: int = 0
    rejected: int = 0
    by_reason: dict[str, int] = {}
    rejected_by_address: dict[str, int] = {}


class _Watch(NamedTuple):
    monitor: zmq.Socket[Any]


class _Stop(NamedTuple):
    pass


class Doorkeeper:
    """Guards every listening socket of one context. Ready when the constructor returns; `stop` ends the thread.

    Raises:
        TransportError: the context has a doorkeeper already, or the thread did not start.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[Any]], keys: ClusterKeys) -> None:
        self._context = context
        self._key = z85.decode(keys.client_public)
        self._reasons = Tally(log, "doorkeeper")
        self._addresses = Tally(None, "address", MAX_ADDRESSES)
        self._admitted = 0
        self._mailbox = Mailbox()
        zap = context.socket(zmq.REP)
        zap.setsockopt(zmq.LINGER, 0)
        try:
            zap.bind(ZAP_ENDPOINT)  # here and not in the thread: from now on nobody slips past
        except zmq.ZMQError as exc:
            zap.close()
            self._mailbox.close()
            raise TransportError(f"this ZeroMQ context has a doorkeeper already: {exc}") from exc
        self._thread = threading.Thread(target=self._loop, args=(zap,), name="exo-zap", daemon=True)
        self._thread.start()

    def watch(self, socket: zmq.Socket[Any]) -> None:
        """Count the handshakes that fail on a listening socket. Before `bind`; in the thread that owns the socket.

        Call `socket.disable_monitor()` before it is closed.
        """
        endpoint = f"inproc://exo-door-{next(_numbers)}"
        socket.monitor(endpoint, _WATCHED)
        monitor = self._context.socket(zmq.PAIR)
        monitor.setsockopt(zmq.LINGER, 0)
        monitor.connect(endpoint)
        self._mailbox.post(_Watch(monitor))

    def stats(self) -> DoorStats:
        """The counters now. Any thread."""
        reasons = self._reasons.snapshot()
        return DoorStats(
            admitted=self._admitted,
            rejected=sum(reasons.values()),
            by_reason=reasons,
            rejected_by_address=self._addresses.snapshot(),
        )

    def stop(self, timeout_s: float = 2.0) -> bool:
        """End the thread. False if it did not end in time. Idempotent."""
        if self._thread.is_alive():
            self._mailbox.post(_Stop())
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # -- the thread --------------------------------------------------------------------------------------

    def _loop(self, zap: zmq.Socket[Any]) -> None:
        monitors: set[zmq.Socket[Any]] = set()
        poller = zmq.Poller()
        poller.register(zap, zmq.POLLIN)
        poller.register(self._mailbox.receiver, zmq.POLLIN)
        try:
            while True:
                for ready, _ in poller.poll():
                    if ready is zap:
                        zap.send_multipart(self._decide(zap.recv_multipart()))
                    elif ready in monitors and self._report(ready):
                        poller.unregister(ready)
                        monitors.discard(ready)
                        ready.close()
                self._mailbox.quiet()
                while (order := self._mailbox.take()) is not None:
                    if isinstance(order, _Stop):
                        return
                    if isinstance(order, _Watch):
                        monitors.add(order.monitor)
                        poller.register(order.monitor, zmq.POLLIN)
        except zmq.ContextTerminated:
            log.debug("the context ended before its doorkeeper")
        finally:
            zap.close()
            for monitor in monitors:
                monitor.close()
            self._mailbox.close()

    def _decide(self, request: list[bytes]) -> list[bytes]:
        """The answer to a ZAP request: version, id, status code, status text, user id, metadata."""
        version, sequence, domain, address, mechanism, key = _parts(request)
        if version == b"1.0" and domain == ZAP_DOMAIN and mechanism == b"CURVE":
            if hmac.compare_digest(key, self._key):
                self._admitted += 1
                # No user id: ZeroMQ would queue it as a message that is never read, which wakes polls for nothing and
                # takes a place below the high-water mark for ever.
                return [b"1.0", sequence, b"200", b"OK", b"", b""]
            self._reasons.add(WRONG_KEY, f"from {address}")
        else:
            self._reasons.add("not CURVE", f"from {address}")
        self._addresses.add(address)
        return [b"1.0", sequence, b"400", b"no", b"", b""]

    def _report(self, monitor: zmq.Socket[Any]) -> bool:
        """Read one report of a listening socket; True if it was the last."""
        event = parse_monitor_message(monitor.recv_multipart())
        if event["event"] == zmq.EVENT_MONITOR_STOPPED:
            return True
        self._reasons.add(HANDSHAKE, f"at {event['endpoint'].decode(errors='replace')}, code {event['value']}")
        return False


def _parts(request: list[bytes]) -> tuple[bytes, bytes, bytes, str, bytes, bytes]:
    """version, sequence, domain, address, mechanism, first credential; empty where the request has none."""
    padded = [*request, *[b""] * (7 - len(request))]
    return padded[0], padded[1], padded[2], padded[3].decode(errors="replace")[:64], padded[5], padded[6]
