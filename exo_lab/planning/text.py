"""Figures for people. Pure."""

from __future__ import annotations


def size_text(size: float) -> str:
    """Bytes."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size:.0f} bytes"


def seconds_text(seconds: float) -> str:
    """A duration, three digits of it."""
    if seconds >= 1:
        return f"{seconds:.3g} s"
    if seconds >= 1e-3 or not seconds:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds * 1e6:.3g} us"


def count_text(number: int, noun: str) -> str:
    """So many of something."""
    return f"{number} {noun}{'s' * (number != 1)}"
