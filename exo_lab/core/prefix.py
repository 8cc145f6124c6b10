"""Names of prompt beginnings: a hash over tokens and over how they were cut into chunks. Pure.

The same name means the same KV cache, bit for bit: what is cached of a position depends on the tokens before it and on
the sizes of the chunks in which they were computed, and on nothing else.
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME_BYTES = 16


def extend(prefix: bytes, tokens: Sequence[int]) -> bytes:
    """The name of what `prefix` names (b"": nothing) and one more chunk."""
    return blake2b(struct.pack(f"<{len(tokens)}i", *tokens), digest_size=NAME_BYTES, key=prefix).digest()
