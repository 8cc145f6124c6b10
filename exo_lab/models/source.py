"""A model's weights in one or several files: headers when it is opened, then only the rows asked for.

Every file format ends here: a format's own module reads the header, names the tensors, and says how rows lie.
"""

from __future__ import annotations

import threading
from collections import Counter
from math import prod
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from exo_lab.core.errors import CorruptModel
from exo_lab.models.layout import EMBEDDING, OUTPUT, OUTPUT_NORM, check_tensors, layer_of, rotary_rows
from exo_lab.models.stored import StoredWeight, TensorInfo

if TYPE_CHECKING:
    from collections.abc import Mapping
    from io import FileIO
    from pathlib import Path

    from exo_lab.core.model import ModelConfig


class FileSource:
    """See `core.weights.WeightSource`. `bytes_read` counts the bytes of tensors that were read.

    Args:
        path: of the file or folder, for messages.
        config: the model's shape with its digest; the sizes are filled in here.
        tensors: by GGUF name.
        half_split: rows of rotated heads are half-split in the files.

    Raises:
        CorruptModel: a tensor is missing or its shape contradicts the config.
        UnsupportedModel: there are tensors that no engine knows what to do with.
    """

    def __init__(self, path: Path, config: ModelConfig, tensors: Mapping[str, TensorInfo], *, half_split: bool) -> None:
        check_tensors(config, tensors, path)
        self.path, self.bytes_read = path, 0
        self._tensors, self._half_split = dict(tensors), half_split
        self._config = with_sizes(config, tensors)
        self._files: dict[Path, FileIO] = {}
        self._closed = False
        self._lock = threading.Lock()  # a file has one position

    @property
    def config(self) -> ModelConfig:
        """The model's shape, with digest and byte counts."""
        return self._config

    def has(self, name: str) -> bool:
        """Is there a tensor of that name?"""
        return name in self._tensors

    def where(self, name: str) -> TensorInfo:
        """Where the tensor of that name lies; CorruptModel if there is none."""
        info = self._tensors.get(name)
        if info is None:
            raise CorruptModel(f"{self.path} has no tensor {name}. Download it again, or try another file.")
        return info

    def weight(self, name: str) -> StoredWeight:
        """The tensor of that name; CorruptModel if there is none."""
        info = self.where(name)
        head_dim = self._config.head_dim if self._half_split and rotary_rows(name) else 0
        return StoredWeight(info, lambda start, size: self._read(info, start, size), head_dim)

    def _read(self, info: TensorInfo, start: int, size: int) -> np.ndarray:
        # Plain reads, no memory map: pages of a map count as this process's memory, and stay as long as the map.
        data = np.empty(size, dtype=np.uint8)
        view, done = data.data, 0
        with self._lock:
            file = self._open(info)
            file.seek(info.offset + start)
            while done < size:
                count = file.readinto(view[done:])
                if not count:
                    raise CorruptModel(f"{info.file} ended within tensor {info.name}: it changed while it was read")
                done += count
            self.bytes_read += size
        return data

    def _open(self, info: TensorInfo) -> FileIO:
        if self._closed:
            raise CorruptModel(f"{self.path} was closed while tensor {info.name} was wanted")
        if info.file not in self._files:
            try:
                self._files[info.file] = info.file.open("rb", buffering=0)
            except OSError as exc:
                raise CorruptModel(f"{info.file} cannot be opened any more: {exc}") from exc
        return self._files[info.file]

    def close(self) -> None:
        """Close the files. Idempotent."""
        with self._lock:
            self._closed = True
            for file in self._files.values():
                file.close()
            self._files.clear()


def with_sizes(config: ModelConfig, tensors: Mapping[str, TensorInfo]) -> ModelConfig:
    """The config with the byte counts of its tensors, which `check_tensors` has seen."""
    layer_bytes = [0] * config.n_layers
    weights: list[Counter[str]] = [Counter() for _ in layer_bytes]  # of each layer's matrices, by kind
    for info in tensors.values():
        layer = layer_of(info.name)
        if layer is not None:
            layer_bytes[layer] += info.nbytes
            if len(info.shape) == 2:
                weights[layer][info.kind] += prod(info.shape)
    kinds = Counter(info.kind for info in tensors.values() if len(info.shape) == 2)
    head = tensors[EMBEDDING if config.tied_embeddings else OUTPUT]
    return msgspec.structs.replace(
        config,
        layer_bytes=tuple(layer_bytes),
        embedding_bytes=tensors[EMBEDDING].nbytes,
        head_bytes=tensors[OUTPUT_NORM].nbytes + head.nbytes,
        layer_kinds=tuple(tuple(sorted(of_layer.items())) for of_layer in weights),
        embedding_kind=tensors[EMBEDDING].kind,
        head_kind=head.kind,
        quantisation=kinds.most_common(1)[0][0],
    )
