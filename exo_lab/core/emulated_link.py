"""A slower network than there is, as people write it: "20ms,100Mbit". Pure."""

from __future__ import annotations

import re

import msgspec

from exo_lab.core.errors import ConfigError

_LATENCY = re.compile(r"(\d+(?:\.\d*)?)\s*(us|ms|s)")
_RATE = re.compile(r"(\d+(?:\.\d*)?)\s*([kmg])(?:bit(?:/s)?|bps)", re.IGNORECASE)
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_BITS = {"k": 1e3, "m": 1e6, "g": 1e9}
LONGEST_S = 60.0


class EmulatedLink(msgspec.Struct, frozen=True, kw_only=True):
    """The way between one node and all others, each way: seconds for any frame, bytes a second (0: no limit)."""

    latency_s: float = 0.0
    bandwidth_bytes_per_s: float = 0.0

    @property
    def text(self) -> str:
        """For people: "link 20 ms, 100 Mbit/s"."""
        parts = [f"{self.latency_s * 1e3:g} ms"] if self.latency_s else []
        if self.bandwidth_bytes_per_s:
            parts.append(f"{self.bandwidth_bytes_per_s * 8 / 1e6:g} Mbit/s")
        return f"link {', '.join(parts)}"


def parse_link(text: str) -> EmulatedLink:
    """A latency, a rate, or both with a comma between them.

    Raises:
        ConfigError: it is neither, or one of them twice, or nothing, or out of reason.
    """
    found: dict[str, float] = {}
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        latency, rate = _LATENCY.fullmatch(part), _RATE.fullmatch(part)
        if latency is not None:
            found["latency_s"] = float(latency[1]) * _SECONDS[latency[2]]
        elif rate is not None:
            found["bandwidth_bytes_per_s"] = float(rate[1]) * _BITS[rate[2].lower()] / 8
    if len(found) != len(parts) or not all(found.values()) or found.get("latency_s", 0.0) > LONGEST_S:
        raise ConfigError(f"{text!r} is no link; write a latency, a rate or both, such as 20ms,100Mbit")
    return EmulatedLink(**found)
