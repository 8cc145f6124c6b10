"""A GGUF file's metadata as a `ModelConfig`, sizes not yet filled in. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from exo_lab.core.errors import CorruptModel, UnsupportedModel
from exo_lab.core.model import SUPPORTED_ARCHITECTURES, ModelConfig, RopeScaling
from exo_lab.models.fields import Fields
from exo_lab.models.layout import EMBEDDING, OUTPUT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.models.gguf_header import GgufHeader

# What would change the arithmetic, and is not done by any engine here.
REFUSED = (
    "expert_count",
    "attention.key_length_mla",
    "logit_scale",
    "residual_scale",
    "embedding_scale",
    "attention.scale",
)


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
    fields = Fields(meta, name, f"{architecture}.")
    for key in REFUSED:
        if fields.get(key):
            raise UnsupportedModel(f"{name}: {architecture} with {key} is not supported")
    if isinstance(parts := meta.get("split.count", 1), int) and parts > 1:
        raise UnsupportedModel(
            f"{name} is one of {parts} parts of a model; split GGUF files are not read. Merge them with "
            "`llama-gguf-split --merge`, or take a file that is whole."
        )
    if EMBEDDING not in tensors:
        raise CorruptModel(f"{name}: tensor {EMBEDDING} is missing. Download it again, or try another file.")
    heads, hidden = fields.whole("attention.head_count"), fields.whole("embedding_length")
    head_dim = fields.whole("attention.key_length", hidden // heads)
    if fields.whole("rope.dimension_count", head_dim) != head_dim:
        raise UnsupportedModel(f"{name}: rotary embedding over a part of each head is not supported")
    if fields.whole("attention.value_length", head_dim) != head_dim:
        raise UnsupportedModel(f"{name}: values of another width than keys are not supported")
    theta = fields.real("rope.freq_base", 10_000.0)
    return ModelConfig(
        name=name,
        architecture=architecture,
        n_layers=fields.whole("block_count"),
        hidden_size=hidden,
        intermediate_size=fields.whole("feed_forward_length"),
        n_heads=heads,
        n_kv_heads=fields.whole("attention.head_count_kv", heads),
        head_dim=head_dim,
        vocab_size=tensors[EMBEDDING].shape[0],
        context_length=fields.whole("context_length"),
        rms_norm_eps=fields.real("attention.layer_norm_rms_epsilon", 1e-5),
        rope_theta=theta,
        rope_scaling=_scaling(fields, name) if frequencies is None else _llama3(name, theta, head_dim, frequencies),
        tied_embeddings=OUTPUT not in tensors,
        qkv_bias="blk.0.attn_q.bias" in tensors,
        qk_norm="blk.0.attn_q_norm.weight" in tensors,
        sliding_window=fields.whole("attention.sliding_window") if fields.get("attention.sliding_window") else None,
        digest=header.digest,
    )


def _scaling(fields: Fields, name: str) -> RopeScaling | None:
    match fields.get("rope.scaling.type"):
        case None | "none":
            old = fields.real("rope.scale_linear", 1.0)  # how it was written before 2023-10
            return None if old == 1.0 else RopeScaling(kind="linear", factor=old)
        case "linear":
            return RopeScaling(kind="linear", factor=fields.real("rope.scaling.factor", 1.0))
        case kind:
            raise UnsupportedModel(f"{name}: rotary scaling {kind!r} is not supported; supported are linear and llama3")


def _llama3(name: str, theta: float, head_dim: int, frequencies: Sequence[float]) -> RopeScaling:
    """The parameters behind Llama 3's table of divisors. The file has only the table, so they are checked with it."""
    factor = float(max(frequencies))
    wrong = len(frequencies) != head_dim // 2 or not all(1 <= divisor < math.inf for divisor in frequencies)
    if not wrong:
        guess = RopeScaling(kind="llama3", factor=factor)
        low, high, context = guess.low_freq_factor, guess.high_freq_factor, guess.original_context
        for j, divisor in enumerate(frequencies):
            wavelength = 2 * math.pi * theta ** (2 * j / head_dim)
            smooth = min(1.0, max(0.0, (context / wavelength - low) / (high - low)))
            # Transformers interpolates frequencies between f / factor and f.
            wrong |= abs(1 / (smooth + (1 - smooth) / factor) - divisor) > 1e-3 * divisor
        if not wrong:
            return guess
    raise UnsupportedModel(f"{name}: its table of rotary frequencies is not that of Llama 3; not supported")
