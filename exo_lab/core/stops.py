"""Stop strings in a text that grows: where the first one begins, and what might still become one. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def first_stop(text: str, stops: Sequence[str], shown: int) -> int | None:
    """Where the first complete stop string begins; never before `shown`: what could have begun one was held back."""
    places = [text.find(stop, shown) for stop in stops]
    return min((place for place in places if place >= 0), default=None)


def held_back(text: str, stops: Sequence[str], shown: int) -> int:
    """Characters at the end, of those that are not shown yet, that could be the beginning of a stop string."""
    longest = max((len(stop) - 1 for stop in stops), default=0)
    for size in range(min(longest, len(text) - shown), 0, -1):
        if any(stop.startswith(text[-size:]) for stop in stops):
            return size
    return 0
