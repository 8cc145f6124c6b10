"""A GGUF file as a source of weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from exo_lab.models.dequant import dequantise
from exo_lab.models.gguf_config import config_from_header
from exo_lab.models.gguf_header import read_header
from exo_lab.models.source import FileSource

if TYPE_CHECKING:
    from pathlib import Path

    from exo_lab.models.stored import TensorInfo

# llama.cpp's converter writes the rotated heads of these interleaved already; of the others half-split.
INTERLEAVED = ("llama", "mistral")
FREQUENCIES = "rope_freqs.weight"  # not a weight: the table that stands for Llama 3's rotary scaling


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
    table = tensors.pop(FREQUENCIES, None)
    config = config_from_header(header, name, None if table is None else _values(table))
    return FileSource(path, config, tensors, half_split=config.architecture not in INTERLEAVED)


def _values(info: TensorInfo) -> list[float]:
    raw = np.fromfile(info.file, np.uint8, info.nbytes, offset=info.offset)
    return dequantise(raw.reshape(1, -1), info.kind)[0].tolist()
