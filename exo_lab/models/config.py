"""A Hugging Face `config.json` as a `ModelConfig`, sizes not yet filled in. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.core.errors import CorruptModel, UnsupportedModel
from exo_lab.core.model import SUPPORTED_ARCHITECTURES, ModelConfig, RopeScaling
from exo_lab.models.fields import Fields

if TYPE_CHECKING:
    from collections.abc import Mapping


def config_from_json(data: Mapping[str, object], name: str) -> ModelConfig:
    """The model's shape.

    Args:
        data: the parsed `config.json`.
        name: what the model is called.

    Raises:
        UnsupportedModel: an architecture, an activation, a rotary scaling or a quantisation that we do not run.
        CorruptModel: a field is missing or impossible.
    """
    architecture = data.get("model_type")
    if not isinstance(architecture, str) or architecture not in SUPPORTED_ARCHITECTURES:
        supported = ", ".join(SUPPORTED_ARCHITECTURES)
        raise UnsupportedModel(f"{name}: architecture {architecture!r} is not supported; supported are {supported}.")
    _refuse(data, architecture, name)
    fields = Fields(data, f"{name}, config.json")
    hidden, heads, layers = (fields.whole(f) for f in ("hidden_size", "num_attention_heads", "num_hidden_layers"))
    # Transformers 5 writes theta and scaling into one table; before that they were two fields.
    rope = data.get("rope_parameters") or data.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        raise CorruptModel(f"{name}, config.json: the rotary parameters are {rope!r}; a table is needed")
    rotary = Fields(rope, f"{name}, config.json, rotary parameters")
    return ModelConfig(
        name=name,
        architecture=architecture,
        n_layers=layers,
        hidden_size=hidden,
        intermediate_size=fields.whole("intermediate_size"),
        n_heads=heads,
        n_kv_heads=fields.whole("num_key_value_heads", heads),
        head_dim=fields.whole("head_dim", hidden // heads),
        vocab_size=fields.whole("vocab_size"),
        context_length=fields.whole("max_position_embeddings", 2048),
        rms_norm_eps=fields.real("rms_norm_eps", 1e-6),
        rope_theta=rotary.real("rope_theta", fields.real("rope_theta", 10_000.0)),
        rope_scaling=_scaling(rotary, name),
        tied_embeddings=bool(data.get("tie_word_embeddings", False)),
        qkv_bias=architecture == "qwen2",
        qk_norm=architecture == "qwen3",
        sliding_window=_window(data, fields, architecture, layers, name),
    )


def _refuse(data: Mapping[str, object], architecture: str, name: str) -> None:
    """What would change the arithmetic, and is not done by any engine here."""
    if (activation := data.get("hidden_act", "silu")) != "silu":
        raise UnsupportedModel(f"{name}: activation {activation!r} is not supported; supported is silu")
    if data.get("attention_bias") and architecture != "qwen2":
        raise UnsupportedModel(f"{name}: {architecture} with attention_bias is not supported")
    if data.get("mlp_bias"):
        raise UnsupportedModel(f"{name}: biases in the feed-forward part are not supported")
    if data.get("partial_rotary_factor", 1.0) != 1.0:
        raise UnsupportedModel(f"{name}: rotary embedding over a part of each head is not supported")
    quantised = data.get("quantization_config")
    if quantised:
        method = quantised.get("quant_method", "?") if isinstance(quantised, dict) else quantised
        raise UnsupportedModel(
            f"{name}: safetensors quantised with {method!r} are not read. Take the original, or a GGUF file."
        )


def _window(data: Mapping[str, object], fields: Fields, architecture: str, layers: int, name: str) -> int | None:
    """The sliding window of every layer; a model with windows in some layers only is refused."""
    # Transformers' Llama has no window, whatever its config says; Qwen's has to be switched on.
    off = architecture == "llama" or (architecture != "mistral" and not data.get("use_sliding_window"))
    if off or not data.get("sliding_window"):
        return None
    kinds = data.get("layer_types")
    if not isinstance(kinds, list) or not kinds:
        # Qwen's first layers see everything; 28 of them unless it says otherwise.
        full = (
            0
            if architecture == "mistral" or data.get("max_window_layers") == 0
            else fields.whole("max_window_layers", 28)
        )
        full = min(full, layers)
        kinds = ["full_attention"] * full + ["sliding_attention"] * (layers - full)
    match sorted(set(map(str, kinds))):
        case ["sliding_attention"]:
            return fields.whole("sliding_window")
        case ["full_attention"]:
            return None
        case _:
            raise UnsupportedModel(f"{name}: a sliding window in some layers only is not supported")


def _scaling(rope: Fields, name: str) -> RopeScaling | None:
    match rope.get("rope_type") or rope.get("type"):
        case None | "default":
            return None
        case "linear":
            return RopeScaling(kind="linear", factor=rope.real("factor"))
        case "llama3":
            low, high = rope.real("low_freq_factor"), rope.real("high_freq_factor")
            if low >= high:
                raise CorruptModel(f"{name}: low_freq_factor {low} is not below high_freq_factor {high}")
            return RopeScaling(
                kind="llama3",
                factor=rope.real("factor"),
                low_freq_factor=low,
                high_freq_factor=high,
                original_context=rope.whole("original_max_position_embeddings"),
            )
        case kind:
            raise UnsupportedModel(f"{name}: rotary scaling {kind!r} is not supported; supported are linear and llama3")
