"""A GGUF file as a source of weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from exo_lab.core.errors import UnsupportedModel
from exo_lab.models.dequant import dequantise
from exo_lab.models.gguf_config import config_from_header
from exo_lab.models.gguf_header import read_header
from exo_lab.models.source import FileSource

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from exo_lab.models.stored import TensorInfo

# llama.cpp's converter writes the rotated heads of these interleaved already; of the others half-split.
INTERLEAVED = ("llama", "mistral")
FREQUENCIES = "rope_freqs.weight"  # not a weight: the table that stands for Llama 3's rotary scaling
MAX_FREQUENCIES = 4096  # one for every two numbers of a head


def open_gguf(path: Path, name: str) -> FileSource:
    """The weights of a file. Reads its header, and the table of rotary frequencies if there is one.

    Args:
        path: of the file.
        name: what the model is called.

    Raises:
        CorruptModel, UnsupportedModel: see their texts.
    """
    header = read_header(path, lists=False)
    tensors = dict(header.tensors)
    table = frequencies_in(tensors.values())
    tensors.pop(FREQUENCIES, None)
    config = config_from_header(header, name, None if table is None else _values(table))
    return FileSource(path, config, tensors, half_split=config.architecture not in INTERLEAVED)


def frequencies_in(infos: Iterable[TensorInfo]) -> TensorInfo | None:
    """Where the table of rotary frequencies is; None if there is none.

    Raises:
        UnsupportedModel: it is larger than any such table, or stored as none is. It is read whole, and at once.
    """
    table = next((info for info in infos if info.name == FREQUENCIES), None)
    if table is None:
        return None
    if len(table.shape) != 1 or table.shape[0] > MAX_FREQUENCIES or table.kind not in ("F32", "F16", "BF16"):
        raise UnsupportedModel(
            f"{table.file}: {FREQUENCIES} has shape {table.shape} as {table.kind}; a table of rotary frequencies is a "
            f"vector of at most {MAX_FREQUENCIES} floats"
        )
    return table


def _values(info: TensorInfo) -> list[float]:
    raw = np.fromfile(info.file, np.uint8, info.nbytes, offset=info.offset)
    return dequantise(raw.reshape(1, -1), info.kind)[0].tolist()
