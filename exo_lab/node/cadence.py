"""How often a peer is asked. A node on a battery says in its card how seldom it wants to be woken. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from exo_lab.node.membership import Peer

MOST_S = 30.0  # no card can have a node's loss go unnoticed for longer than three of these
ROUND = 0.5  # a peer that is due within so much of this node's own interval is asked now, and not a round later


def interval_s(own_s: float, told_s: float) -> float:
    """Seconds between two pings of a peer: the longer of this node's own and what the peer's card says."""
    return max(own_s, min(told_s, MOST_S)) if told_s > 0 else own_s


class Due:
    """Who is to be asked now.

    Args:
        own_s: between two looks.
        every_s: how often a peer is asked, in seconds.
    """

    def __init__(self, own_s: float, every_s: Callable[[Peer], float]) -> None:
        self._own_s, self._every_s = own_s, every_s
        self._asked_at: dict[str, float] = {}

    def take(self, peers: Iterable[Peer], now: float) -> tuple[Peer, ...]:
        """Those peers that are due at `now`; they are asked by that."""
        present = tuple(peers)
        due = tuple(peer for peer in present if self._is_due(peer, now))
        asked = {peer.id: self._asked_at.get(peer.id, now) for peer in present}
        self._asked_at = {**asked, **{peer.id: now for peer in due}}
        return due

    def _is_due(self, peer: Peer, now: float) -> bool:
        asked_at = self._asked_at.get(peer.id)
        return asked_at is None or now - asked_at >= self._every_s(peer) - ROUND * self._own_s
