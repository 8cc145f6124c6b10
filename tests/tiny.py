"""Tiny seeded models for tests: in memory, as a GGUF file, as a folder of safetensors. One seed, one model.

Written apart from exo_lab's readers, so that a mistake there does not cancel out here: the permutation between the
two rotary orders and the names of the hub are this file's own.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import msgspec
import numpy as np

from exo_lab.core.errors import CorruptModel
from exo_lab.core.model import ModelConfig, RopeScaling
from tests.tiny_tokenizer import VOCAB_SIZE, add_tokenizer, write_tokenizer_json

LLAMA3 = RopeScaling(kind="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context=8192)

_HUB_NAMES = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm", "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj", "token_embd": "model.embed_tokens",
    "output_norm": "model.norm", "output": "lm_head",
}  # fmt: skip
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def tiny_config(architecture: str = "llama", **changes: Any) -> ModelConfig:
    """A small model of any supported architecture. Sides are multiples of 32, so that every 32-block format fits.

    For Q2_K to Q6_K use `hidden_size=256, intermediate_size=256`.
    """
    fields: dict[str, Any] = {
        "name": f"tiny-{architecture}",
        "architecture": architecture,
        "n_layers": 4,
        "hidden_size": 64,
        "intermediate_size": 96,
        "n_heads": 4,
        "n_kv_heads": 2,
        "head_dim": 16,
        "vocab_size": VOCAB_SIZE,
        "context_length": 512,
        "rms_norm_eps": 2.0**-17,  # survives the float32 of a GGUF file
        "tied_embeddings": architecture == "llama",
        "qkv_bias": architecture == "qwen2",
        "qk_norm": architecture == "qwen3",
        **changes,
    }
    return ModelConfig(**fields)


@dataclass(frozen=True)
class TinyWeight:
    """See `core.weights.Weight`. `stored` is uint8 (rows, bytes per row); a vector has one byte row per element."""

    name: str
    kind: str
    shape: tuple[int, ...]
    stored: np.ndarray

    def raw(self, start: int = 0, end: int | None = None) -> np.ndarray:
        """Stored bytes of rows [start, end)."""
        return self.stored.reshape(1, -1).copy() if len(self.shape) == 1 else self.stored[start:end].copy()

    def to_float32(self, start: int = 0, end: int | None = None) -> np.ndarray:
        """Rows [start, end) dequantised by the reference implementation."""
        kind = gguf.GGMLQuantizationType[self.kind]
        values = np.ascontiguousarray(gguf.quants.dequantize(self.raw(start, end), kind), dtype=np.float32)
        return values.reshape(-1) if len(self.shape) == 1 else values

    def reordered(self, rows: np.ndarray) -> TinyWeight:
        """The same with its rows (a vector: its elements) in another order."""
        return TinyWeight(self.name, self.kind, self.shape, self.stored[rows])


class TinySource:
    """See `core.weights.WeightSource`: a model in memory."""

    def __init__(self, config: ModelConfig, weights: dict[str, TinyWeight]) -> None:
        self._config, self.weights, self.closed = config, weights, False

    @property
    def config(self) -> ModelConfig:
        """With digest and byte counts."""
        return self._config

    def has(self, name: str) -> bool:
        """Is there a tensor of that name?"""
        return name in self.weights

    def weight(self, name: str) -> TinyWeight:
        """The tensor of that name."""
        if name not in self.weights:
            raise CorruptModel(f"{self._config.name}: tensor {name} is missing")
        return self.weights[name]

    def close(self) -> None:
        """Idempotent."""
        self.closed = True


def tiny_source(config: ModelConfig | None = None, *, seed: int = 0, kind: str = "F32") -> TinySource:
    """A random model. `kind` is how matrices are stored; vectors are F32, as in GGUF files.

    Weights are scaled so that hidden states neither vanish nor grow, and greedy decoding does not get stuck on a token.
    """
    config = config or tiny_config()
    weights: dict[str, TinyWeight] = {}
    for index, (name, shape) in enumerate(shapes(config).items()):
        rng = np.random.default_rng((seed, index))
        if len(shape) == 2:
            weights[name] = TinyWeight(name, kind, shape, _matrix(rng, shape, kind))
        else:
            values = rng.normal(0, 0.1, shape) + (0 if name.endswith("bias") else 1)
            weights[name] = TinyWeight(name, "F32", shape, values.astype(np.float32).view(np.uint8).reshape(-1, 4))
    return TinySource(with_sizes(config, weights, kind), weights)


def shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor of a model by GGUF name, in the order of a file."""
    query, key_value = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    hidden, inner = config.hidden_size, config.intermediate_size
    found: dict[str, tuple[int, ...]] = {"token_embd.weight": (config.vocab_size, hidden)}
    for layer in range(config.n_layers):
        blk = f"blk.{layer}."
        found |= {blk + "attn_norm.weight": (hidden,), blk + "attn_q.weight": (query, hidden)}
        found |= {blk + "attn_k.weight": (key_value, hidden), blk + "attn_v.weight": (key_value, hidden)}
        if config.qkv_bias:
            found |= {
                blk + "attn_q.bias": (query,),
                blk + "attn_k.bias": (key_value,),
                blk + "attn_v.bias": (key_value,),
            }
        if config.qk_norm:
            found |= {blk + "attn_q_norm.weight": (config.head_dim,), blk + "attn_k_norm.weight": (config.head_dim,)}
        found |= {blk + "attn_output.weight": (hidden, query), blk + "ffn_norm.weight": (hidden,)}
        found |= {blk + "ffn_gate.weight": (inner, hidden), blk + "ffn_up.weight": (inner, hidden)}
        found[blk + "ffn_down.weight"] = (hidden, inner)
    found["output_norm.weight"] = (hidden,)
    if not config.tied_embeddings:
        found["output.weight"] = (config.vocab_size, hidden)
    return found


