"""By which address each peer is reached: what the discoveries see, what was proved by answering, which is the best.

No clock, no sockets. An address is proved when a signed card came back from it, and doubted again when it falls silent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.discovery.merge import choose, merge

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from exo_lab.discovery.base import Found
    from exo_lab.node.membership import Members

MAX_ADDRESSES = 1024  # in sight at once; announcements are free, and greeting is not


class Ways:
    """For the control loop."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[Found, ...]] = {}  # by discovery
        self._proved: dict[str, str] = {}  # device id by address

    def see(self, discovery: str, found: Sequence[Found]) -> tuple[str, ...]:
        """What a discovery sees now. Returns addresses that are out of sight since."""
        before = {one.address for one in self.in_sight()}
        self._found[discovery] = tuple(found)[:MAX_ADDRESSES]
        now = {one.address for one in self.in_sight()}
        self._proved = {address: owner for address, owner in self._proved.items() if address in now}
        return tuple(sorted(before - now))

    def in_sight(self) -> Iterable[Found]:
        """Everything that is seen, with repeats."""
        return (one for group in self._found.values() for one in group)

    def prove(self, address: str, owner: str) -> None:
        """The node `owner` answered at an address that is in sight."""
        self._proved[address] = owner

    def doubt(self, address: str) -> None:
        """Nobody answers there any more; it is greeted again before it is used."""
        self._proved.pop(address, None)

    def to_greet(self, members: Members, own_id: str, own_address: str) -> tuple[Found, ...]:
        """One sighting for every address of which it is not known whose it is, or whose owner is no living member."""
        met = {peer.id for peer in members.alive()} | {own_id}
        new = {one.address: one for one in self.in_sight() if self._proved.get(one.address) not in met}
        new.pop(own_address, None)
        return tuple(new.values())

    def better(self, members: Members) -> tuple[tuple[str, Found], ...]:
        """Peers for which another address than the one in use is to be used, with that one's sighting."""
        latency_s = {peer.control: peer.latency_s for peer in members.alive() if peer.latency_s is not None}
        proved = [one for one in self.in_sight() if one.address in self._proved]
        changes: list[tuple[str, Found]] = []
        for node in merge(proved, known=self._proved, latency_s=latency_s):
            peer = members.peers.get(node.device_id)
            if peer is None or peer.liveness == "lost":
                continue
            way = choose(node, peer.control, latency_s=latency_s)
            if (way.address, way.kind) != (peer.control, peer.kind):
                changes.append((peer.id, way))
        return tuple(changes)
