"""Tensors as `ModelConfig` promises them: interleaved rotary order, shapes that fit. Shared by every file format."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from exo_lab.core.errors import CorruptModel

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_lab.core.model import ModelConfig

_LAYER = re.compile(r"blk\.(\d+)\.(.+)")


def rotary_rows(name: str, config: ModelConfig) -> bool:
    """Do this tensor's rows belong to rotated heads? Those are the ones whose order differs between formats."""
    match = _LAYER.fullmatch(name)
    return match is not None and match[2].startswith(("attn_q", "attn_k"))


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


def expected_shape(name: str, config: ModelConfig) -> tuple[int, ...] | None:
    """The shape that the config demands of a tensor; None for a name that it does not know."""
    query, key_value = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    hidden, inner, vocabulary = config.hidden_size, config.intermediate_size, config.vocab_size
    ends = {
        "token_embd.weight": (vocabulary, hidden),
        "output.weight": (vocabulary, hidden),
        "output_norm.weight": (hidden,),
    }
    if name in ends:
        return ends[name]
    match = _LAYER.fullmatch(name)
    if match is None or int(match[1]) >= config.n_layers:
        return None
    return {
        "attn_norm.weight": (hidden,),
        "ffn_norm.weight": (hidden,),
        "attn_q.weight": (query, hidden),
        "attn_k.weight": (key_value, hidden),
        "attn_v.weight": (key_value, hidden),
        "attn_q.bias": (query,),
        "attn_k.bias": (key_value,),
        "attn_v.bias": (key_value,),
        "attn_q_norm.weight": (config.head_dim,),
        "attn_k_norm.weight": (config.head_dim,),
        "attn_output.weight": (hidden, query),
        "ffn_gate.weight": (inner, hidden),
        "ffn_up.weight": (inner, hidden),
        "ffn_down.weight": (hidden, inner),
    }.get(match[2])


def check_shape(name: str, shape: tuple[int, ...], config: ModelConfig, where: object) -> None:
    """CorruptModel if a tensor's shape contradicts the config."""
    wanted = expected_shape(name, config)
    if wanted != shape:
        raise CorruptModel(f"{where}: tensor {name} has shape {shape}, the model's configuration needs {wanted}")
