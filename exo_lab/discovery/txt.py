"""A datagram in the TXT record of a DNS-SD service (RFC 6763), as base64 in pieces. Knows nothing of what is in it."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

PIECE_CHARACTERS = 240  # an entry of a TXT record holds 255 bytes, its key included
MAX_PIECES = 8


def to_text(datagram: bytes) -> dict[str, str]:
    """A datagram as entries of a TXT record: s0, s1, ..."""
    text = base64.urlsafe_b64encode(datagram).decode()
    pieces = [text[i : i + PIECE_CHARACTERS] for i in range(0, len(text), PIECE_CHARACTERS)]
    return {f"s{i}": piece for i, piece in enumerate(pieces)}


def from_text(text: Mapping[str, str]) -> bytes:
    """The datagram in a TXT record; empty if there is none."""
    pieces = [text[f"s{i}"] for i in range(MAX_PIECES) if f"s{i}" in text]
    try:
        return base64.urlsafe_b64decode("".join(pieces).encode())
    except (binascii.Error, UnicodeEncodeError, ValueError):
        return b""
