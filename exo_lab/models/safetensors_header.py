"""The header of a safetensors file, checked against the file before it is believed.

Format: https://github.com/huggingface/safetensors#format: eight bytes of length, JSON, then the bytes of the tensors.
"""

from __future__ import annotations

import hashlib
import struct
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from exo_lab.core.errors import CorruptModel, UnsupportedModel

if TYPE_CHECKING:
    from pathlib import Path

MAX_HEADER_BYTES = 100 << 20  # the limit of the format itself
KINDS = {"F32": 4, "F16": 2, "BF16": 2}


class Entry(NamedTuple):
    """Where a tensor lies in a file. `offset` counts from the start of the file."""

    path: Path
    kind: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


class _Raw(msgspec.Struct):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def read_entries(path: Path) -> tuple[dict[str, Entry], bytes]:
    """The tensors of a file by name, and a digest of the header with a sample of every tensor.

    Raises:
        CorruptModel: not a safetensors file, cut off, or its lengths contradict each other.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(8)
        length = struct.unpack("<Q", first)[0] if len(first) == 8 else 0
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise CorruptModel(f"{path} is no safetensors file, or was cut off (header of {length} bytes in {size})")
        text = file.read(length)
        try:
            raw = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
            raw.pop("__metadata__", None)
            table = {name: msgspec.json.decode(value, type=_Raw) for name, value in raw.items()}
        except msgspec.MsgspecError as exc:
            raise CorruptModel(f"{path}: the header cannot be read: {exc}. Download it again.") from exc
        digest = hashlib.sha256(first + text)
        digest.update(struct.pack("<Q", size))
        entries: dict[str, Entry] = {}
        end = 0
        for name, one in sorted(table.items(), key=lambda item: item[1].data_offsets):
            begin, stop = one.data_offsets
            if begin != end or stop < begin or 8 + length + stop > size or min(one.shape, default=1) < 0:
                raise CorruptModel(f"{path}: tensor {name} lies outside the file or on another. Download it again.")
            if one.dtype in KINDS and prod(one.shape) * KINDS[one.dtype] != stop - begin:
                raise CorruptModel(f"{path}: tensor {name} of shape {one.shape} cannot have {stop - begin} bytes")
            entries[name] = Entry(path, one.dtype, one.shape, 8 + length + begin, stop - begin)
            file.seek(8 + length + begin)
            digest.update(file.read(min(64, stop - begin)))
            end = stop
    return entries, digest.digest()


def check_kind(name: str, entry: Entry) -> None:
    """UnsupportedModel if a tensor is stored in a way that we do not read."""
    if entry.kind not in KINDS:
        raise UnsupportedModel(f"{entry.path}: tensor {name} is {entry.kind}; we read {', '.join(KINDS)}")
