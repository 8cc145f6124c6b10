"""A GGUF file's metadata as a `ModelConfig`. Pure."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from exo_lab.core.errors import CorruptModel, UnsupportedModel
from exo_lab.core.model import SUPPORTED_ARCHITECTURES, ModelConfig, RopeScaling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.models.gguf_header import GgufHeader

EMBEDDING, OUTPUT, OUTPUT_NORM = "token_embd.weight", "output.weight", "output_norm.weight"
_LAYER = re.compile(r"blk\.(\d+)\.")


def config_from_header(header: GgufHeader, name: str, frequencies: Sequence[float] | None = None) -> ModelConfig:
    """The model's shape.

    Args:
        header: of the file.
        name: what the model is called.
        frequencies: the tensor `rope_freqs.weight`, if the file has one: divisors of the rotary frequencies.

    Raises:
        UnsupportedModel: an architecture or a rotary scaling that we do not run.
        CorruptModel: something is missing or impossible.
    """
    meta, tensors = header.metadata, header.tensors
    architecture = meta.get("general.architecture")
    if architecture not in SUPPORTED_ARCHITECTURES:
        raise UnsupportedModel(
            f"{name}: architecture {architecture!r} is not supported; supported are "
            f"{', '.join(SUPPORTED_ARCHITECTURES)}."
        )

    def number(key: str, default: float | None = None) -> Any:
        value = meta.get(f"{architecture}.{key}", default)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0 or not math.isfinite(value):
            raise CorruptModel(f"{name}: the file's {architecture}.{key} is {value!r}; a number above 0 is needed")
        return value

    for key in ("expert_count", "attention.key_length_mla"):
        if meta.get(f"{architecture}.{key}"):
            raise UnsupportedModel(f"{name}: {architecture} with {key} is not supported")
    n_layers, n_heads = int(number("block_count")), int(number("attention.head_count"))
    hidden = int(number("embedding_length"))
    head_dim = int(number("attention.key_length", hidden / n_heads))
    if int(number("rope.dimension_count", head_dim)) != head_dim:
        raise UnsupportedModel(f"{name}: rotary embedding over a part of each head is not supported")
    theta = float(number("rope.freq_base", 10_000.0))
    missing = [tensor for tensor in (EMBEDDING, OUTPUT_NORM) if tensor not in tensors]
    if missing:
        raise CorruptModel(f"{name}: tensor {missing[0]} is missing")
    layer_bytes = [0] * n_layers
    for info in tensors.values():
        match = _LAYER.match(info.name)
        if match is not None and int(match[1]) < n_layers:
            layer_bytes[int(match[1])] += info.nbytes
    if not all(layer_bytes):
        raise CorruptModel(f"{name}: layer {layer_bytes.index(0)} of {n_layers} has no tensors")
    tied = OUTPUT not in tensors
    head = tensors[EMBEDDING if tied else OUTPUT]
    return ModelConfig(
        name=name,
        architecture=architecture,
        n_layers=n_layers,
        hidden_size=hidden,
        intermediate_size=int(number("feed_forward_length")),
        n_heads=n_heads,
        n_kv_heads=int(number("attention.head_count_kv", n_heads)),
        head_dim=head_dim,
        vocab_size=tensors[EMBEDDING].shape[0],
        context_length=int(number("context_length")),
        rms_norm_eps=float(number("attention.layer_norm_rms_epsilon", 1e-5)),
        rope_theta=theta,
        rope_scaling=_scaling(meta, architecture, name, theta, head_dim, frequencies),
        tied_embeddings=tied,
        qkv_bias="blk.0.attn_q.bias" in tensors,
        qk_norm="blk.0.attn_q_norm.weight" in tensors,
        sliding_window=meta.get(f"{architecture}.attention.sliding_window") or None,
        digest=header.digest,
        layer_bytes=tuple(layer_bytes),
        embedding_bytes=tensors[EMBEDDING].nbytes,
        head_bytes=tensors[OUTPUT_NORM].nbytes + head.nbytes,
        quantisation=Counter(info.kind for info in tensors.values() if len(info.shape) == 2).most_common(1)[0][0],
    )


def _scaling(
    meta: dict[str, Any],
    architecture: str,
    name: str,
    theta: float,
    head_dim: int,
    frequencies: Sequence[float] | None,
) -> RopeScaling | None:
    if frequencies is not None:
        return _llama3(name, theta, head_dim, frequencies)
    kind = meta.get(f"{architecture}.rope.scaling.type", "none")
    if kind == "none":
        return None
    if kind != "linear":
        raise UnsupportedModel(f"{name}: rotary scaling {kind!r} is not supported; supported are linear and llama3")
    return RopeScaling(kind="linear", factor=float(meta.get(f"{architecture}.rope.scaling.factor", 1.0)))


def _llama3(name: str, theta: float, head_dim: int, frequencies: Sequence[float]) -> RopeScaling:
    """The parameters behind Llama 3's table of divisors. The file has only the table, so they are checked with it."""
    guess = RopeScaling(kind="llama3", factor=float(max(frequencies)))
    low, high, context = guess.low_freq_factor, guess.high_freq_factor, guess.original_context
    wrong = len(frequencies) != head_dim // 2
    for j, divisor in enumerate(frequencies):
        wavelength = 2 * math.pi * theta ** (2 * j / head_dim)
        smooth = min(1.0, max(0.0, (context / wavelength - low) / (high - low)))
        # Transformers interpolates frequencies between f / factor and f.
        wrong |= abs(1 / (smooth + (1 - smooth) / guess.factor) - divisor) > 1e-3 * divisor
    if wrong:
        raise UnsupportedModel(f"{name}: its table of rotary frequencies is not that of Llama 3; not supported")
    return guess
