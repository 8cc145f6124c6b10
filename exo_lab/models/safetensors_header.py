"""The header of a safetensors file, checked against the file before it is believed.

Format: https://github.com/huggingface/safetensors#format: eight bytes of length, JSON, then the bytes of the tensors.
"""

from __future__ import annotations

import hashlib
import struct
from math import prod
from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.errors import CorruptModel, UnsupportedModel
from exo_lab.core.weights import BLOCKS
from exo_lab.models.gguf_header import SAMPLE_BYTES, sample_offsets
from exo_lab.models.stored import TensorInfo

if TYPE_CHECKING:
    from pathlib import Path

MAX_HEADER_BYTES = 100 << 20  # the limit of the format itself
MAX_DIMENSIONS = 8
KINDS = ("F32", "F16", "BF16")


class _Raw(msgspec.Struct):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def read_entries(path: Path) -> tuple[dict[str, TensorInfo], bytes]:
    """The tensors of a file by name, and a digest of the header with a sample of every tensor.

    Raises:
        CorruptModel: not a safetensors file, cut off, or its lengths contradict each other.
        UnsupportedModel: a tensor is stored in a way that we do not read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(8)
        length = struct.unpack("<Q", first)[0] if len(first) == 8 else 0
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise CorruptModel(f"{path} is no safetensors file, or was cut off (header of {length} bytes in {size})")
        text = file.read(length)
        entries = _placed(_table(text, path), path, 8 + length, size)
        digest = hashlib.sha256(first + text)
        digest.update(struct.pack("<Q", size))
        for info in entries.values():
            for at in sample_offsets(info.nbytes):
                file.seek(info.offset + at)
                digest.update(file.read(min(SAMPLE_BYTES, info.nbytes - at)))
    return entries, digest.digest()


def _table(text: bytes, path: Path) -> dict[str, _Raw]:
    try:
        raw = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        raw.pop("__metadata__", None)
        return {name: msgspec.json.decode(value, type=_Raw) for name, value in raw.items()}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise CorruptModel(f"{path}: the header cannot be read: {exc}. Download it again.") from exc


def _placed(table: dict[str, _Raw], path: Path, start: int, size: int) -> dict[str, TensorInfo]:
    """The tensors in the order of the file, which they fill without gaps: that rules out overlaps too."""
    entries: dict[str, TensorInfo] = {}
    end = 0
    for name, one in sorted(table.items(), key=lambda item: item[1].data_offsets):
        begin, stop = one.data_offsets
        if not name.isprintable() or len(name) > 1024 or len(one.shape) > MAX_DIMENSIONS:
            raise CorruptModel(f"{path}: a tensor is called {name[:80]!r} and has {len(one.shape)} dimensions")
        if begin != end or stop < begin or start + stop > size or min(one.shape, default=0) < 0:
            raise CorruptModel(f"{path}: tensor {name} lies outside the file or on another. Download it again.")
        if one.dtype not in KINDS:
            raise UnsupportedModel(f"{path}: tensor {name} is {one.dtype}; we read {', '.join(KINDS)}")
        if prod(one.shape) * BLOCKS[one.dtype][1] != stop - begin:
            raise CorruptModel(f"{path}: tensor {name} of shape {one.shape} cannot have {stop - begin} bytes")
        entries[name] = TensorInfo(name, one.dtype, one.shape, path, start + begin, stop - begin)
        end = stop
    if start + end != size:
        raise CorruptModel(f"{path} has {size - start - end} bytes more than its tensors. Download it again.")
    return entries
