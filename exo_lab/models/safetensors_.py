"""Safetensors, one file or several with an index, as a source of weights. Hub names become GGUF names on the way."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from exo_lab.core.errors import CorruptModel
from exo_lab.models.config import config_from_json
from exo_lab.models.dequant import dequantise
from exo_lab.models.layout import check_shape, read_permuted, rotary_rows
from exo_lab.models.safetensors_header import KINDS, Entry, check_kind, read_entries

if TYPE_CHECKING:
    from pathlib import Path

    from exo_lab.core.model import ModelConfig

_ENDS = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_PARTS = {
    "input_layernorm.weight": "attn_norm.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "self_attn.q_proj.bias": "attn_q.bias",
    "self_attn.k_proj.bias": "attn_k.bias",
    "self_attn.v_proj.bias": "attn_v.bias",
    "self_attn.q_norm.weight": "attn_q_norm.weight",
    "self_attn.k_norm.weight": "attn_k_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
}
_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")


def gguf_name(name: str) -> str | None:
    """The GGUF name of a hub tensor; None for one that no engine needs."""
    match = _LAYER.fullmatch(name)
    if match is None:
        return _ENDS.get(name)
    part = _PARTS.get(match[2])
    return None if part is None else f"blk.{match[1]}.{part}"


class SafetensorsWeight:
    """See `core.weights.Weight`."""

    def __init__(self, source: SafetensorsSource, name: str, entry: Entry, head_dim: int) -> None:
        self._source, self._name, self._entry, self._head_dim = source, name, entry, head_dim

    @property
    def name(self) -> str:
        """GGUF tensor name."""
        return self._name

    @property
    def kind(self) -> str:
        """F32, F16 or BF16."""
        return self._entry.kind

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, columns) or (n,)."""
        return self._entry.shape

    def raw(self, start: int = 0, end: int | None = None) -> np.ndarray:
        """Stored bytes of rows [start, end): uint8 (rows, bytes per row); (1, bytes) for a vector."""
        if len(self.shape) == 1:
            return self._elements(0, self.shape[0]).reshape(1, -1)
        end = self.shape[0] if end is None else end
        if self._head_dim:
            return read_permuted(self._rows, start, end, self._head_dim, self.shape[0])
        return self._rows(start, end)

    def _rows(self, start: int, end: int) -> np.ndarray:
        columns = self.shape[1]
        return self._elements(start * columns, end * columns).reshape(end - start, -1)

    def _elements(self, start: int, end: int) -> np.ndarray:
        item = KINDS[self.kind]
        return self._source.read(self._entry, start * item, (end - start) * item)

    def to_float32(self, start: int = 0, end: int | None = None) -> np.ndarray:
        """Rows [start, end) as float32 (rows, columns), or the whole of a vector: (n,)."""
        values = dequantise(self.raw(start, end), self.kind)
        if len(self.shape) > 1:
            return values
        flat = values.reshape(-1)
        if not self._head_dim:
            return flat
        return read_permuted(lambda a, b: flat[a:b], 0, flat.size, self._head_dim, flat.size)


class SafetensorsSource:
    """See `core.weights.WeightSource`. `bytes_read` counts tensor bytes that were read.

    Args:
        path: a folder with config.json and *.safetensors, or one file with config.json beside it.
        name: of the model.

    Raises:
        CorruptModel, UnsupportedModel: see their texts.
    """

    def __init__(self, path: Path, name: str) -> None:
        folder = path if path.is_dir() else path.parent
        self.path, self.bytes_read, self._closed = folder, 0, False
        config = config_from_json(_json(folder / "config.json"), name)
        files = [path] if path.is_file() else _files(folder)
        digest = hashlib.sha256()
        self._entries: dict[str, Entry] = {}
        for file in files:
            entries, part = read_entries(file)
            digest.update(part)
            for hub_name, entry in entries.items():
                known = gguf_name(hub_name)
                if known is not None:
                    self._entries[known] = entry
        # Some files write the tied matrix twice, some checkpoints say "tied" only by leaving the head out.
        tied = config.tied_embeddings or "output.weight" not in self._entries
        self._config = msgspec.structs.replace(
            config, tied_embeddings=tied, digest=digest.hexdigest(), **self._sizes(config, tied)
        )

    def _sizes(self, config: ModelConfig, tied: bool) -> dict[str, object]:
        def size(name: str) -> int:
            if name not in self._entries:
                raise CorruptModel(f"{self.path}: tensor {name} is missing. Download the folder again.")
            return self._entries[name].nbytes

        layer_bytes = [0] * config.n_layers
        for name, entry in self._entries.items():
            if name.startswith("blk.") and int(name.split(".")[1]) < config.n_layers:
                layer_bytes[int(name.split(".")[1])] += entry.nbytes
        if not all(layer_bytes):
            raise CorruptModel(f"{self.path}: layer {layer_bytes.index(0)} of {config.n_layers} has no tensors")
        return {
            "layer_bytes": tuple(layer_bytes),
            "embedding_bytes": size("token_embd.weight"),
            "head_bytes": size("output_norm.weight") + size("token_embd.weight" if tied else "output.weight"),
            "quantisation": self._entries["token_embd.weight"].kind,
        }

    @property
    def config(self) -> ModelConfig:
        """The model's shape."""
        return self._config

    def has(self, name: str) -> bool:
        """Is there a tensor of that name?"""
        return name in self._entries

    def weight(self, name: str) -> SafetensorsWeight:
        """The tensor of that name; CorruptModel if it is missing or of a wrong shape."""
        entry = self._entries.get(name)
        if entry is None:
            raise CorruptModel(f"{self.path}: tensor {name} is missing. Download the folder again.")
        check_kind(name, entry)
        check_shape(name, entry.shape, self._config, self.path)
        return SafetensorsWeight(self, name, entry, self._config.head_dim if rotary_rows(name, self._config) else 0)

    def read(self, entry: Entry, start: int, size: int) -> np.ndarray:
        """`size` bytes of a tensor from its byte `start` on: uint8 (size,), memory of the caller's own."""
        if self._closed:
            raise CorruptModel(f"{self.path} was closed while a tensor was wanted")
        data = np.fromfile(entry.path, dtype=np.uint8, count=size, offset=entry.offset + start)
        if data.size != size:
            raise CorruptModel(f"{entry.path} ended within a tensor; it changed while it was read")
        self.bytes_read += size
        return data

    def close(self) -> None:
        """Nothing is held open; reading ends."""
        self._closed = True


def _files(folder: Path) -> list[Path]:
    """The files of a folder: those of the index if there is one, in order of name, none outside the folder."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return sorted(folder.glob("*.safetensors"))
    table = _json(index).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise CorruptModel(f"{index} has no weight_map. Download the folder again.")
    names = sorted({str(name) for name in table.values()})
    for name in names:
        if "/" in name or "\\" in name or not (folder / name).is_file():
            raise CorruptModel(f"{index} names {name!r}, which is not a file of that folder. Download it again.")
    return [folder / name for name in names]


def _json(path: Path) -> dict[str, object]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise CorruptModel(f"{path} is missing; a folder of safetensors needs it") from exc
    except ValueError as exc:
        raise CorruptModel(f"{path} is not JSON: {exc}") from exc
    if not isinstance(data, dict):
        raise CorruptModel(f"{path} does not hold a JSON object")
    return data
