"""Latency and bandwidth of a link, from pings. Cheap enough to run now and then on an idle link."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.errors import ConfigError, TransportError
from exo_lab.core.messages import Ping, Pong

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.transport.base import ControlPort

MAX_PAYLOAD_BYTES = 1 << 20
PING_TIMEOUT_S = 5.0


class LinkSample(msgspec.Struct, frozen=True, kw_only=True):
    """What a link was measured to be, by the control path.

    `latency_s` is one way: half the median round trip, handling on both ends included. `jitter_s` is the median
    absolute deviation of that. `bandwidth_bytes_per_s` is None if it was not measured, or if the payload was too
    small to take longer than the jitter. `samples` is the number of round trips behind each figure.
    """

    latency_s: float
    jitter_s: float
    bandwidth_bytes_per_s: float | None
    samples: int


async def measure(
    control: ControlPort, address: str, *, samples: int = 5, payload: int = 0, timeout_s: float = PING_TIMEOUT_S
) -> LinkSample:
    """Ping `address` one after the other, `samples` times empty and, if `payload` > 0, as often with it.

    Args:
        control: this node's port.
        address: the peer's control address.
        samples: round trips for each figure, at least 1.
        payload: bytes carried there and back for the bandwidth, at most 1 MiB; 0 for latency only.
        timeout_s: for each round trip.

    Raises:
        ConfigError: `samples` or `payload` out of range.
        PeerUnreachable: a ping was not answered in time.
    """
    if samples < 1 or not 0 <= payload <= MAX_PAYLOAD_BYTES:
        raise ConfigError(f"a probe needs samples >= 1 and payload in [0, 1 MiB], got {samples} and {payload}")
    await _round_trip_s(control, address, 0, b"", timeout_s)  # the first one makes the connection
    empty = [await _round_trip_s(control, address, 1 + i, b"", timeout_s) for i in range(samples)]
    data = bytes(payload)
    loaded = [
        await _round_trip_s(control, address, 1 + samples + i, data, timeout_s)
        for i in range(samples if payload else 0)
    ]
    return summarise(empty, loaded, payload)


def summarise(empty_s: Sequence[float], loaded_s: Sequence[float], payload: int) -> LinkSample:
    """A sample from round trips without and with a payload that travels both ways."""
    median = statistics.median(empty_s)
    jitter = statistics.median(abs(one - median) for one in empty_s)
    extra = statistics.median(loaded_s) - median if loaded_s else 0.0
    return LinkSample(
        latency_s=median / 2,
        jitter_s=jitter / 2,
        bandwidth_bytes_per_s=2 * payload / extra if extra > jitter else None,
        samples=len(empty_s),
    )


async def _round_trip_s(control: ControlPort, address: str, sequence: int, data: bytes, timeout_s: float) -> float:
    sent = time.perf_counter()
    reply = await control.request(address, Ping(sequence=sequence, payload=data), timeout_s=timeout_s)
    took_s = time.perf_counter() - sent
    if not isinstance(reply, Pong) or reply.sequence != sequence or len(reply.payload) != len(data):
        raise TransportError(f"{address} answered Ping {sequence} with {type(reply).__name__}, not with its Pong")
    return took_s
