"""What a test of the network found: each link by itself, and what it means for the loaded models. Pure.

A link is tested by frames between two nodes' data threads, as the ring sends them: the payload goes one way, an empty
frame comes back. So what a frame of n bytes takes one way is its round trip less the latency, half of the median round
trip of empty frames.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

SIZES = (2 << 10, 16 << 10, 128 << 10, 1 << 20, 4 << 20)  # bytes


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """Frames of one size, one way. `seconds`: the median, latency included; None if none came back."""

    size_bytes: int
    seconds: float | None
    sent: int

    @property
    def bytes_per_s(self) -> float | None:
        """What a sender of such frames gets out of the link."""
        return self.size_bytes / self.seconds if self.seconds else None


class LinkProbe(msgspec.Struct, frozen=True, kw_only=True):
    """The link from node `a` to node `b`, as `a` measured it. Latencies in seconds, one way; None: nothing came back.

    `bandwidth_bytes_per_s`: of the largest frames, less the latency. `sent` and `lost` count the frames of all sizes;
    lost is what did not come back in time. `remark` says what was left out, and why.
    """

    a: str
    b: str
    p50_s: float | None = None
    p99_s: float | None = None
    pings: int = 0
    transfers: tuple[Transfer, ...] = ()
    bandwidth_bytes_per_s: float | None = None
    sent: int = 0
    lost: int = 0
    sent_bytes: int = 0
    remark: str = ""

    @property
    def loss(self) -> float | None:
        """Share of frames that did not come back, in [0, 1]; None if none was sent."""
        return self.lost / self.sent if self.sent else None


class ProbeLinks(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Test your links to these nodes: empty frames and frames of `sizes` bytes; answered by `Progress`* then `Probed`.

    Refused while a generation runs there, unless `while_busy`, and while it tests for somebody else.
    """

    peers: tuple[str, ...]
    sizes: tuple[int, ...] = SIZES
    pings: int = 100
    while_busy: bool = False


class Probed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What was found, in the order of the peers that were asked about."""

    links: tuple[LinkProbe, ...]


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """Predicted tokens a second of one request on a loaded plan: with what was known before, and with this test."""

    model: str
    before_per_s: float
    after_per_s: float


class NetworkReport(msgspec.Struct, frozen=True, kw_only=True):
    """A test of links. `at_s`: seconds since the epoch (UTC); `refused`: (node, why) of who did not test."""

    at_s: float
    nodes: dict[str, str]  # names by id
    probes: tuple[LinkProbe, ...]
    refused: tuple[tuple[str, str], ...] = ()
    effects: tuple[Effect, ...] = ()

    def probe(self, a: str, b: str) -> LinkProbe | None:
        """What a measured of the way to b."""
        return next((one for one in self.probes if (one.a, one.b) == (a, b)), None)


# What came of one frame: seconds there and back, None if it did not come in time.
RoundTrip = float | None


def summarise(
    a: str, b: str, pings: Sequence[RoundTrip], loads: Sequence[tuple[int, Sequence[RoundTrip]]], remark: str = ""
) -> LinkProbe:
    """A link's figures from round trips of empty frames, and of frames by their size in bytes."""
    empty_s = [one for one in pings if one is not None]
    frames = [*pings, *(one for _, trips in loads for one in trips)]
    lost = sum(one is None for one in frames)
    sent_bytes = sum(size * len(trips) for size, trips in loads)
    counted = LinkProbe(a=a, b=b, pings=len(pings), sent=len(frames), lost=lost, sent_bytes=sent_bytes, remark=remark)
    if not empty_s:
        return counted
    latency_s = statistics.median(empty_s) / 2
    transfers = tuple(_transfer(size, trips, latency_s) for size, trips in loads if trips)
    largest = max(transfers, key=lambda one: one.size_bytes, default=None)
    moving_s = None if largest is None or largest.seconds is None else largest.seconds - latency_s
    return msgspec.structs.replace(
        counted,
        p50_s=latency_s,
        p99_s=percentile(empty_s, 0.99) / 2,
        transfers=transfers,
        bandwidth_bytes_per_s=largest.size_bytes / moving_s if largest and moving_s and moving_s > 0 else None,
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that at least `share` of them do not exceed (nearest rank); of one value or more."""
    ordered = sorted(values)
    return ordered[max(0, -(-round(share * 100) * len(ordered) // 100) - 1)]


def _transfer(size: int, trips: Sequence[RoundTrip], latency_s: float) -> Transfer:
    came = [one for one in trips if one is not None]
    seconds = statistics.median(came) - latency_s if came else None
    return Transfer(size_bytes=size, seconds=seconds if seconds and seconds > 0 else None, sent=len(trips))
