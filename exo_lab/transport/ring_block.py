"""A ring of records in memory that two processes share: one writer, one reader, no lock and no waiting.

Knows bytes only: not where the memory comes from, nor how the reader learns of a record. That is the doorbell, a ticket
with position and size that is handed over *after* the record is whole, so that a writer that dies in the middle of one
leaves nothing to read. Positions count the bytes that ever went through: none comes twice, so that each is its record's
generation as well. It stands in front of the record and behind it, and is compared before and after the copy.

Neither side believes the other. Offsets and sizes are checked against what this side knows, never read from the memory,
and a counter that cannot be is the end of the ring and of nothing else.
"""

from __future__ import annotations

import secrets
from typing import NamedTuple

from exo_lab.transport.frames import Malformed

HEADER_BYTES = 4096
ALIGNMENT = 64  # records begin and end on a cache line
_HEAD_BYTES, _TAIL_BYTES = 16, 8
_MAX_POSITION = 1 << 62

# The header's 8-byte words. What the two sides write lies on different cache lines.
_MAGIC, _CAPACITY, _ID, _WRITER_LEFT = 0, 1, 2, 4
_READ, _ANSWER, _READER_PID, _READER_LEFT = 64, 66, 68, 69
_MAGIC_WORD = int.from_bytes(b"exo-ring", "little")


class Span(NamedTuple):
    """Where a record is: its position and the bytes of its payload."""

    position: int
    size: int


class Ring:
    """The header of a ring, which both sides have.

    Args:
        memory: writable bytes, `HEADER_BYTES` more than the capacity; a multiple of `ALIGNMENT`.
    """

    def __init__(self, memory: memoryview) -> None:
        self.memory, self.words = memory, memory.cast("Q")
        self.capacity = memory.nbytes - HEADER_BYTES

    @classmethod
    def made_in(cls, memory: memoryview) -> Ring:
        """A new ring in memory that is all zero, with an id that nobody can guess."""
        ring = cls(memory)
        ring.words[_CAPACITY] = ring.capacity
        ring._put(_ID, secrets.token_bytes(16))
        ring.words[_MAGIC] = _MAGIC_WORD
        return ring

    @property
    def id(self) -> bytes:
        """16 bytes."""
        return self._get(_ID)

    @property
    def valid(self) -> bool:
        """Does the header say what a ring of this size says?"""
        return self.words[_MAGIC] == _MAGIC_WORD and self.words[_CAPACITY] == self.capacity

    def answer(self, answer: bytes, pid: int) -> None:
        """The reader's proof that it sees this memory: 16 bytes that it was told elsewhere, and its process."""
        self.words[_READER_PID] = pid
        self._put(_ANSWER, answer)

    def answered(self, answer: bytes) -> int | None:
        """The reader's process once it has given the right answer."""
        return self.words[_READER_PID] if secrets.compare_digest(self._get(_ANSWER), answer) else None

    @property
    def writer_left(self) -> bool:
        """Will nothing more be written?"""
        return self.words[_WRITER_LEFT] != 0

    @property
    def reader_left(self) -> bool:
        """Will nothing more be read?"""
        return self.words[_READER_LEFT] != 0

    def leave(self, *, writer: bool) -> None:
        """Tell the other side that this one is done."""
        self.words[_WRITER_LEFT if writer else _READER_LEFT] = 1

    def release(self) -> None:
        """Let go of the memory, so that it can be unmapped."""
        self.words.release()
        self.memory.release()

    def _put(self, word: int, value: bytes) -> None:
        self.words[word] = int.from_bytes(value[:8], "little")
        self.words[word + 1] = int.from_bytes(value[8:], "little")

    def _get(self, word: int) -> bytes:
        return self.words[word].to_bytes(8, "little") + self.words[word + 1].to_bytes(8, "little")


class Writer:
    """Puts records into a ring. A record counts once it is committed; until then the next one takes its place."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._written = self._floor = self._read = 0  # nothing below the floor is in use, whatever was read
        self._pending: tuple[int, int] | None = None  # (end, floor) once committed

    @property
    def written(self) -> int:
        """The position behind the last record that was committed."""
        return self._written

    def put(self, payload: bytes | memoryview) -> Span | None:
        """Copy a payload of at least one byte into the ring; None if there is no room for it now.

        Raises:
            Malformed: the reader claims to have read what was never written, or has gone back.
        """
        ring, size = self._ring, len(payload)
        needed, capacity = record_bytes(size), ring.capacity
        read = ring.words[_READ]
        if not self._read <= read <= self._written:
            raise Malformed("shared ring", f"the reader stands at {read}, not in [{self._read}, {self._written}]")
        self._read = read
        start, floor = self._written, max(read, self._floor)
        room_to_end = capacity - start % capacity
        if floor == start:
            # Empty. From the front again: the same few pages, which are in the cache, serve a quiet link for ever.
            start = floor = start if room_to_end == capacity else start + room_to_end
        elif needed > room_to_end:
            start += room_to_end
        if start + needed - floor > capacity:
            return None
        offset = HEADER_BYTES + start % capacity
        words = offset // 8
        ring.words[words], ring.words[words + 1] = start, size
        ring.memory[offset + _HEAD_BYTES : offset + _HEAD_BYTES + size] = payload
        ring.words[(offset + needed) // 8 - 1] = start
        self._pending = start + needed, floor
        return Span(start, size)

    def commit(self) -> None:
        """The record that was put last is on its way to the reader."""
        if self._pending is not None:
            (self._written, self._floor), self._pending = self._pending, None


class Reader:
    """Takes records out of a ring, in order. What was skipped is free again with the next one."""

    def __init__(self, ring: Ring) -> None:
        self._ring, self._read = ring, 0

    def take(self, span: Span) -> bytes:
        """A copy of a record's payload; its room is free again.

        Raises:
            Malformed: there is no such record: outside the ring, of the past, overwritten or not whole.
        """
        ring, (position, size) = self._ring, span
        needed = record_bytes(size)
        offset = position % ring.capacity
        if not (0 <= position < _MAX_POSITION and position % ALIGNMENT == 0 and size > 0):
            raise Malformed("shared ring", f"no record can be at {position} with {size} bytes")
        if offset + needed > ring.capacity:
            raise Malformed("shared ring", f"{size} bytes at {offset} go beyond a ring of {ring.capacity}")
        if position < self._read:
            raise Malformed("shared ring", f"the record at {position} was passed over: {self._read} is next")
        offset += HEADER_BYTES
        self._check(span, offset, needed)
        payload = bytes(ring.memory[offset + _HEAD_BYTES : offset + _HEAD_BYTES + size])
        self._check(span, offset, needed)
        self.skip_to(position + needed)
        return payload

    def skip_to(self, position: int) -> None:
        """Everything before a position is free: what was never taken will not come any more."""
        if self._read < position < _MAX_POSITION:
            self._read = self._ring.words[_READ] = position

    def _check(self, span: Span, offset: int, needed: int) -> None:
        words = self._ring.words
        found = words[offset // 8], words[offset // 8 + 1], words[(offset + needed) // 8 - 1]
        if found != (span.position, span.size, span.position):
            raise Malformed("shared ring", f"no whole record at {span.position}: its marks are {found}")


def record_bytes(size: int) -> int:
    """What a payload takes in a ring."""
    return -(-(_HEAD_BYTES + size + _TAIL_BYTES) // ALIGNMENT) * ALIGNMENT
