"""Tensors as `ModelConfig` promises them: names, shapes, interleaved rotary order. For every file format. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from exo_lab.core.errors import CorruptModel, UnsupportedModel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from exo_lab.core.model import ModelConfig
    from exo_lab.models.stored import TensorInfo

EMBEDDING, OUTPUT_NORM, OUTPUT = "token_embd.weight", "output_norm.weight", "output.weight"
ROTATED = ("attn_q.weight", "attn_k.weight", "attn_q.bias", "attn_k.bias", "attn_q_norm.weight", "attn_k_norm.weight")
FLOATS = ("F32", "F16", "BF16")
_LAYER = re.compile(r"blk\.(0|[1-9][0-9]{0,5})\.(.+)")


def layer_of(name: str) -> int | None:
    """The layer that a tensor belongs to; None for embedding and head."""
    match = _LAYER.fullmatch(name)
    return None if match is None else int(match[1])


def rotary_rows(name: str) -> bool:
    """Do this tensor's rows belong to rotated heads? Those are the ones whose order differs between formats."""
    match = _LAYER.fullmatch(name)
    return match is not None and match[2] in ROTATED


def interleaved_from_halves(start: int, end: int, head_dim: int) -> np.ndarray:
    """For rows [start, end) in interleaved order, the half-split row that goes there: int64 (end - start,).

    In a head, half-split row j pairs with row j + head_dim / 2; interleaved, they become rows 2j and 2j + 1.
    """
    rows = np.arange(start, end)
    head, within = rows // head_dim, rows % head_dim
    return head * head_dim + within // 2 + (within % 2) * (head_dim // 2)


def read_permuted(read: Callable[[int, int], np.ndarray], start: int, end: int, head_dim: int, rows: int) -> np.ndarray:
    """Rows [start, end) of a half-split tensor in interleaved order, reading whole heads only.

    Args:
        read: gives rows [a, b) as stored.
        start: first row wanted.
        end: behind the last.
        head_dim: rows of a head.
        rows: of the tensor.
    """
    first, last = start // head_dim * head_dim, min(-(-end // head_dim) * head_dim, rows)
    return read(first, last)[interleaved_from_halves(start, end, head_dim) - first]


def layer_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The tensors of one layer, without `blk.{i}.`, and the shapes that the config demands."""
    query, key_value = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    hidden, inner = config.hidden_size, config.intermediate_size
    shapes: dict[str, tuple[int, ...]] = {
        "attn_norm.weight": (hidden,),
        "attn_q.weight": (query, hidden),
        "attn_k.weight": (key_value, hidden),
        "attn_v.weight": (key_value, hidden),
        "attn_output.weight": (hidden, query),
        "ffn_norm.weight": (hidden,),
        "ffn_gate.weight": (inner, hidden),
        "ffn_up.weight": (inner, hidden),
        "ffn_down.weight": (hidden, inner),
    }
    if config.qkv_bias:
        shapes |= {"attn_q.bias": (query,), "attn_k.bias": (key_value,), "attn_v.bias": (key_value,)}
    if config.qk_norm:
        shapes |= {"attn_q_norm.weight": (config.head_dim,), "attn_k_norm.weight": (config.head_dim,)}
    return shapes


def shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor of the model and the shape that the config demands."""
    per_layer = layer_shapes(config)
    wanted: dict[str, tuple[int, ...]] = {EMBEDDING: (config.vocab_size, config.hidden_size)}
    for layer in range(config.n_layers):
        wanted |= {f"blk.{layer}.{part}": shape for part, shape in per_layer.items()}
    wanted[OUTPUT_NORM] = (config.hidden_size,)
    if not config.tied_embeddings:
        wanted[OUTPUT] = wanted[EMBEDDING]
    return wanted


def check_tensors(config: ModelConfig, tensors: Mapping[str, TensorInfo], where: object) -> None:
    """Do the tensors make the model that the config describes, no more and no less?

    A tensor that no engine would read is refused: leaving out a bias gives fluent nonsense.

    Raises:
        CorruptModel: one is missing, or its shape contradicts the config; or the config contradicts itself.
        UnsupportedModel: one is not part of the architectures that we run, or is stored in a way that we do not read.
    """
    if config.n_heads % config.n_kv_heads or config.head_dim % 2:
        raise CorruptModel(
            f"{where}: {config.n_heads} heads of {config.head_dim}, {config.n_kv_heads} of keys, cannot be"
        )
    if config.n_layers > len(tensors):  # before anything is made for each of that many layers
        raise CorruptModel(f"{where} says that it has {config.n_layers} layers, but holds {len(tensors)} tensors")
    wanted = shapes(config)
    for name, shape in wanted.items():
        info = tensors.get(name)
        if info is None:
            raise CorruptModel(f"{where}: tensor {name} is missing. Download it again, or try another file.")
        if info.shape != shape:
            raise CorruptModel(
                f"{where}: tensor {name} has shape {info.shape}; the model's configuration needs {shape}"
            )
        if len(shape) == 1 and info.kind not in FLOATS:
            raise UnsupportedModel(f"{where}: tensor {name} is stored as {info.kind}; vectors are read as {FLOATS}")
    extra = sorted(tensors.keys() - wanted.keys())
    if extra:
        raise UnsupportedModel(
            f"{where}: {config.architecture} with a tensor {extra[0]} is not supported"
            + (f" ({len(extra)} tensors that no engine knows)" if len(extra) > 1 else "")
        )
