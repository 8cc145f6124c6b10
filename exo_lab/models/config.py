"""A Hugging Face `config.json` as a `ModelConfig`, sizes not yet filled in. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exo_lab.core.errors import CorruptModel, UnsupportedModel
from exo_lab.core.model import SUPPORTED_ARCHITECTURES, ModelConfig, RopeScaling

if TYPE_CHECKING:
    from collections.abc import Mapping


def config_from_json(data: Mapping[str, Any], name: str) -> ModelConfig:
    """The model's shape.

    Args:
        data: the parsed `config.json`.
        name: what the model is called.

    Raises:
        UnsupportedModel: an architecture, an activation or a rotary scaling that we do not run.
        CorruptModel: a field is missing or impossible.
    """
    architecture = data.get("model_type")
    if architecture not in SUPPORTED_ARCHITECTURES:
        supported = ", ".join(SUPPORTED_ARCHITECTURES)
        raise UnsupportedModel(f"{name}: architecture {architecture!r} is not supported; supported are {supported}.")
    if data.get("hidden_act", "silu") != "silu":
        raise UnsupportedModel(f"{name}: activation {data['hidden_act']!r} is not supported; supported is silu")
    if data.get("attention_bias") and architecture != "qwen2":
        raise UnsupportedModel(f"{name}: {architecture} with attention_bias is not supported")
    if data.get("mlp_bias"):
        raise UnsupportedModel(f"{name}: biases in the feed-forward part are not supported")

    def number(key: str, default: int | None = None) -> int:
        value = data.get(key)
        value = default if value is None else value
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise CorruptModel(f"{name}: {key} in config.json is {value!r}; a whole number above 0 is needed")
        return value

    hidden, heads = number("hidden_size"), number("num_attention_heads")
    # Transformers 5 writes theta and scaling into one table; before that they were two fields.
    rope = data.get("rope_parameters") or data.get("rope_scaling") or {}
    theta = rope.get("rope_theta", data.get("rope_theta", 10_000.0))
    window = data.get("sliding_window")
    if architecture.startswith("qwen") and not data.get("use_sliding_window"):
        window = None
    return ModelConfig(
        name=name,
        architecture=architecture,
        n_layers=number("num_hidden_layers"),
        hidden_size=hidden,
        intermediate_size=number("intermediate_size"),
        n_heads=heads,
        n_kv_heads=number("num_key_value_heads", heads),
        head_dim=number("head_dim", hidden // heads),
        vocab_size=number("vocab_size"),
        context_length=number("max_position_embeddings", 2048),
        rms_norm_eps=float(data.get("rms_norm_eps", 1e-6)),
        rope_theta=float(theta),
        rope_scaling=_scaling(rope, name),
        tied_embeddings=bool(data.get("tie_word_embeddings", False)),
        qkv_bias=architecture == "qwen2",
        qk_norm=architecture == "qwen3",
        sliding_window=window,
    )


def _scaling(rope: Mapping[str, Any], name: str) -> RopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    match kind:
        case "default" | None:
            return None
        case "linear":
            return RopeScaling(kind="linear", factor=float(rope["factor"]))
        case "llama3":
            return RopeScaling(
                kind="llama3",
                factor=float(rope["factor"]),
                low_freq_factor=float(rope["low_freq_factor"]),
                high_freq_factor=float(rope["high_freq_factor"]),
                original_context=int(rope["original_max_position_embeddings"]),
            )
        case _:
            raise UnsupportedModel(f"{name}: rotary scaling {kind!r} is not supported; supported are linear and llama3")