def with_sizes(config: ModelConfig, weights: dict[str, TinyWeight], kind: str) -> ModelConfig:
    """The config with digest and byte counts of these weights."""
    digest = hashlib.sha256(b"".join(w.name.encode() + w.stored.tobytes() for w in weights.values()))
    head = "token_embd.weight" if config.tied_embeddings else "output.weight"
    kinds = [Counter[str]() for _ in range(config.n_layers)]
    for weight in weights.values():
        if weight.name.startswith("blk.") and len(weight.shape) == 2:
            kinds[int(weight.name.split(".")[1])][weight.kind] += math.prod(weight.shape)
    return msgspec.structs.replace(
        config,
        digest=digest.hexdigest(),
        layer_bytes=tuple(
            sum(w.stored.nbytes for w in weights.values() if w.name.startswith(f"blk.{layer}."))
            for layer in range(config.n_layers)
        ),
        embedding_bytes=weights["token_embd.weight"].stored.nbytes,
        head_bytes=weights["output_norm.weight"].stored.nbytes + weights[head].stored.nbytes,
        layer_kinds=tuple(tuple(sorted(of_layer.items())) for of_layer in kinds),
        embedding_kind=weights["token_embd.weight"].kind,
        head_kind=weights[head].kind,
        quantisation=kind,
    )


def same_shape(a: ModelConfig, b: ModelConfig) -> bool:
    """Are they equal but for how the model is called and how its digest is made?"""
    return msgspec.structs.replace(a, name="", digest="") == msgspec.structs.replace(b, name="", digest="")


