"""Nodes that share a process find each other without files or network: the twin of a registry, for tests and demos.

Knows no trust and no transport: it hands out control addresses, of whatever kind they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from exo_lab.discovery.base import Found

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from exo_lab.core.messages import NodeCard

SOURCE = "memory directory"

Sees = Callable[[str, str], bool]  # (name of who looks, name of who is there)


class MemoryDirectory:
    """Who is there now. Give the same one to every node that shall be found; all on one event loop.

    Args:
        sees: does the node of the first name see that of the second? Everybody sees everybody if None. It is how a
            chain is made, in which each node knows its neighbour only.
    """

    def __init__(self, sees: Sees | None = None) -> None:
        self._sees = sees
        self._cards: dict[str, NodeCard] = {}  # by control address
        self._changed: set[asyncio.Event] = set()

    def discovery(self) -> MemoryDiscovery:
        """One node's view of the directory."""
        return MemoryDiscovery(self)

    def enter(self, card: NodeCard) -> None:
        """Announce a card."""
        self._cards[card.control] = card
        self._tell()

    def leave(self, card: NodeCard) -> None:
        """Withdraw it. Idempotent."""
        if self._cards.pop(card.control, None) is not None:
            self._tell()

    def seen_by(self, card: NodeCard) -> tuple[Found, ...]:
        """Everybody else whom a node sees, by name."""
        return tuple(
            Found(
                address=other.control,
                source=SOURCE,
                name=other.device.name,
                device_id=other.device.id,
                interface="memory",
                kind="loopback",
            )
            for other in sorted(self._cards.values(), key=lambda one: (one.device.name, one.device.id))
            if other.control != card.control and (self._sees is None or self._sees(card.device.name, other.device.name))
        )

    def listen(self, changed: asyncio.Event) -> None:
        """Set this event at every change."""
        self._changed.add(changed)

    def ignore(self, changed: asyncio.Event) -> None:
        """Undo `listen`. Idempotent."""
        self._changed.discard(changed)

    def _tell(self) -> None:
        for event in self._changed:
            event.set()


class MemoryDiscovery:
    """See `Discovery`. Made by `MemoryDirectory.discovery`."""

    name = "memory"
    problems: tuple[str, ...] = ()

    def __init__(self, directory: MemoryDirectory) -> None:
        self._directory = directory
        self._changed = asyncio.Event()
        self._card: NodeCard | None = None

    async def watch(self, card: NodeCard) -> AsyncIterator[Sequence[Found]]:
        """Announce the card and yield who else is there, at once and on every change."""
        self._card = card
        self._directory.listen(self._changed)
        seen: tuple[Found, ...] | None = None
        try:
            self._directory.enter(card)
            while True:
                self._changed.clear()
                now = self._directory.seen_by(card)
                if now != seen:
                    seen = now
                    yield now
                else:
                    await self._changed.wait()
        finally:
            await self.close()

    async def close(self) -> None:
        """Withdraw the announcement. Idempotent."""
        self._directory.ignore(self._changed)
        if self._card is not None:
            self._directory.leave(self._card)
            self._card = None
