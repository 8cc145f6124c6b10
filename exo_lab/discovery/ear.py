"""What becomes of each datagram that arrives: refused with a reason, a repetition, or news of a node. No sockets.

The cheap questions come first; the signature, which costs a tenth of a millisecond, is checked last. Nothing that is
remembered of a node comes from somebody without the cluster's key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from exo_lab.core.messages import PROTOCOL_VERSION
from exo_lab.discovery import hearing as h
from exo_lab.discovery.allowance import Allowance
from exo_lab.discovery.announcement import MAX_DATAGRAM_BYTES, Refused, check, check_member, read
from exo_lab.discovery.base import Found
from exo_lab.discovery.interfaces import kind_of, path_to
from exo_lab.discovery.strangers import Strangers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.discovery.announcement import Announcement
    from exo_lab.discovery.interfaces import Interface


class Heard(NamedTuple):
    """What a datagram changed: what is seen or wrong (`news`), and whether its writer was unknown (`newcomer`)."""

    news: bool = False
    newcomer: bool = False


class Ear:
    """Keeps who was heard. Time is handed in, seconds of one monotonic clock.

    Args:
        own_id: this node's id.
        own_run: the random number in this node's announcements.
        tag: of the cluster.
        key: of the cluster, for the proof in its members' announcements.
        ttl_s: how long an address counts without being announced again.
    """

    def __init__(self, *, own_id: str, own_run: int, tag: str, key: bytes, ttl_s: float) -> None:
        self._own_id, self._own_run, self._tag, self._key, self._ttl_s = own_id, own_run, tag, key, ttl_s
        self._hearing = h.Hearing()
        self._allowance = Allowance()
        self.strangers = Strangers()
        self.heard = 0
        self.echoes: dict[str, int] = {}

    @property
    def sightings(self) -> tuple[Found, ...]:
        """What is seen now."""
        return h.sightings(self._hearing)

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with what was heard."""
        return (*h.duplicates(self._hearing), *self.strangers.problems())

    @property
    def next_expiry(self) -> float | None:
        """When something will be forgotten; None if nothing is known."""
        return h.next_expiry(self._hearing, self._ttl_s)

    def forget(self, now: float) -> None:
        """Forget who was silent too long."""
        self._hearing = h.expire(self._hearing, now, self._ttl_s)
        self.strangers.forget(now)

    def take(self, data: bytes, host: str, ours: Sequence[Interface], now: float) -> Heard:
        """One datagram from an address. `ours` are this machine's interfaces. Never raises."""
        outcome = self._take(data, host, ours, now)
        if isinstance(outcome, Refused):
            return Heard(news=self.strangers.refuse(outcome, host, now))
        return outcome

    def _take(self, data: bytes, host: str, ours: Sequence[Interface], now: float) -> Heard | Refused:
        if len(data) > MAX_DATAGRAM_BYTES:
            return Refused("too large", f"{len(data)} bytes")
        if not self._allowance.take(host, now):
            return Refused("too often")
        sealed = read(data)
        if isinstance(sealed, Refused):
            return sealed
        said = sealed.announcement
        if said.tag != self._tag:
            return Refused("another cluster", said.name)
        stranger = check_member(sealed, self._key)
        if stranger is not None:
            return stranger
        is_own_id = said.device_id == self._own_id
        if is_own_id and said.run == self._own_run:
            path = path_to(host, ours)
            name = path.name if path is not None else host
            if len(self.echoes) < 64 or name in self.echoes:
                self.echoes[name] = self.echoes.get(name, 0) + 1
            return Heard()
        if said.protocol != PROTOCOL_VERSION:
            return Refused("another protocol", f"{said.name} speaks protocol {said.protocol}")
        if not h.is_news(self._hearing, said):
            return Refused("repeated")
        wrong = check(sealed)
        if wrong is not None:
            return wrong
        self.heard += 1
        if is_own_id:
            return Refused("same identity", said.name)
        return self._hear(said, host, ours, now)

    def _hear(self, said: Announcement, host: str, ours: Sequence[Interface], now: float) -> Heard | Refused:
        before = self._hearing
        after = h.hear(before, said, _found(said, host, ours), now, host)
        if isinstance(after, Refused):
            return after
        self._hearing = after
        return Heard(
            news=h.sightings(after) != h.sightings(before) or h.duplicates(after) != h.duplicates(before),
            newcomer=said.device_id not in before.runs or not before.runs[said.device_id].entries,
        )


def _found(said: Announcement, host: str, ours: Sequence[Interface]) -> Found:
    path = path_to(host, ours)
    return Found(
        address=said.controls[0],
        source=f"UDP on {path.name}" if path is not None else "UDP",
        name=said.name,
        device_id=said.device_id,
        interface=path.name if path is not None else "",
        kind=kind_of(host, ours),
    )
