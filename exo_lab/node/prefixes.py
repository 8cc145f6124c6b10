"""What a stage keeps of prompts that it has computed, for others that begin alike: chunks of KV cache by their names.

Bounded by a share of the memory that is free; what was not used for longest goes first, and of one prompt its end, so
that what is kept is always a beginning. Owned by the data thread. Knows no sessions and no frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_lab.engines.base import KvBlock
    from exo_lab.node.holds import PlanKey

SHARE = 0.25  # of the memory that would be free if nothing were kept
SPARE = 16  # of so many chunks one more goes than must


class _Name(NamedTuple):
    key: PlanKey
    prefix: bytes


class _Kept:
    """A chunk; `turn` is of the latest request that used it, `position` where it begins."""

    __slots__ = ("block", "position", "turn")

    def __init__(self, block: KvBlock, position: int, turn: int) -> None:
        self.block, self.position, self.turn = block, position, turn


class Prefixes:
    """See the module.

    Args:
        free_bytes: memory that is free now, what is kept here being taken. Asked for every chunk: takes no time.
    """

    def __init__(self, free_bytes: Callable[[], int]) -> None:
        self.nbytes = 0
        self._free_bytes = free_bytes
        self._kept: dict[_Name, _Kept] = {}
        self._turns = 0

    def __len__(self) -> int:
        return len(self._kept)

    def turn(self) -> int:
        """A number for a new request: higher than those before."""
        self._turns += 1
        return self._turns

    def find(self, key: PlanKey, prefix: bytes, turn: int) -> KvBlock | None:
        """The last chunk of a beginning; None if it is not kept. It was used now, if it is."""
        kept = self._kept.get(_Name(key, prefix))
        if kept is None:
            return None
        kept.turn = max(kept.turn, turn)
        return kept.block

    def has_room(self, key: PlanKey, before: bytes, nbytes: int, turn: int) -> bool:
        """Make room for a chunk that follows the beginning `before`. False if it is not worth keeping.

        Chunks that this request or a later one used do not make room: they are wanted more.
        """
        if before and self.find(key, before, turn) is None:
            return False  # nobody could get there
        room = self._allowed() - nbytes
        self._give_back(room, turn)
        return self.nbytes <= room

    def keep(self, key: PlanKey, prefix: bytes, position: int, block: KvBlock, turn: int) -> None:
        """Keep a chunk that begins at `position`; there is room."""
        self._kept[_Name(key, prefix)] = _Kept(block, position, turn)
        self.nbytes += block.nbytes

    def shrink(self, needed_bytes: int = 0) -> int:
        """Give back what is above the allowance if so much more is needed elsewhere; how many chunks that were."""
        if not self._kept:
            return 0
        before = len(self._kept)
        self._give_back(self._allowed(needed_bytes), self._turns + 1)
        return before - len(self._kept)

    def forget(self, key: PlanKey) -> None:
        """A plan's shard is gone, and with it what it computed."""
        for name in [name for name in self._kept if name.key == key]:
            self._drop(name)

    def _allowed(self, needed_bytes: int = 0) -> float:
        return SHARE * max(0, self._free_bytes() + self.nbytes - needed_bytes)

    def _give_back(self, room: float, turn: int) -> None:
        """Keep no more than `room`, if what was used before `turn` is enough for that.

        Of many chunks a few more go, so that they need not be put in order for each new one.
        """
        if self.nbytes <= room:
            return
        spare = len(self._kept) // SPARE
        # A request that uses a chunk has used those before it: of one turn, the last chunk has nothing behind it.
        for name in sorted(self._kept, key=lambda name: (self._kept[name].turn, -self._kept[name].position)):
            spare -= self.nbytes <= room
            if spare < 0 or self._kept[name].turn >= turn:
                return
            self._drop(name)

    def _drop(self, name: _Name) -> None:
        self.nbytes -= self._kept.pop(name).block.nbytes
