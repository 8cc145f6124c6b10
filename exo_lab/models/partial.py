"""A model of which only some tensors are here: files with holes, and a list of what is in them and was checked.

The files have the size, the headers and the layout of the whole model's, so the same readers read them and the same
digest comes out. Several processes may use one folder. Knows no other node.
"""

from __future__ import annotations

import hashlib
import shutil
import threading
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from exo_lab.core.errors import CorruptModel, ModelError
from exo_lab.models.gguf import FREQUENCIES
from exo_lab.models.image import Image, files_of, image_file, merged, tensors_in
from exo_lab.models.open import open_file
from exo_lab.models.outline import main_path, restore_samples, write_at

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from exo_lab.core.model import ModelConfig
    from exo_lab.models.source import FileSource
    from exo_lab.models.stored import StoredWeight

LIST = "have.txt"
HASH_CHUNK_BYTES = 1 << 20


class Piece(NamedTuple):
    """A tensor as bytes of a file: [start, end)."""

    file: int
    start: int
    end: int
    name: str

    @property
    def nbytes(self) -> int:
        """Its size."""
        return self.end - self.start


class Partial:
    """See the module. Any thread.

    Args:
        folder: made by `outline`; its name is the digest.

    Raises:
        ModelError: it is not what it should be.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.digest = folder, folder.name
        self.main = main_path(folder)
        self._source = open_file(self.main, self.digest[:12])
        if self._source.config.digest != self.digest:
            restore_samples(folder)
            self._source = open_file(self.main, self.digest[:12])
        if self._source.config.digest != self.digest:
            raise CorruptModel(f"{folder} holds another model than its name says. Delete it.")
        self._files = tuple(image_file(kind, path) for kind, path in files_of(self.main))
        self._tables = frozenset(  # came with the outline
            (number, info.offset)
            for number, file in enumerate(self._files)
            for info in tensors_in(file.kind, file.path)
            if info.name == FREQUENCIES
        )
        self._numbers = {file.path: number for number, file in enumerate(self._files)}
        self._lock = threading.Lock()
        self._checked: set[tuple[int, int]] = set()
        self._bad: set[tuple[int, int, str]] = set()

    @property
    def config(self) -> ModelConfig:
        """The model's shape."""
        return self._source.config

    def piece(self, name: str) -> Piece:
        """Where a tensor goes."""
        info = self._source.where(name)
        return Piece(self._numbers[info.file], info.offset, info.offset + info.nbytes, name)

    def image(self) -> Image:
        """What others may have of it now."""
        held: list[list[tuple[int, int]]] = [[] for _ in self._files]
        have = self._have().keys() | self._tables
        for number, file in enumerate(self._files):
            held[number] = [tensor for tensor in file.tensors if (number, tensor[0]) in have]
        return Image(self.digest, self._files, tuple(merged(ranges) for ranges in held))

    def missing(self, names: Iterable[str]) -> list[Piece]:
        """Those of these tensors that are not here. What is here is read and checked once in each process."""
        have = self._have()
        found: list[Piece] = []
        for piece in map(self.piece, names):
            key, told = (piece.file, piece.start), have.get((piece.file, piece.start))
            if told is None:
                found.append(piece)
            elif key not in self._checked and self._hash(piece) != told:
                self._bad.add((*key, told))
                found.append(piece)
            else:
                self._checked.add(key)
        return found

    def write(self, piece: Piece, at: int, data: bytes) -> None:
        """Put bytes of a tensor in their place, `at` in the file. ModelError if the disk refuses."""
        if not piece.start <= at <= at + len(data) <= piece.end:
            raise CorruptModel(f"{len(data)} bytes at {at} are not a part of tensor {piece.name}")
        write_at(self._files[piece.file].path, at, data)

    def keep(self, piece: Piece, sha256: bytes) -> None:
        """All bytes of a tensor are written and were found to be right. ModelError if the disk refuses."""
        line = f"{piece.file} {piece.start} {sha256.hex()}\n"
        try:
            with self._lock, (self.folder / LIST).open("ab", buffering=0) as file:
                file.write(line.encode())
        except OSError as exc:
            raise ModelError(f"{self.folder / LIST} cannot be written: {exc}. Free some space there.") from exc
        self._bad.discard((piece.file, piece.start, sha256.hex()))
        self._checked.add((piece.file, piece.start))

    def check_room(self, nbytes: int) -> None:
        """ModelError if the disk has less room than that."""
        free = shutil.disk_usage(self.folder).free
        if free < nbytes:
            raise ModelError(
                f"the layers of this node take {nbytes / 1e6:.1f} MB, {self.folder} has room for {free / 1e6:.1f} MB. "
                "Free some, or set EXO_LAB_CACHE to a folder on a larger disk."
            )

    def open(self, name: str) -> PartialSource:
        """The tensors that are here, as a source of weights."""
        return PartialSource(open_file(self.main, name), self)  # a fetch may be at it: the digest is that of before

    def has(self, name: str) -> bool:
        """Is this tensor here, and was it checked?"""
        piece = self.piece(name)
        return (piece.file, piece.start) in self._checked

    def _have(self) -> dict[tuple[int, int], str]:
        """(file, start) -> checksum of what was kept, by this process or another. A torn line is none."""
        try:
            text = (self.folder / LIST).read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            return {}
        found: dict[tuple[int, int], str] = {}
        for line in text.splitlines():
            match line.split(" "):
                case [number, start, sha256] if number.isdecimal() and start.isdecimal() and len(sha256) == 64:
                    found[int(number), int(start)] = sha256
                case _:
                    continue
        return {key: sha256 for key, sha256 in found.items() if (*key, sha256) not in self._bad}

    def _hash(self, piece: Piece) -> str:
        digest = hashlib.sha256()
        image = Image(self.digest, self._files, ())
        for at in range(piece.start, piece.end, HASH_CHUNK_BYTES):
            digest.update(image.read(piece.file, [(at, min(at + HASH_CHUNK_BYTES, piece.end))]))
        return digest.hexdigest()


class PartialSource:
    """See `core.weights.WeightSource`. A tensor that is not here, or was not checked, is refused."""

    def __init__(self, source: FileSource, partial: Partial) -> None:
        self._source, self._partial = source, partial
        self._config = msgspec.structs.replace(source.config, digest=partial.digest)

    @property
    def config(self) -> ModelConfig:
        """The model's shape, with digest and byte counts."""
        return self._config

    def has(self, name: str) -> bool:
        """Has the model a tensor of that name?"""
        return self._source.has(name)

    def weight(self, name: str) -> StoredWeight:
        """The tensor of that name; CorruptModel if it is not here."""
        if not self._partial.has(name):
            raise CorruptModel(f"tensor {name} of {self.config.name} has not been fetched. Load the model again.")
        return self._source.weight(name)

    def close(self) -> None:
        """Close the files. Idempotent."""
        self._source.close()
