"""What a model's weights and caches take in a device's memory, which is seldom what they take in the file. Pure.

It follows what the engines do (`engines/decoder`, `engines/quant`, `engines/numpy_engine`; a test compares): a
processor keeps four- and eight-bit weights and widens every other kind, a GPU widens all of them, NumPy computes in
float32. It takes every processor for one that can keep them. Knows no plans and no speeds.
"""

from __future__ import annotations

import functools
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

from exo_lab.core.weights import BLOCKS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exo_lab.core.device import Device
    from exo_lab.core.model import ModelConfig

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
# Kinds that a processor keeps, with bytes of a weight in our own kernels' layout (engines/native_matrix): 16 rows of 32
# weights in 320 bytes of four bits each, or in 544 of eight.
FOUR_BITS, EIGHT_BITS = 320 / 512, 544 / 512
KEPT = {"Q4_0": FOUR_BITS, "Q4_1": FOUR_BITS, "Q4_K": FOUR_BITS, "Q8_0": EIGHT_BITS}
KEPT_ROWS = 16  # rows of a block: a matrix that does not fill its last one is widened


class Form(NamedTuple):
    """How an engine holds a model: bytes of a widened weight and of a cached element; are four and eight bits kept?"""

    weight_bytes: int
    cached_bytes: int
    keeps: bool


class Footprint(NamedTuple):
    """Bytes in memory of each layer, of the embedding, of output norm and head; `shared`: of both ends on one device.

    `cached` is of one token in one layer.
    """

    layers: tuple[int, ...]
    embedding: int
    head: int
    shared: int
    cached: int

    def weights(self, start: int, end: int) -> int:
        """Bytes of the weights of layers [start, end), embedding and head on the ends, a tied matrix once."""
        first, last = start == 0, end == len(self.layers)
        ends = self.embedding * first + self.head * last - self.shared * (first and last)
        return sum(self.layers[start:end]) + ends


def form_of(config: ModelConfig, device: Device, dtype: str, engine: str) -> Form | None:
    """How a device would hold a model; None where nobody knows, and it is taken to stay as in the file.

    Args:
        config: of the model.
        device: says where it computes, and with which engine unless told.
        dtype: "auto" leaves it to the engine.
        engine: "auto" is the device's own.
    """
    if engine == "auto":
        engine = device.engines[0] if device.engines else "torch"
    wide = 4 if engine == "numpy" else DTYPE_BYTES.get(dtype)
    if wide is not None:
        return Form(wide, wide, keeps=False)
    kinds = {kind for layer in config.layer_kinds for kind, _ in layer}
    if not kinds or not device.computes_on:
        return None
    on_gpu = device.computes_on.startswith("cuda")
    if dtype == "quantised" or (kinds & KEPT.keys() and not on_gpu):
        return Form(2, 2, keeps=True)
    wide = 4 if kinds == {"F32"} else 2
    return Form(wide, wide, keeps=False)


@functools.lru_cache(maxsize=64)
def footprint(config: ModelConfig, form: Form | None) -> Footprint:
    """The sizes of a model that is held in a form; None: as in the file."""
    table = config.vocab_size * config.hidden_size
    ends = [config.vocab_size]
    embedding = _held(config.embedding_bytes, [(config.embedding_kind, table)], form, ends)
    head = _held(config.head_bytes, [(config.head_kind, table)], form, ends)
    sizes = config.layer_bytes or (0,) * config.n_layers
    if config.layer_kinds:
        heads = [config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim]
        rows = [*heads, config.hidden_size, config.intermediate_size]
        layers = tuple(_held(size, kinds, form, rows) for size, kinds in zip(sizes, config.layer_kinds, strict=True))
    elif form is not None and sum(sizes):
        # Only the shape tells how many weights there are.
        scale = config.flops_per_token_per_layer / 2 * config.n_layers * form.weight_bytes / sum(sizes)
        layers = tuple(int(size * scale) for size in sizes)
        embedding, head = int(config.embedding_bytes * scale), int(config.head_bytes * scale)
    else:
        layers = tuple(sizes)
    cached = config.kv_bytes_per_token_per_layer // 2 * (2 if form is None else form.cached_bytes)
    return Footprint(layers, embedding, head, embedding if config.tied_embeddings else 0, cached)


def footprint_of(config: ModelConfig, device: Device, dtype: str = "auto", engine: str = "auto") -> Footprint:
    """The sizes of a model on a device; arguments as `form_of`."""
    return footprint(config, form_of(config, device, dtype, engine))


def _held(stored: int, kinds: Iterable[tuple[str, int]], form: Form | None, rows: Iterable[int]) -> int:
    """Bytes of matrices by kind and what goes with them (norms, biases), which stays as large as in the file."""
    if form is None:
        return stored
    keeps = form.keeps and not any(count % KEPT_ROWS for count in rows)
    total = float(stored)
    for kind, weights in kinds:
        if kind:
            block, block_bytes = BLOCKS[kind]
            held = KEPT.get(kind, form.weight_bytes) if keeps else form.weight_bytes
            total += weights * (held - block_bytes / block)
    return ceil(total)
