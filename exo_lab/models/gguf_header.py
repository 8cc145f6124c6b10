"""The header of a GGUF file, read without believing it: every length is checked against the file before it is used.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian. Knows no model.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from exo_lab.core.errors import CorruptModel, UnsupportedModel
from exo_lab.core.weights import BLOCKS
from exo_lab.models.stored import TensorInfo

if TYPE_CHECKING:
    from pathlib import Path

# Far above any real file, far below what would fill the memory: the largest vocabularies make headers of 20 MiB.
MAX_HEADER_BYTES = 128 << 20
MAX_ELEMENTS = 1 << 23  # of all arrays together
MAX_KEYS = 1 << 16
MAX_TENSORS = 1_000_000
MAX_NAME_BYTES = 1024
MAX_DIMENSIONS = 4
MAX_DEPTH = 4
SHORT_LIST = 64  # elements
DEFAULT_ALIGNMENT = 32
SAMPLE_BYTES = 64  # of a tensor's beginning, middle and end, for the digest

# ggml type number -> GGUF name
STORAGE: dict[int, str] = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0",
    10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 30: "BF16",
}  # fmt: skip
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9


class GgufHeader(NamedTuple):
    """What a file says of itself. `digest` identifies the weights: header, sizes and a sample of every tensor."""

    metadata: dict[str, Any]
    tensors: dict[str, TensorInfo]
    digest: str


def read_header(path: Path, *, lists: bool = True) -> GgufHeader:
    """Read and check a file's header.

    Args:
        path: of the file.
        lists: keep long lists too. They are the tokenizer; a node that only wants weights need not have it in memory.

    Raises:
        CorruptModel: not a GGUF file, cut off, or its lengths contradict each other.
        UnsupportedModel: another version, big-endian, or a tensor stored in a way that we do not read.
    """
    size = path.stat().st_size
    if size < 24:
        raise CorruptModel(f"{path} has {size} bytes, too few for a GGUF header. Download it again.")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        try:
            return _Reader(view, path, size, lists).header()
        except UnicodeDecodeError as exc:
            raise CorruptModel(f"{path}: a name or key in the header is not UTF-8. Download it again.") from exc


class _Reader:
    def __init__(self, view: mmap.mmap, path: Path, size: int, lists: bool) -> None:
        self.view, self.path, self.size, self.lists, self.at = view, path, size, lists, 4
        self.elements_left = MAX_ELEMENTS

    def header(self) -> GgufHeader:
        if self.view[:4] != b"GGUF":
            raise CorruptModel(f"{self.path} is not a GGUF file: it begins with {self.view[:4]!r}")
        version = self.scalar("<I")
        if version not in (2, 3):
            hint = " It looks big-endian." if version > 0xFFFF else ""
            raise UnsupportedModel(f"{self.path} is GGUF version {version}; versions 2 and 3 are read.{hint}")
        n_tensors, n_keys = self.count("tensors", MAX_TENSORS), self.count("metadata keys", MAX_KEYS)
        metadata: dict[str, Any] = {}
        for _ in range(n_keys):
            key = self.name("a metadata key")
            if key in metadata:
                raise CorruptModel(f"{self.path}: metadata key {key} is there twice")
            metadata[key] = self.value(self.scalar("<I"), 0)
        listed = [self.tensor() for _ in range(n_tensors)]
        tensors = self.place(listed, self.alignment(metadata))
        self.check_overlap(tensors)
        return GgufHeader(metadata, tensors, self.digest(tensors))

    def alignment(self, metadata: dict[str, Any]) -> int:
        value = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if not isinstance(value, int) or not 0 < value <= 1 << 20:
            raise CorruptModel(f"{self.path}: an alignment of {value!r} is impossible")
        return value

    def place(self, listed: list[TensorInfo], alignment: int) -> dict[str, TensorInfo]:
        """Tensors by name, with offsets from the start of the file."""
        start = -(-self.at // alignment) * alignment
        tensors: dict[str, TensorInfo] = {}
        for info in listed:
            if info.offset % alignment:
                raise CorruptModel(f"{self.path}: tensor {info.name} lies at {info.offset}, not aligned to {alignment}")
            placed = info._replace(offset=start + info.offset)
            if placed.offset + placed.nbytes > self.size:
                raise CorruptModel(
                    f"{self.path}: tensor {info.name} needs bytes up to {placed.offset + placed.nbytes}, the file has "
                    f"{self.size}. The download was cut off; get it again."
                )
            if info.name in tensors:
                raise CorruptModel(f"{self.path}: tensor {info.name} is there twice")
            tensors[info.name] = placed
        return tensors

    def check_overlap(self, tensors: dict[str, TensorInfo]) -> None:
        end, before = 0, ""
        for info in sorted(tensors.values(), key=lambda one: one.offset):
            if info.offset < end:
                raise CorruptModel(f"{self.path}: tensors {before} and {info.name} overlap")
            end, before = info.offset + info.nbytes, info.name

    def digest(self, tensors: dict[str, TensorInfo]) -> str:
        """SHA-256 over the header, the size, and bytes from the beginning, middle and end of every tensor."""
        digest = hashlib.sha256(self.view[: self.at])
        digest.update(struct.pack("<Q", self.size))
        for info in tensors.values():
            for at in sample_offsets(info.nbytes):
                digest.update(self.view[info.offset + at : info.offset + min(at + SAMPLE_BYTES, info.nbytes)])
        return digest.hexdigest()

    # -- pieces ------------------------------------------------------------------------------------------

    def need(self, n_bytes: int, what: str) -> None:
        """May the header go on for so many bytes?"""
        if n_bytes > self.size - self.at:
            raise CorruptModel(f"{self.path}: {what} runs past the end of the file. Download it again.")
        if self.at + n_bytes > MAX_HEADER_BYTES:
            raise CorruptModel(f"{self.path}: its header is larger than {MAX_HEADER_BYTES >> 20} MiB")

    def scalar(self, form: str) -> Any:
        size = struct.calcsize(form)
        self.need(size, "the header")
        (value,) = struct.unpack_from(form, self.view, self.at)
        self.at += size
        return value

    def count(self, what: str, limit: int = MAX_ELEMENTS) -> int:
        value = self.scalar("<Q")
        self.need(value, f"a list of {value} {what}")  # every one takes at least a byte
        if value > limit:
            raise CorruptModel(f"{self.path}: the header lists {value} {what}; {limit} are allowed")
        return value

    def skip(self, n_bytes: int) -> None:
        self.need(n_bytes, f"a value of {n_bytes} bytes in the header")
        self.at += n_bytes

    def text(self, limit: int = MAX_HEADER_BYTES) -> str:
        length = self.scalar("<Q")
        self.need(length, f"a text of {length} bytes in the header")
        if length > limit:
            raise CorruptModel(f"{self.path}: a name in the header has {length} bytes; {limit} are allowed")
        raw = self.view[self.at : self.at + length]
        self.at += length
        return raw.decode("utf-8")

    def name(self, what: str) -> str:
        name = self.text(MAX_NAME_BYTES)
        if not name.isprintable():
            raise CorruptModel(f"{self.path}: {what} is called {name!r}")
        return name

    def value(self, kind: int, depth: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind in _SCALARS:
            return self.scalar(_SCALARS[kind])
        if kind != _ARRAY or depth >= MAX_DEPTH:
            raise CorruptModel(f"{self.path}: the header holds a value of unknown type {kind}")
        inner, count = self.scalar("<I"), self.count("array elements")
        self.elements_left -= count
        if self.elements_left < 0:
            raise CorruptModel(f"{self.path}: the header's arrays have more than {MAX_ELEMENTS} elements")
        form = _SCALARS.get(inner)
        left_out = not self.lists and count > SHORT_LIST
        if left_out and inner == _STRING:
            for _ in range(count):
                self.skip(self.scalar("<Q"))
            return []
        if form is None:
            return [self.value(inner, depth + 1) for _ in range(count)]
        size = struct.calcsize(form) * count
        if left_out:
            self.skip(size)
            return []
        self.need(size, f"an array of {count} elements")
        values = struct.unpack_from(f"<{count}{form[1]}", self.view, self.at)
        self.at += size
        return list(values)

    def tensor(self) -> TensorInfo:
        """A tensor's entry; its offset still counts from where the data begins."""
        name = self.name("a tensor")
        dimensions = self.scalar("<I")
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise CorruptModel(f"{self.path}: tensor {name} has {dimensions} dimensions")
        # GGUF writes the fastest dimension first.
        shape = tuple(reversed([self.scalar("<Q") for _ in range(dimensions)]))
        number, offset = self.scalar("<I"), self.scalar("<Q")
        if number not in STORAGE:
            known = ", ".join(STORAGE.values())
            raise UnsupportedModel(f"{self.path}: tensor {name} is stored as ggml type {number}; we read {known}")
        kind = STORAGE[number]
        block, block_bytes = BLOCKS[kind]
        elements = prod(shape)
        if not 0 < elements <= 8 * self.size or shape[-1] % block:
            raise CorruptModel(f"{self.path}: tensor {name} cannot have shape {shape} as {kind}")
        return TensorInfo(name, kind, shape, self.path, offset, elements // block * block_bytes)


def sample_offsets(nbytes: int) -> tuple[int, int, int]:
    """Where in a tensor of that size the digest looks. Shared by every format."""
    return 0, nbytes // 2, max(0, nbytes - SAMPLE_BYTES)
