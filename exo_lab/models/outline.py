"""The beginning of a model that is not here: files of the right size, with the headers and all that the digest covers.

Built in a folder of its own out of bytes that somebody else sent, and moved to its place when its digest is the wanted
one. From then on `partial` fills in the tensors. Files get names of ours, by kind and number.
"""

from __future__ import annotations

import secrets
import shutil
import time
from typing import TYPE_CHECKING

from exo_lab.core.errors import CorruptModel, ModelError
from exo_lab.models.gguf import frequencies_in
from exo_lab.models.gguf_header import MAX_HEADER_BYTES as MAX_GGUF_HEADER_BYTES
from exo_lab.models.image import Image, files_of, image_file, samples_of, tensors_in
from exo_lab.models.open import open_file
from exo_lab.models.safetensors_header import MAX_HEADER_BYTES as MAX_SAFETENSORS_HEADER_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from exo_lab.core.weights_messages import FileKind, HeldFile, Range

GGUF = "model.gguf"
SAMPLES = "samples.bin"
MAX_BESIDE_BYTES = 64 << 20  # a tokenizer.json of a large vocabulary has 30 MiB
MAX_BYTES = 1 << 43
LEFT_AFTER_S = 3600.0
_HEADER_BYTES = {"gguf": MAX_GGUF_HEADER_BYTES, "safetensors": 8 + MAX_SAFETENSORS_HEADER_BYTES}


def check_files(files: Sequence[HeldFile]) -> None:
    """Can these be the files of one model? Looks at what somebody said of them.

    Raises:
        CorruptModel: they cannot.
    """
    kinds = [file.kind for file in files]
    beside = [kind for kind in kinds if kind not in _HEADER_BYTES]
    parts = ["safetensors"] * (len(kinds) - len(beside))
    folder = "config.json" in beside and parts and kinds == parts + beside
    if not (kinds == ["gguf"] or folder) or len(set(beside)) != len(beside):
        raise CorruptModel(f"files of the kinds {', '.join(kinds[:10])} are no model")
    for file in files:
        limit = _HEADER_BYTES.get(file.kind, MAX_BESIDE_BYTES)
        whole = file.kind in _HEADER_BYTES or file.header == file.size
        if not 0 < file.header <= min(file.size, limit) or not whole:
            raise CorruptModel(f"a {file.kind} of {file.size} bytes cannot begin with a header of {file.header}")
    if sum(file.size for file in files) > MAX_BYTES:
        raise CorruptModel(f"a model of more than {MAX_BYTES >> 40} TiB is not believed")


def file_names(kinds: Sequence[FileKind]) -> list[str]:
    """What the files of a model are called here. Safetensors are numbered, since their order is part of the digest."""

    def called(number: int, kind: FileKind) -> str:
        match kind:
            case "gguf":
                return GGUF
            case "safetensors":
                return f"part-{number:05}.safetensors"
            case _:
                return kind

    return [called(number, kind) for number, kind in enumerate(kinds)]


def main_path(folder: Path) -> Path:
    """What to open of such a folder: the GGUF file, or the folder."""
    gguf = folder / GGUF
    return gguf if gguf.exists() else folder


class Outline:
    """Files that are being made. `discard` unless `finish` was reached.

    Args:
        root: where the finished folder goes, and is made.
        files: what somebody said of the files.

    Raises:
        CorruptModel: no model has such files.
        ModelError: the disk refuses.
    """

    def __init__(self, root: Path, files: Sequence[HeldFile]) -> None:
        check_files(files)
        _clear_left(root)
        self._root = root
        self._kinds: list[FileKind] = [file.kind for file in files]
        self._folder = root / f".new-{secrets.token_hex(8)}"
        self.paths = [self._folder / name for name in file_names(self._kinds)]
        try:
            self._folder.mkdir(parents=True)
            for path, file in zip(self.paths, files, strict=True):
                with path.open("wb") as made:
                    made.truncate(file.size)
        except (OSError, OverflowError) as exc:
            self.discard()
            raise ModelError(f"no room for a model in {root}: {exc}. Free some, or set EXO_LAB_CACHE.") from exc

    def write(self, number: int, start: int, data: bytes) -> None:
        """Put bytes in their place. ModelError if the disk refuses."""
        write_at(self.paths[number], start, data)

    def samples(self, number: int) -> list[Range]:
        """What the digest covers of the tensors of a file whose header is there. CorruptModel if that cannot be."""
        tensors = self._read(number)
        return [sample for tensor in tensors for sample in samples_of(tensor)]

    def tables(self, number: int) -> list[Range]:
        """Tensors that are read when the model is opened, and so belong to the outline. Raises as `frequencies_in`."""
        table = frequencies_in(tensors_in(self._kinds[number], self.paths[number]))
        return [] if table is None else [(table.offset, table.offset + table.nbytes)]

    def _read(self, number: int) -> tuple[Range, ...]:
        try:
            return image_file(self._kinds[number], self.paths[number]).tensors
        except (OSError, ValueError) as exc:
            raise CorruptModel(f"a {self._kinds[number]} header that cannot be read: {exc}") from exc

    def finish(self, digest: str, name: str) -> None:
        """Move it to its place, `root / digest`. If another was there first, that one stays.

        Raises:
            CorruptModel: it is another model than the digest says, or none.
            UnsupportedModel: it is none that we run.
        """
        try:
            source = open_file(main_path(self._folder), name)
        except (OSError, ValueError) as exc:
            raise CorruptModel(f"{name} cannot be opened: {exc}") from exc
        source.close()
        if source.config.digest != digest:
            raise CorruptModel(f"the header of {name} makes digest {source.config.digest[:12]}, not {digest[:12]}")
        write_at(self._folder / SAMPLES, 0, samples_in(self._folder))
        try:
            self._folder.rename(self._root / digest)
        except OSError:
            if not (self._root / digest).is_dir():
                raise
            self.discard()

    def discard(self) -> None:
        """Forget it. Idempotent."""
        shutil.rmtree(self._folder, ignore_errors=True)


def samples_in(folder: Path) -> bytes:
    """What the digest covers of the tensors, one after the other."""
    files = tuple(image_file(kind, path) for kind, path in files_of(main_path(folder)))
    image = Image("", files, ())
    return b"".join(
        image.read(number, samples_of(tensor)) for number, file in enumerate(files) for tensor in file.tensors
    )


def restore_samples(folder: Path) -> None:
    """Undo what an interrupted fetch left there. OSError if what was kept of them cannot be read."""
    kept, at = (folder / SAMPLES).read_bytes(), 0
    for kind, path in files_of(main_path(folder)):
        for tensor in image_file(kind, path).tensors:
            for start, end in samples_of(tensor):
                write_at(path, start, kept[at : at + end - start])
                at += end - start


def _clear_left(root: Path) -> None:
    """Delete what processes left behind that died while they made one."""
    for folder in root.glob(".new-*"):
        if time.time() - folder.stat().st_mtime > LEFT_AFTER_S:
            shutil.rmtree(folder, ignore_errors=True)


def write_at(path: Path, start: int, data: bytes) -> None:
    """Put bytes into a file. ModelError if the disk refuses."""
    try:
        path.touch()
        with path.open("r+b", buffering=0) as file:
            file.seek(start)
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
    except OSError as exc:
        raise ModelError(
            f"the weights could not be written into {path.parent}: {exc.strerror or exc}. Free some space there, "
            "or set EXO_LAB_CACHE to a folder that can be written to."
        ) from exc
