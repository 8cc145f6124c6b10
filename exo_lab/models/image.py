"""A model's files as others may have them byte for byte: which there are, where the tensors lie, what may be read.

A whole model and one of which only some tensors are here look the same from outside. Knows no other node.
"""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, NamedTuple

from exo_lab.core.errors import CorruptModel
from exo_lab.core.weights_messages import HeldFile, WeightsHeld
from exo_lab.models.gguf_header import SAMPLE_BYTES, read_header, sample_offsets
from exo_lab.models.hub import CONFIGURATION
from exo_lab.models.open import open_file
from exo_lab.models.safetensors_ import weight_files
from exo_lab.models.safetensors_header import read_entries

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from exo_lab.core.weights_messages import FileKind, Range
    from exo_lab.models.stored import TensorInfo


class ImageFile(NamedTuple):
    """One file. `header` is where its first tensor begins, `tensors` are all of them, sorted; none of them is empty."""

    kind: FileKind
    path: Path
    size: int
    header: int
    tensors: tuple[Range, ...]
    changed_ns: int  # when it was last written to


class Image(NamedTuple):
    """A model's files. `held`, by file: merged ranges of the tensors whose bytes are here."""

    digest: str
    files: tuple[ImageFile, ...]
    held: tuple[tuple[Range, ...], ...]

    def described(self) -> WeightsHeld:
        """What others are told of it."""
        files = zip(self.files, self.held, strict=True)
        return WeightsHeld(
            digest=self.digest,
            files=tuple(
                HeldFile(kind=file.kind, size=file.size, header=file.header, tensors=held) for file, held in files
            ),
        )

    def unchanged(self) -> bool:
        """Are the files those that it was made of?"""
        try:
            return all(_stamp(file.path) == (file.size, file.changed_ns) for file in self.files)
        except OSError:
            return False

    def may_read(self, number: int, wanted: Range) -> bool:
        """Are these bytes here: in the header, in a tensor that is held, or in what the digest samples of any?"""
        file = self.files[number]
        start, end = wanted
        if not 0 <= start < end <= file.size:
            return False
        if end <= file.header or is_inside(wanted, self.held[number]):
            return True
        at = bisect.bisect_right(file.tensors, (start, file.size)) - 1
        return at >= 0 and wanted in samples_of(file.tensors[at])

    def read(self, number: int, ranges: Iterable[Range]) -> bytes:
        """Those bytes, one after the other.

        Raises:
            CorruptModel: the file ended.
        """
        path, parts = self.files[number].path, []
        with path.open("rb") as file:
            for start, end in ranges:
                file.seek(start)
                parts.append(file.read(end - start))
                if len(parts[-1]) != end - start:
                    raise CorruptModel(f"{path} became shorter while it was read")
        return b"".join(parts)


def image_of(path: Path, name: str) -> Image:
    """The whole model in a file or folder. Reads headers and the samples of the digest.

    Args:
        path: as `open_file` takes it.
        name: what it is called, for errors.

    Raises:
        CorruptModel, UnsupportedModel: its headers cannot be read. Whether it can be run, who opens it sees.
    """
    if path.suffix.lower() == ".gguf":
        header = read_header(path, lists=False)  # once: it takes a moment
        digest, listed = header.digest, [_image_file("gguf", path, header.tensors.values())]
    else:
        source = open_file(path, name)
        source.close()
        digest, listed = source.config.digest, [image_file(kind, one) for kind, one in files_of(path)]
    return Image(digest, tuple(listed), tuple(merged(file.tensors) for file in listed))


def files_of(path: Path) -> list[tuple[FileKind, Path]]:
    """The files of a model, in the order in which nodes number them: weights first, in the order of the digest."""
    if path.suffix.lower() == ".gguf":
        return [("gguf", path)]
    folder = path if path.is_dir() else path.parent
    weights: list[tuple[FileKind, Path]] = [
        ("safetensors", file) for file in ([path] if path.is_file() else weight_files(folder))
    ]
    return weights + [(kind, folder / kind) for kind in CONFIGURATION if (folder / kind).is_file()]


def image_file(kind: FileKind, path: Path) -> ImageFile:
    """A file that is here, at least its header. CorruptModel as `read_header`."""
    return _image_file(kind, path, tensors_in(kind, path))


def _image_file(kind: FileKind, path: Path, infos: Iterable[TensorInfo]) -> ImageFile:
    size, changed = _stamp(path)
    tensors = tuple(sorted((info.offset, info.offset + info.nbytes) for info in infos if info.nbytes))
    return ImageFile(kind, path, size, tensors[0][0] if tensors else size, tensors, changed)


def tensors_in(kind: FileKind, path: Path) -> list[TensorInfo]:
    """The tensors that a file's header lists, by the names of the file."""
    match kind:
        case "gguf":
            return list(read_header(path, lists=False).tensors.values())
        case "safetensors":
            return list(read_entries(path)[0].values())
        case _:
            return []


def samples_of(tensor: Range) -> list[Range]:
    """What the digest of a model covers of a tensor."""
    start, end = tensor
    return [
        (start + at, start + min(at + SAMPLE_BYTES, end - start)) for at in sorted(set(sample_offsets(end - start)))
    ]


def merged(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """The same bytes in as few ranges as possible, sorted."""
    found: list[Range] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return tuple(found)


def is_inside(wanted: Range, ranges: Sequence[Range]) -> bool:
    """Does one of these merged ranges hold all of it?"""
    at = bisect.bisect_right(ranges, wanted[0], key=lambda one: one[0]) - 1
    return at >= 0 and wanted[1] <= ranges[at][1]


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
