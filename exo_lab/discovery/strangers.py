"""Whose announcements are not used, and why: counters, and the sentences for those that a person should know of."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from exo_lab.core.messages import PROTOCOL_VERSION

if TYPE_CHECKING:
    from exo_lab.discovery.announcement import Reason, Refused

MAX_REMEMBERED = 64  # addresses by reason; who floods the network is counted and not listed
REMEMBER_S = 60.0
_NOT_WORTH_A_WORD = ("repeated", "too large", "not an announcement", "malformed", "too many nodes")


class _Seen(NamedTuple):
    detail: str
    at: float


class Strangers:
    """Counts what was refused, and remembers for a minute who it was. Time is seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._refused: dict[str, int] = {}
        self._seen: dict[Reason, dict[str, _Seen]] = {}

    def refuse(self, refused: Refused, host: str, now: float) -> bool:
        """Count one. True if there is a new problem."""
        self._refused[refused.reason] = self._refused.get(refused.reason, 0) + 1
        if refused.reason in _NOT_WORTH_A_WORD:
            return False
        seen = self._seen.setdefault(refused.reason, {})
        if host not in seen and len(seen) >= MAX_REMEMBERED:
            return False
        is_new = host not in seen
        seen[host] = _Seen(refused.detail, now)
        return is_new

    def forget(self, now: float) -> None:
        """Forget who was not heard for a minute."""
        for reason, seen in self._seen.items():
            self._seen[reason] = {host: one for host, one in seen.items() if now - one.at < REMEMBER_S}

    @property
    def refused(self) -> dict[str, int]:
        """How many, by reason."""
        return dict(self._refused)

    @property
    def other_clusters(self) -> dict[str, str]:
        """Addresses that announce another cluster, with the names they give."""
        return self._who("another cluster")

    @property
    def other_versions(self) -> dict[str, str]:
        """Addresses that speak another protocol, with what they said."""
        return {**self._who("another protocol"), **self._who("another datagram version")}

    def _who(self, reason: Reason) -> dict[str, str]:
        return {host: one.detail for host, one in self._seen.get(reason, {}).items()}

    def problems(self) -> tuple[str, ...]:
        """Sentences that say what to do. That another cluster is near is none."""
        return (
            *(
                f"{host} announces another version ({detail}; here it is protocol {PROTOCOL_VERSION}). Install the "
                "same exo_lab on every node."
                for host, detail in self.other_versions.items()
            ),
            *(
                f"{host} sends announcements that are not genuine ({detail}). They are ignored; find out what runs "
                "there."
                for host, detail in self._who("forged").items()
            ),
            *(
                f"another node ({name}, at {host}) uses this node's identity: its file was copied. Delete the identity "
                "file on one of the two machines and start that node again."
                for host, name in self._who("same identity").items()
            ),
            *(
                f"{host} sends more announcements than are read. Find out what runs there."
                for host in self._who("too often")
            ),
        )
