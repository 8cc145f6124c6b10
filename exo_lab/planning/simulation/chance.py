"""Repeatable chance: the same numbers from the same seed on every machine. Pure; nothing here is for secrets."""

from __future__ import annotations

import math

_MASK = (1 << 64) - 1


class Chance:
    """SplitMix64 (Steele, Lea and Flood 2014), from a seed."""

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def exponential(self) -> float:
        """The next number of an exponential distribution with mean 1."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        mixed = self._state
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        uniform = ((mixed ^ (mixed >> 31)) >> 11) * 2.0**-53  # [0, 1)
        return -math.log1p(-uniform)
