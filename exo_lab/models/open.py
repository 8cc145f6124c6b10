"""A model by name: its weights, or its tokenizer. Finds the file, picks the reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.models.locate import locate

if TYPE_CHECKING:
    from pathlib import Path

    from exo_lab.core.weights import WeightSource
    from exo_lab.models.locate import Progress
    from exo_lab.models.source import FileSource
    from exo_lab.models.tokenizer import Tokenizer


def open_model(name: str, progress: Progress | None = None) -> WeightSource:
    """A model's weights; only headers are read. Close it when done.

    Args:
        name: a known name, a path or a hub id.
        progress: called with (bytes done, bytes in all, what) while it is fetched.

    Raises:
        ModelNotFound, UnsupportedModel, CorruptModel: see their texts.
    """
    return open_file(locate(name, progress), name)


def open_file(path: Path, name: str) -> FileSource:
    """The weights of a model that is in this file or folder. Raises as `open_model`."""
    if path.suffix.lower() == ".gguf":
        from exo_lab.models.gguf import open_gguf

        return open_gguf(path, _called(name))
    from exo_lab.models.safetensors_ import open_safetensors

    return open_safetensors(path, _called(name))


def open_tokenizer(name: str, path: Path | None = None) -> Tokenizer:
    """A model's tokenizer, with its chat template; `path` if it is known where it is. Raises as `open_model`."""
    path = path or locate(name)
    if path.suffix.lower() == ".gguf":
        from exo_lab.models.gguf_header import read_header
        from exo_lab.models.tokenizer_gguf import tokenizer_from_gguf

        return tokenizer_from_gguf(read_header(path).metadata, _called(name))
    from exo_lab.models.tokenizer_json import tokenizer_from_folder

    return tokenizer_from_folder(path if path.is_dir() else path.parent, _called(name))


def _called(name: str) -> str:
    """What a model is called: a path by its last part."""
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2] if name.startswith(("/", ".", "~")) else name
