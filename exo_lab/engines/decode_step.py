"""Positions through the layers of a stage on a CPU: one, or a few, as decoding does for every token, or many.

At this size an operator costs as much to call as to compute, so there are few of them, and they write into buffers
that are made once. Our own kernels do in one call what takes PyTorch several. Nothing here depends on which layers
run: every cut of a model computes the same bits.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional

from exo_lab.engines import native
from exo_lab.engines.native_stage import NativeStage, Row, can_run, scores_size

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Iterator, Sequence

    from exo_lab.core.model import ModelConfig
    from exo_lab.engines.layer import Layer
    from exo_lab.engines.prefill_step import PrefillStep

MOST_TOGETHER = 16  # beyond that, layers that our kernels do not take are better computed at once
_silu_ = torch.ops.aten.silu_.default


class _Mixed(NamedTuple):
    """Layers with a matrix that our kernels do not take: two kinds of weights side by side, say."""

    layers: list[Layer]


class DecodeStep:
    """Buffers for one position. Not for two threads at once.

    Args:
        config: of the model.
        activations: dtype that the layers' products take.
        cached: dtype of the KV cache.
        packed: are the weights of the whole model kept quantised? Then a few positions may run together.
    """

    def __init__(
        self, config: ModelConfig, activations: torch.dtype, cached: torch.dtype, *, packed: bool = False
    ) -> None:
        self.config, self.cached, self._packed = config, cached, packed
        heads, groups, head_dim = config.n_heads, config.n_kv_heads, config.head_dim
        queries, rotated = heads * head_dim, heads + groups
        self._zeros = torch.zeros(1, config.hidden_size)
        self._scaled = torch.empty(1, config.hidden_size)
        self._normed = torch.empty(1, config.hidden_size, dtype=activations)
        self._qkv = torch.empty(1, queries + 2 * groups * head_dim)
        self._heads = self._qkv.view(-1, head_dim)  # (heads + 2 groups, head_dim)
        # Interleaved pairs are complex numbers: turning them is one product.
        self._pairs = torch.view_as_complex(self._heads[:rotated].view(rotated, head_dim // 2, 2))
        self._queries = self._heads[:heads].view(groups, heads // groups, head_dim)
        self._new = self._heads[heads:].view(2, groups, head_dim)
        # Queries are scaled while they are turned.
        self._lengths = torch.ones(rotated, 1)
        self._lengths[:heads] = 1 / math.sqrt(head_dim)
        self._turn = torch.empty(rotated, head_dim // 2, dtype=torch.complex64)
        self._attended = torch.empty(1, queries, dtype=activations)
        self._attended_heads = self._attended.view(groups, heads // groups, head_dim)
        self._gate_up = torch.empty(1, 2 * config.intermediate_size)
        self._gate, self._up = self._gate_up.split(config.intermediate_size, -1)
        self._gated = torch.empty(1, config.intermediate_size)
        self._inner = torch.empty(1, config.intermediate_size, dtype=activations)
        self._room = torch.empty(0)
        fits = config.hidden_size % 16 == config.intermediate_size % 16 == head_dim % 16 == 0 and head_dim <= 256
        reduced = activations == cached == torch.bfloat16
        self._native = native.library(torch.get_num_threads()) if fits and reduced else None
        self._layers: list[Layer] | None = None
        self._parts: list[NativeStage | _Mixed] = []

    @property
    def kernels(self) -> str:
        """See `EngineInfo.kernels`."""
        return "torch" if self._native is None else "native"

    @property
    def together(self) -> int:
        """Of so many positions at once each gets the bits that it would get alone."""
        return MOST_TOGETHER if self._native is not None and self._packed else 1

    def run(self, layers: list[Layer], hidden: torch.Tensor, rows: Sequence[Row], turns: torch.Tensor) -> None:
        """Run a few positions, at most `together`.

        Args:
            layers: of the shard.
            hidden: float32 (n, hidden), changed in place.
            rows: n positions, those of one session one after the other; keys and values are written to their caches.
            turns: complex64 (n, head_dim / 2), the rotations of those positions.
        """
        if self._native is None:
            self._run_one(layers, hidden, rows[0].cache, turns[0], rows[0].position)
            return
        for part, first, end in self._parts_of(self._native, layers):
            if isinstance(part, NativeStage):
                part.run(hidden, rows, first, turns)
            else:
                for number, (cache, position) in enumerate(rows):
                    self._run_one(part.layers, hidden[number : number + 1], cache[first:end], turns[number], position)

    def run_many(
        self,
        layers: list[Layer],
        hidden: torch.Tensor,
        cached: torch.Tensor,
        turns: torch.Tensor,
        position: int,
        prefill: PrefillStep,
    ) -> torch.Tensor:
        """Run positions [position, position + n) of one session, more than `together`.

        Args:
            layers: of the shard.
            hidden: float32 (n, hidden), changed in place.
            cached: (layers, 2, groups, T, head_dim), with room; keys and values are written there.
            turns: complex64 (n, head_dim / 2), the rotations of those positions.
            position: 0-based.
            prefill: for layers that our kernels do not take.

        Returns:
            Hidden states, shape and dtype as they came.
        """
        if self._native is None:
            return prefill.run(layers, hidden, cached, turns, position)
        rows = [Row(cached, at) for at in range(position, position + hidden.shape[0])]
        for part, first, end in self._parts_of(self._native, layers):
            if isinstance(part, NativeStage):
                part.run(hidden, rows, first, turns)
            else:
                hidden.copy_(prefill.run(part.layers, hidden, cached[first:end], turns, position))
        return hidden

    def _run_one(
        self, layers: list[Layer], hidden: torch.Tensor, cached: torch.Tensor, turn: torch.Tensor, position: int
    ) -> None:
        """One position; `cached` (layers, 2, groups, T, head_dim) is of these layers."""
        window = self.config.sliding_window
        start = max(0, position + 1 - window) if window else 0
        past = cached[:, :, :, start : position + 1]
        slots = cached[:, :, :, position].unbind(0)
        torch.mul(turn, self._lengths, out=self._turn)
        if self.cached == torch.float32:
            self._run_float32(layers, hidden, slots, past)
            return
        if self._native is not None:
            self._run_native(self._native, layers, hidden, slots, past)
            return
        # The products below are slow in bfloat16 on a CPU: each layer's past is widened into one shared buffer.
        widened = self._widened(past.shape[1:])
        keys, values = widened[0].transpose(1, 2), widened[1]
        for layer, slot, stored in zip(layers, slots, past.unbind(0), strict=True):
            self._norm(hidden, layer.attn_norm)
            self._project(layer, slot)
            widened.copy_(stored)
            self._attend(keys, values)
            self._finish(layer, hidden)

    def _parts_of(self, kernels: ctypes.CDLL, layers: list[Layer]) -> Iterator[tuple[NativeStage | _Mixed, int, int]]:
        """Runs of layers that one call computes and those that take several (made once), each with its [first, end)."""
        if self._layers is not layers:
            self._layers = layers
            grouped = itertools.groupby(layers, can_run)
            self._parts = [
                NativeStage(kernels, self.config, list(run)) if whole else _Mixed(list(run)) for whole, run in grouped
            ]
        first = 0
        for part in self._parts:
            yield part, first, first + len(part.layers)
            first += len(part.layers)

    def _run_float32(
        self, layers: list[Layer], hidden: torch.Tensor, slots: tuple[torch.Tensor, ...], past: torch.Tensor
    ) -> None:
        keys, values = past[:, 0].transpose(2, 3).unbind(0), past[:, 1].unbind(0)
        for layer, slot, key, value in zip(layers, slots, keys, values, strict=True):
            self._norm(hidden, layer.attn_norm)
            self._project(layer, slot)
            self._attend(key, value)
            self._finish(layer, hidden)

    def _run_native(
        self,
        kernels: ctypes.CDLL,
        layers: list[Layer],
        hidden: torch.Tensor,
        slots: tuple[torch.Tensor, ...],
        past: torch.Tensor,
    ) -> None:
        config, threads = self.config, torch.get_num_threads()
        heads, position = config.n_heads, past.shape[3] - 1
        needed = scores_size(position, 1, 0, threads)
        if needed > self._room.numel():
            self._room = torch.empty(2 * needed)
        room, queries, attended = self._room.data_ptr(), self._queries.data_ptr(), self._attended.data_ptr()
        heads_of = heads, heads // config.n_kv_heads, config.head_dim, threads
        shape = past.stride(2), position, 1, 0, *heads_of
        stream, normed, gate_up, inner = (
            part.data_ptr() for part in (hidden, self._normed, self._gate_up, self._inner)
        )
        size, eps, width = config.hidden_size, config.rms_norm_eps, config.intermediate_size
        # Where keys and values of a layer begin, in bytes.
        at, to_values, to_next = past.data_ptr(), 2 * past.stride(1), 2 * past.stride(0)
        for layer, slot in zip(layers, slots, strict=True):
            kernels.exo_norm(stream, layer.attn_norm.data_ptr(), normed, size, eps)
            self._project(layer, slot)
            kernels.exo_attend(queries, 0, at, at + to_values, room, attended, *shape)
            at += to_next
            hidden.add_(layer.output.product(self._attended))
            kernels.exo_norm(stream, layer.ffn_norm.data_ptr(), normed, size, eps)
            self._gate_up.copy_(layer.gate_up.product(self._normed))
            kernels.exo_gate(gate_up, inner, width)
            hidden.add_(layer.down.product(self._inner))

    def _widened(self, shape: torch.Size) -> torch.Tensor:
        if shape.numel() > self._room.numel():
            self._room = torch.empty(2 * shape.numel())
        return self._room[: shape.numel()].view(shape)

    def _norm(self, hidden: torch.Tensor, weight: torch.Tensor) -> None:
        """RMSNorm (Zhang and Sennrich 2019) of `hidden` into `_normed`."""
        flat = hidden[0]
        mean_square = torch.dot(flat, flat).item() / flat.numel()
        scale = 1 / math.sqrt(mean_square + self.config.rms_norm_eps)
        torch.addcmul(self._zeros, hidden, weight, value=scale, out=self._scaled)
        self._normed.copy_(self._scaled)

    def _project(self, layer: Layer, slot: torch.Tensor) -> None:
        """Queries into their buffer, keys and values into `slot` (2, groups, head_dim) of the cache."""
        self._qkv.copy_(layer.qkv.product(self._normed))
        if layer.bias is not None:
            self._qkv.add_(layer.bias)
        if layer.q_norm is not None and layer.k_norm is not None:
            heads, eps = self.config.n_heads, self.config.rms_norm_eps
            for part, weight in (
                (self._heads[:heads], layer.q_norm),
                (self._heads[heads : heads + self.config.n_kv_heads], layer.k_norm),
            ):
                part.copy_(functional.rms_norm(part, weight.shape, weight, eps))
        self._pairs.mul_(self._turn)
        slot.copy_(self._new)

    def _attend(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Keys (groups, head_dim, T), values (groups, T, head_dim): the queries of a group share both."""
        weights = torch.softmax(torch.bmm(self._queries, keys), -1)  # (groups, heads / groups, T)
        self._attended_heads.copy_(torch.bmm(weights, values))

    def _finish(self, layer: Layer, hidden: torch.Tensor) -> None:
        hidden.add_(layer.output.product(self._attended))
        self._norm(hidden, layer.ffn_norm)
        self._gate_up.copy_(layer.gate_up.product(self._normed))
        torch.mul(_silu_(self._gate), self._up, out=self._gated)
        self._inner.copy_(self._gated)
        hidden.add_(layer.down.product(self._inner))
