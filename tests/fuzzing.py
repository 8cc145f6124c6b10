"""Wrong frames, as many as wanted: good messages of every type, bent in one place or broken in many.

`EXO_LAB_FUZZ_FRAMES` says how many every socket gets; the seed is fixed, so a failure repeats. `Steady` watches that
memory stays flat under them.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import random
from typing import Any

import msgspec
import psutil

FRAMES = int(os.environ.get("EXO_LAB_FUZZ_FRAMES", "100000"))
# Over half of 100,000 frames of hundreds of bytes, more as objects: to keep them would take several times this.
# 300,000 frames left as much behind as 100,000: what grows is the heap of a busy process, and to a bound.
GROWS_AT_MOST_BYTES = 24 << 20
WARM = 0.5  # of the frames: until then tables, caches and heaps may grow to their bounds

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, -(2**31), 2**53, 2**63 - 1, 2**64 - 1, -(2**63), 0.0, -0.0, 1e308, float("inf"),
    float("nan"), "", "x", "../../etc/passwd", "\0", "\ud7ff", "x" * 70_000, b"", b"\0" * 1000, [], [[]], {}, {"": []},
    [0] * 300, ["x"] * 5000, [[[[[[[[]]]]]]]], "tcp://127.0.0.1:1", "memory://n0", "inproc://zeromq.zap.01",
)  # fmt: skip


def bend(rng: random.Random, packed: bytes) -> bytes:
    """One value somewhere in a packed message becomes another, odd one: still msgpack, no longer right."""
    tree = msgspec.msgpack.decode(packed)
    places = list(_places(tree))
    if not places:
        return msgspec.msgpack.encode(rng.choice(ODD_VALUES))
    holder, key = rng.choice(places)
    match rng.randrange(4):
        case 0 if isinstance(holder, dict):
            del holder[key]
        case 1 if isinstance(holder, list):
            holder.insert(key, rng.choice(ODD_VALUES))
        case 2 if isinstance(holder[key], int) and not isinstance(holder[key], bool):
            holder[key] = max(-(2**63), min(2**64 - 1, holder[key] + rng.choice((-1, 1, 1000, -1000, 2**40))))
        case _:
            holder[key] = rng.choice(ODD_VALUES)
    return msgspec.msgpack.encode(tree)


def break_bytes(rng: random.Random, data: bytes) -> bytes:
    """Some bytes changed, cut out, repeated or added."""
    raw = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        at = rng.randrange(len(raw) + 1)
        match rng.randrange(5):
            case 0 if at < len(raw):
                raw[at] ^= 1 << rng.randrange(8)
            case 1:
                del raw[at : at + rng.choice((1, 2, 16, 1000))]
            case 2:
                raw[at:at] = rng.randbytes(rng.choice((1, 2, 16)))
            case 3:
                raw[at:at] = raw[max(0, at - 16) : at]
            case _:
                del raw[at:]
    return bytes(raw)


def wrong(rng: random.Random, packed: bytes) -> bytes:
    """Bent, broken, or random altogether."""
    kind = rng.random()
    if kind < 0.6:
        return bend(rng, packed)
    return break_bytes(rng, packed) if kind < 0.95 else rng.randbytes(rng.randrange(200))


class Steady:
    """Resident memory of this process: flat from half of the frames on, or `check` says how much was kept."""

    def __init__(self, frames: int = FRAMES) -> None:
        self._warm_at, self._frames, self._before = int(frames * WARM), frames, 0

    def frame(self, number: int) -> None:
        """That frame is next."""
        if number == self._warm_at:
            self._before = _resident_bytes()

    def check(self) -> None:
        """All frames were handled."""
        grown = _resident_bytes() - self._before
        assert self._before, "memory was never measured"
        assert grown < GROWS_AT_MOST_BYTES, f"{self._frames} wrong frames left {grown / 2**20:.1f} MiB behind"


def _resident_bytes() -> int:
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # elsewhere than with glibc
        # What was freed and is kept for later is no leak; how much that is depends on how busy the machine is.
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return psutil.Process().memory_info().rss


def _places(tree: Any) -> Any:
    keys = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from _places(tree[key])
