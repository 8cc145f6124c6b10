"""Shapes of well-known models, so that one can plan for a model without having its weights. Pure data.

Shapes are those of each model's published `config.json`; a test counts their parameters. Sizes follow from the shape
and a quantisation: every matrix in blocks of that format, norms and biases in float32, as in a GGUF file of one format.
Files that mix formats ("Q4_K_M") differ by some per cent.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

from exo_lab.core.errors import ConfigError, ModelNotFound
from exo_lab.core.model import ModelConfig

# Bits of a weight: block sizes of GGUF's formats, scales included.
QUANTISATIONS: dict[str, float] = {
    "F32": 32.0,
    "BF16": 16.0,
    "Q8_0": 8.5,
    "Q6_K": 6.5625,
    "Q5_0": 5.5,
    "Q4_0": 4.5,
}
FLOAT_BYTES = 4  # of an element of a norm or a bias


class Shape(NamedTuple):
    """A model's shape. `head_dim` 0: hidden / heads."""

    name: str
    architecture: str
    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    vocab: int
    context: int
    head_dim: int = 0
    tied: bool = False


SHAPES: tuple[Shape, ...] = (
    Shape("Llama 3.1 8B", "llama", 32, 4096, 14336, 32, 8, 128256, 131072),
    Shape("Llama 3.1 70B", "llama", 80, 8192, 28672, 64, 8, 128256, 131072),
    Shape("Llama 3.2 1B", "llama", 16, 2048, 8192, 32, 8, 128256, 131072, tied=True),
    Shape("Llama 3.2 3B", "llama", 28, 3072, 8192, 24, 8, 128256, 131072, tied=True),
    Shape("Llama 2 7B", "llama", 32, 4096, 11008, 32, 32, 32000, 4096),
    Shape("Llama 2 13B", "llama", 40, 5120, 13824, 40, 40, 32000, 4096),
    Shape("Mistral 7B", "mistral", 32, 4096, 14336, 32, 8, 32768, 32768),
    Shape("Qwen2.5 0.5B", "qwen2", 24, 896, 4864, 14, 2, 151936, 32768, tied=True),
    Shape("Qwen2.5 7B", "qwen2", 28, 3584, 18944, 28, 4, 152064, 131072),
    Shape("Qwen3 0.6B", "qwen3", 28, 1024, 3072, 16, 8, 151936, 40960, head_dim=128, tied=True),
    Shape("Qwen3 8B", "qwen3", 36, 4096, 12288, 32, 8, 151936, 40960, head_dim=128),
    Shape("SmolLM2 135M", "llama", 30, 576, 1536, 9, 3, 49152, 8192, tied=True),
    Shape("TinyLlama 1.1B", "llama", 22, 2048, 5632, 32, 4, 32000, 2048),
)
NAMES: tuple[str, ...] = tuple(shape.name for shape in SHAPES)


def known(name: str) -> Shape | None:
    """The model of that name, however it is spelled: "llama-3.1-8b" is "Llama 3.1 8B"."""
    wanted = _plain(name)
    return next((shape for shape in SHAPES if _plain(shape.name) == wanted), None)


def config_of(name: str, quantisation: str = "Q4_0") -> ModelConfig:
    """A known model's config, with the sizes that a file of one quantisation has.

    Raises:
        ModelNotFound: no such model; names those that there are.
        ConfigError: no such quantisation.
    """
    shape = known(name)
    if shape is None:
        raise ModelNotFound(f"no model {name!r} is known by its shape; there are {', '.join(NAMES)}")
    return config_of_shape(shape, quantisation)


def config_of_shape(shape: Shape, quantisation: str) -> ModelConfig:
    """As `config_of`."""
    plain = ModelConfig(
        name=shape.name,
        architecture=shape.architecture,
        n_layers=shape.layers,
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        n_heads=shape.heads,
        n_kv_heads=shape.kv_heads,
        head_dim=shape.head_dim or shape.hidden // shape.heads,
        vocab_size=shape.vocab,
        context_length=shape.context,
        tied_embeddings=shape.tied,
        qkv_bias=shape.architecture == "qwen2",
        qk_norm=shape.architecture == "qwen3",
    )
    return with_sizes(plain, quantisation)


def with_sizes(config: ModelConfig, quantisation: str) -> ModelConfig:
    """The same shape with the sizes of another quantisation.

    Raises:
        ConfigError: no such quantisation.
    """
    bits = QUANTISATIONS.get(quantisation.upper())
    if bits is None:
        raise ConfigError(f"no quantisation {quantisation!r}; there are {', '.join(QUANTISATIONS)}")
    hidden, table = config.hidden_size, config.vocab_size * config.hidden_size
    weights = layer_matrix_weights(config)
    layer = weights * bits / 8 + _layer_floats(config) * FLOAT_BYTES
    return msgspec.structs.replace(
        config,
        layer_bytes=(int(layer),) * config.n_layers,
        embedding_bytes=int(table * bits / 8),
        head_bytes=int(table * bits / 8) + hidden * FLOAT_BYTES,
        layer_kinds=(((quantisation.upper(), weights),),) * config.n_layers,
        embedding_kind=quantisation.upper(),
        head_kind=quantisation.upper(),
        quantisation=quantisation.upper(),
    )


def layer_matrix_weights(config: ModelConfig) -> int:
    """Elements of the matrices of one layer."""
    return config.flops_per_token_per_layer // 2


def parameters(config: ModelConfig) -> int:
    """All parameters; a tied matrix counts once."""
    tables = (1 if config.tied_embeddings else 2) * config.vocab_size * config.hidden_size
    layers = config.n_layers * (layer_matrix_weights(config) + _layer_floats(config))
    return layers + tables + config.hidden_size


def _layer_floats(config: ModelConfig) -> int:
    """Elements of a layer's norms and biases."""
    query, key_value = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    biases = query + 2 * key_value if config.qkv_bias else 0
    return 2 * config.hidden_size + biases + (2 * config.head_dim if config.qk_norm else 0)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "", name.lower().removesuffix("-instruct"))
