"""Bytes, seconds and rates, as people write and read them. Pure; knows nothing of what is measured."""

from __future__ import annotations

import math
import re

_SIZE = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([kmgt]?i?b|[kmgt])\s*", re.IGNORECASE)
_DECIMAL = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
_BINARY = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}


def parse_size(text: str) -> int:
    """Bytes from "64MB" (decimal), "1.5GiB" (binary) or "512B".

    Raises:
        ValueError: no number, no unit, or nothing left after rounding; says what is accepted.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a size; write a number with a unit, such as 64MB or 1.5GiB")
    number, unit = float(match[1]), match[2].lower()
    scale = _BINARY if "i" in unit else _DECIMAL
    size_bytes = round(number * scale[unit.rstrip("b").rstrip("i")])
    if size_bytes < 1:
        raise ValueError(f"{text!r} is less than one byte")
    return size_bytes


def show_bytes(size_bytes: int) -> str:
    """1536 -> "1.5 KiB". Three significant digits, binary units."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 999.5 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{_three(value)} {unit}"


def show_seconds(duration_s: float) -> str:
    """0.0123 -> "12.3 ms". From microseconds to minutes."""
    if not math.isfinite(duration_s):
        return "?"
    if duration_s < 0.9995e-3:
        return f"{duration_s * 1e6:.0f} µs"
    if duration_s < 0.9995:
        return f"{_three(duration_s * 1e3)} ms"
    if duration_s < 99.95:
        return f"{_three(duration_s)} s"
    minutes, seconds = divmod(round(duration_s), 60)
    return f"{minutes} min {seconds:02d} s"


def show_rate(per_s: float) -> str:
    """Tokens a second: 31.234 -> "31.2 tok/s"."""
    return f"{_three(per_s)} tok/s"


def show_bandwidth(bytes_per_s: float) -> str:
    """1.2e9 -> "1.20 GB/s". Decimal units, as networks are sold."""
    if not math.isfinite(bytes_per_s):
        return "?"
    for unit, scale in (("GB/s", 1e9), ("MB/s", 1e6)):
        if bytes_per_s >= 0.9995 * scale:
            return f"{_three(bytes_per_s / scale)} {unit}"
    return f"{_three(bytes_per_s / 1e3)} kB/s"


def show_count(count: int, noun: str) -> str:
    """1 -> "1 node", 3 -> "3 nodes"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def show_layers(start: int, end: int) -> str:
    """The half-open range [start, end) as people say it: the last layer is named."""
    return f"{start}" if end - start == 1 else f"{start}–{end - 1}"  # noqa: RUF001 - an en dash is meant


def _three(value: float) -> str:
    """Three significant digits without an exponent."""
    if value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
