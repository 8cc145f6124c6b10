"""The header of a GGUF file, read without believing it: every length is checked against the file before it is used.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian. Knows no model.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from exo_lab.core.errors import CorruptModel, UnsupportedModel

if TYPE_CHECKING:
    from pathlib import Path

MAX_COUNT = 1 << 24  # tensors, keys, array elements: far above any real file, far below what would fill the memory
MAX_DIMENSIONS = 4
MAX_DEPTH = 4
DEFAULT_ALIGNMENT = 32

# ggml type number -> (GGUF name, weights in a block, bytes of a block)
STORAGE: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    8: ("Q8_0", 32, 34),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    30: ("BF16", 1, 2),
}
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9


class TensorInfo(NamedTuple):
    """Where a tensor lies. `shape` is logical: rows first. `offset` counts from the start of the file."""

    name: str
    kind: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


class GgufHeader(NamedTuple):
    """What a file says of itself. `digest` identifies the weights: header, sizes and a sample of every tensor."""

    metadata: dict[str, Any]
    tensors: dict[str, TensorInfo]
    digest: str


def read_header(path: Path) -> GgufHeader:
    """Read and check a file's header.

    Raises:
        CorruptModel: not a GGUF file, cut off, or its lengths contradict each other.
        UnsupportedModel: another version, big-endian, or a tensor stored in a way that we do not read.
    """
    size = path.stat().st_size
    if size < 24:
        raise CorruptModel(f"{path} has {size} bytes, too few for a GGUF header. Download it again.")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        try:
            return _Reader(view, path, size).header()
        except struct.error as exc:
            raise CorruptModel(f"{path} ends in the middle of its header. Download it again.") from exc
        except UnicodeDecodeError as exc:
            raise CorruptModel(f"{path}: a name or key in the header is not UTF-8. Download it again.") from exc


class _Reader:
    def __init__(self, view: mmap.mmap, path: Path, size: int) -> None:
        self.view, self.path, self.size, self.at = view, path, size, 4

    def header(self) -> GgufHeader:
        if self.view[:4] != b"GGUF":
            raise CorruptModel(f"{self.path} is not a GGUF file: it begins with {self.view[:4]!r}")
        version = self.scalar("<I")
        if version not in (2, 3):
            hint = " It looks big-endian." if version > 0xFFFF else ""
            raise UnsupportedModel(f"{self.path} is GGUF version {version}; versions 2 and 3 are read.{hint}")
        n_tensors, n_keys = self.count("tensors"), self.count("metadata keys")
        metadata: dict[str, Any] = {}
        for _ in range(n_keys):
            key = self.text()
            metadata[key] = self.value(self.scalar("<I"), 0)
        raw = [self.tensor() for _ in range(n_tensors)]
        alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or not 0 < alignment <= 1 << 20:
            raise CorruptModel(f"{self.path}: alignment {alignment!r} is impossible")
        start = -(-self.at // alignment) * alignment
        tensors: dict[str, TensorInfo] = {}
        for info in raw:
            placed = info._replace(offset=start + info.offset)
            if placed.offset + placed.nbytes > self.size:
                raise CorruptModel(
                    f"{self.path}: tensor {info.name} needs bytes up to {placed.offset + placed.nbytes}, the file has "
                    f"{self.size}. The download was cut off; get it again."
                )
            if info.name in tensors:
                raise CorruptModel(f"{self.path}: tensor {info.name} is there twice")
            tensors[info.name] = placed
        self.check_overlap(tensors)
        return GgufHeader(metadata, tensors, self.digest(tensors))

    def check_overlap(self, tensors: dict[str, TensorInfo]) -> None:
        end, before = 0, ""
        for info in sorted(tensors.values(), key=lambda one: one.offset):
            if info.offset < end:
                raise CorruptModel(f"{self.path}: tensors {before} and {info.name} overlap")
            end, before = info.offset + info.nbytes, info.name

    def digest(self, tensors: dict[str, TensorInfo]) -> str:
        """SHA-256 over the header, the size, and the first and last 64 bytes of every tensor."""
        digest = hashlib.sha256(self.view[: self.at])
        digest.update(struct.pack("<Q", self.size))
        for info in tensors.values():
            end = info.offset + info.nbytes
            digest.update(self.view[info.offset : min(info.offset + 64, end)])
            digest.update(self.view[max(info.offset, end - 64) : end])
        return digest.hexdigest()

    # -- pieces ------------------------------------------------------------------------------------------

    def scalar(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self.view, self.at)
        self.at += struct.calcsize(form)
        return value

    def count(self, what: str) -> int:
        value = self.scalar("<Q")
        # Every element takes at least one byte, so a count above the file's size is a lie.
        if value > min(MAX_COUNT, self.size):
            raise CorruptModel(f"{self.path} claims to hold {value} {what}, which is impossible for {self.size} bytes")
        return value

    def text(self) -> str:
        length = self.scalar("<Q")
        if length > self.size - self.at:
            raise CorruptModel(f"{self.path}: a text of {length} bytes in the header runs past the end of the file")
        raw = self.view[self.at : self.at + length]
        self.at += length
        return raw.decode("utf-8")

    def value(self, kind: int, depth: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind in _SCALARS:
            return self.scalar(_SCALARS[kind])
        if kind != _ARRAY or depth >= MAX_DEPTH:
            raise CorruptModel(f"{self.path}: the header holds a value of unknown type {kind}")
        inner, count = self.scalar("<I"), self.count("array elements")
        form = _SCALARS.get(inner)
        if form is None:
            return [self.value(inner, depth + 1) for _ in range(count)]
        values = struct.unpack_from(f"<{count}{form[1]}", self.view, self.at)
        self.at += struct.calcsize(form) * count
        return list(values)

    def tensor(self) -> TensorInfo:
        name = self.text()
        dimensions = self.scalar("<I")
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise CorruptModel(f"{self.path}: tensor {name[:64]!r} has {dimensions} dimensions")
        # GGUF writes the fastest dimension first.
        shape = tuple(reversed([self.scalar("<Q") for _ in range(dimensions)]))
        number, offset = self.scalar("<I"), self.scalar("<Q")
        if number not in STORAGE:
            known = ", ".join(kind for kind, _, _ in STORAGE.values())
            raise UnsupportedModel(f"{self.path}: tensor {name} is stored as ggml type {number}; we read {known}")
        kind, block, block_bytes = STORAGE[number]
        elements = 1
        for side in shape:
            elements *= side
        if not 0 < elements <= 8 * self.size or shape[-1] % block:
            raise CorruptModel(f"{self.path}: tensor {name} cannot have shape {shape} as {kind}")
        return TensorInfo(name, kind, shape, offset, elements // block * block_bytes)


def row_bytes(kind: str, columns: int) -> int:
    """Bytes of one row of `columns` weights."""
    block, block_bytes = next((block, size) for name, block, size in STORAGE.values() if name == kind)
    return columns // block * block_bytes
