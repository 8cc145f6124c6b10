"""A GGUF file as a source of weights: the header when it is opened, and only the rows that are asked for after that."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from exo_lab.core.errors import CorruptModel
from exo_lab.models.dequant import dequantise
from exo_lab.models.gguf_config import config_from_header
from exo_lab.models.gguf_header import TensorInfo, read_header, row_bytes
from exo_lab.models.layout import check_shape, read_permuted, rotary_rows

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

    from exo_lab.core.model import ModelConfig

# llama.cpp's converter writes the rotated heads of these interleaved already; of the others half-split.
INTERLEAVED = ("llama", "mistral")
FREQUENCIES = "rope_freqs.weight"


class GgufWeight:
    """See `core.weights.Weight`."""

    def __init__(self, source: GgufSource, info: TensorInfo, head_dim: int) -> None:
        self._source, self._info, self._head_dim = source, info, head_dim  # head_dim 0: rows are in order

    @property
    def name(self) -> str:
        """GGUF tensor name."""
        return self._info.name

    @property
    def kind(self) -> str:
        """How it is stored."""
        return self._info.kind

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, columns) or (n,)."""
        return self._info.shape

    def raw(self, start: int = 0, end: int | None = None) -> np.ndarray:
        """Stored bytes of rows [start, end): uint8 (rows, bytes per row); (1, bytes) for a vector."""
        if len(self.shape) == 1:
            return self._source.read(self._info, 0, self._info.nbytes).reshape(1, -1)
        end = self.shape[0] if end is None else end
        if self._head_dim:
            return read_permuted(self._rows, start, end, self._head_dim, self.shape[0])
        return self._rows(start, end)

    def _rows(self, start: int, end: int) -> np.ndarray:
        size = row_bytes(self.kind, self.shape[-1])
        return self._source.read(self._info, start * size, (end - start) * size).reshape(end - start, size)

    def to_float32(self, start: int = 0, end: int | None = None) -> np.ndarray:
        """Rows [start, end) dequantised: float32 (rows, columns), or the whole of a vector: (n,)."""
        values = dequantise(self.raw(start, end), self.kind)
        if len(self.shape) > 1:
            return values
        flat = values.reshape(-1)
        return (
            read_permuted(lambda a, b: flat[a:b], 0, flat.size, self._head_dim, flat.size) if self._head_dim else flat
        )


class GgufSource:
    """See `core.weights.WeightSource`. `bytes_read` counts tensor bytes that were read.

    Raises:
        CorruptModel, UnsupportedModel: as `read_header` and `config_from_header`.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self.header = read_header(path)
        self.bytes_read = 0
        self._file: FileIO | None = path.open("rb", buffering=0)
        try:
            table = self.header.tensors.get(FREQUENCIES)
            frequencies = None
            if table is not None:
                frequencies = dequantise(self.read(table, 0, table.nbytes).reshape(1, -1), table.kind)[0].tolist()
            self._config = config_from_header(self.header, name, frequencies)
        except BaseException:
            self.close()
            raise

    @property
    def config(self) -> ModelConfig:
        """The model's shape."""
        return self._config

    def has(self, name: str) -> bool:
        """Is there a tensor of that name?"""
        return name in self.header.tensors

    def weight(self, name: str) -> GgufWeight:
        """The tensor of that name; CorruptModel if it is missing or of a wrong shape."""
        info = self.header.tensors.get(name)
        if info is None:
            raise CorruptModel(f"{self.path}: tensor {name} is missing. Download the file again, or try another.")
        check_shape(name, info.shape, self._config, self.path)
        halves = self._config.architecture not in INTERLEAVED and rotary_rows(name, self._config)
        return GgufWeight(self, info, self._config.head_dim if halves else 0)

    def read(self, info: TensorInfo, start: int, size: int) -> np.ndarray:
        """`size` bytes of a tensor from its byte `start` on: uint8 (size,), memory of the caller's own."""
        if self._file is None:
            raise CorruptModel(f"{self.path} was closed while tensor {info.name} was wanted")
        data = np.empty(size, dtype=np.uint8)
        view, done = data.data, 0
        self._file.seek(info.offset + start)
        while done < size:
            count = self._file.readinto(view[done:])
            if not count:
                raise CorruptModel(f"{self.path} ended within tensor {info.name}; it changed while it was read")
            done += count
        self.bytes_read += size
        return data

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._file is not None:
            self._file.close()
            self._file = None