def write_gguf(
    path: Path,
    config: ModelConfig | None = None,
    *,
    seed: int = 0,
    kind: str = "F32",
    metadata: dict[str, str | int | float | bool] | None = None,
    pre: str = "smollm",
) -> TinySource:
    """Write the model of `tiny_source` (same arguments) as llama.cpp's converter would; returns that model.

    `metadata` may replace what is there. The file has a chat template and a byte-level tokenizer that splits as `pre`.
    """
    source = tiny_source(config, seed=seed, kind=kind)
    config = source.config
    writer = gguf.GGUFWriter(path, config.architecture)
    half_split = config.architecture in ("qwen2", "qwen3")
    fields: dict[str, Any] = {
        "general.name": config.name,
        "block_count": config.n_layers,
        "context_length": config.context_length,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.n_heads,
        "attention.head_count_kv": config.n_kv_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "rope.dimension_count": config.head_dim,
        "rope.freq_base": config.rope_theta,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
    }
    if config.sliding_window:
        fields["attention.sliding_window"] = config.sliding_window
    if config.rope_scaling and config.rope_scaling.kind == "linear":
        fields |= {"rope.scaling.type": "linear", "rope.scaling.factor": config.rope_scaling.factor}
    for key, value in {**fields, **(metadata or {})}.items():
        full = key if key.startswith(("general.", "tokenizer.", "split.")) else f"{config.architecture}.{key}"
        add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
        add[type(value)](full, value)
    add_tokenizer(writer, config.vocab_size, pre)
    if config.rope_scaling and config.rope_scaling.kind == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_divisors(config))
    for weight in source.weights.values():
        stored = to_half_split(weight, config) if half_split else weight
        data = stored.raw()[0] if len(stored.shape) == 1 else stored.raw()
        writer.add_tensor(weight.name, data, raw_dtype=gguf.GGMLQuantizationType[weight.kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return source


def write_safetensors(
    folder: Path, config: ModelConfig | None = None, *, seed: int = 0, kind: str = "F32", files: int = 1
) -> TinySource:
    """Write the model of `tiny_source` as the hub has it: config.json, tokenizer.json, half-split rows, hub names.

    With `files` above 1 the tensors are spread over as many files, with an index. `kind` is F32, F16 or BF16, of
    vectors too; the model that is returned is the one in the files.
    """
    source = _all_of_a_kind(tiny_source(config, seed=seed, kind=kind), kind)
    config = source.config
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(hub_config(config, _DTYPES[kind])))
    named = {hub_name(weight.name): to_half_split(weight, config) for weight in source.weights.values()}
    names = (
        [f"model-{i + 1:05}-of-{files:05}.safetensors" for i in range(files)] if files > 1 else ["model.safetensors"]
    )
    parts = dict(zip(names, np.array_split(np.array(list(named)), files), strict=True))
    for file, members in parts.items():
        _write_safetensors_file(folder / file, {name: named[name] for name in members.tolist()})
    if files > 1:
        index = {
            "metadata": {},
            "weight_map": {name: file for file, members in parts.items() for name in members.tolist()},
        }
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    write_tokenizer_json(folder, config.vocab_size)
    return source


def hub_config(config: ModelConfig, dtype: str = "float32") -> dict[str, Any]:
    """The `config.json` of a model."""
    found: dict[str, Any] = {
        "architectures": [f"{config.architecture.capitalize()}ForCausalLM"],
        "model_type": config.architecture,
        "hidden_act": "silu",
        "num_hidden_layers": config.n_layers,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.head_dim,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": config.tied_embeddings,
        "sliding_window": config.sliding_window,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "torch_dtype": dtype,
    }
    match config.rope_scaling:
        case RopeScaling(kind="linear", factor=factor):
            found["rope_scaling"] = {"rope_type": "linear", "factor": factor}
        case RopeScaling(kind="llama3") as scaling:
            found["rope_scaling"] = {
                "rope_type": "llama3",
                "factor": scaling.factor,
                "low_freq_factor": scaling.low_freq_factor,
                "high_freq_factor": scaling.high_freq_factor,
                "original_max_position_embeddings": scaling.original_context,
            }
    return found


def hub_name(name: str) -> str:
    """The hub's name of a GGUF tensor."""
    *layer, part, suffix = name.split(".")
    return (f"model.layers.{layer[1]}." if layer else "") + f"{_HUB_NAMES[part]}.{suffix}"


def to_half_split(weight: TinyWeight, config: ModelConfig) -> TinyWeight:
    """Rows of rotated heads from interleaved (pair j: 2j, 2j + 1) to half-split order (pair j: j, j + head_dim / 2)."""
    if weight.name.rpartition(".")[0].rpartition(".")[2] not in ("attn_q", "attn_k", "attn_q_norm", "attn_k_norm"):
        return weight
    rows = np.arange(weight.shape[0]).reshape(-1, config.head_dim // 2, 2).swapaxes(1, 2).reshape(-1)
    return weight.reordered(rows)


def llama3_divisors(config: ModelConfig) -> np.ndarray:
    """The table `rope_freqs.weight` as llama.cpp's converter writes it: float32 (head_dim / 2,)."""
    scaling = config.rope_scaling
    assert scaling is not None
    found = []
    for j in range(config.head_dim // 2):
        wavelength = 2 * math.pi * config.rope_theta ** (2 * j / config.head_dim)
        turns = scaling.original_context / wavelength
        if turns > scaling.high_freq_factor:
            found.append(1.0)
        elif turns < scaling.low_freq_factor:
            found.append(scaling.factor)
        else:
            smooth = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
            found.append(1 / ((1 - smooth) / scaling.factor + smooth))
    return np.array(found, np.float32)


def _matrix(rng: np.random.Generator, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """A random matrix as stored: uint8 (rows, bytes per row)."""
    if kind.endswith("_K"):
        return _k_blocks(rng, shape, kind)
    # 2 / sqrt(n): twice what keeps a hidden state's size, so that tiny models have opinions.
    values = rng.normal(0, 2 / math.sqrt(shape[1]), shape).astype(np.float32)
    stored = gguf.quants.quantize(values, gguf.GGMLQuantizationType[kind])
    return np.ascontiguousarray(stored).view(np.uint8).reshape(shape[0], -1)


def _k_blocks(rng: np.random.Generator, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """Random K-quant blocks of 256: any bits are valid; only the float16 scales at their places are kept small."""
    _, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    blocks = rng.integers(0, 256, (shape[0] * shape[1] // 256, size), dtype=np.uint8)
    scale = rng.uniform(0.5, 1, (len(blocks), 1)) / math.sqrt(shape[1])
    if kind == "Q6_K":  # d comes last; a weight is d * int8 scale * (-32..31)
        blocks[:, 208:210] = (scale / 700).astype(np.float16).view(np.uint8)
    elif kind == "Q3_K":  # d comes last; a weight is d * (-32..31) * (-4..3)
        blocks[:, 108:110] = (scale / 20).astype(np.float16).view(np.uint8)
    elif kind == "Q2_K":  # d and dmin come last; a weight is d * 4-bit scale * (0..3) - dmin * 4-bit minimum
        blocks[:, 80:82] = (scale / 6).astype(np.float16).view(np.uint8)
        blocks[:, 82:84] = (scale / 4).astype(np.float16).view(np.uint8)
    else:  # d and dmin come first; a weight is d * 6-bit scale * q - dmin * 6-bit minimum, in the middle about zero
        top = 15 if kind == "Q4_K" else 31
        blocks[:, 0:2] = (scale / 32 / top * 4).astype(np.float16).view(np.uint8)
        blocks[:, 2:4] = (scale / 32 * 2).astype(np.float16).view(np.uint8)
    return blocks.reshape(shape[0], -1)


def _all_of_a_kind(source: TinySource, kind: str) -> TinySource:
    """The same model with its vectors stored as its matrices are, as on the hub."""
    weights: dict[str, TinyWeight] = {}
    for name, weight in source.weights.items():
        stored = weight.stored
        if len(weight.shape) == 1 and kind != "F32":
            values = gguf.quants.quantize(weight.to_float32(), gguf.GGMLQuantizationType[kind])
            stored = np.ascontiguousarray(values).view(np.uint8).reshape(weight.shape[0], -1)
        weights[name] = TinyWeight(name, kind, weight.shape, stored)
    return TinySource(with_sizes(source.config, weights, kind), weights)


def _write_safetensors_file(path: Path, weights: dict[str, TinyWeight]) -> None:
    """By hand: the format is eight bytes of length, JSON, bytes; so BF16 needs no library that knows it."""
    table: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    pieces: list[bytes] = []
    at = 0
    for name, weight in weights.items():
        piece = weight.stored.tobytes()
        table[name] = {"dtype": weight.kind, "shape": list(weight.shape), "data_offsets": [at, at + len(piece)]}
        pieces.append(piece)
        at += len(piece)
    header = json.dumps(table).encode()
    header += b" " * (-len(header) % 8)
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"".join(pieces))
