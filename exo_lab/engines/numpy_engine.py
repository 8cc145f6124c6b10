"""The truth: a decoder in float32 NumPy, written to be read. No tricks; every other engine is compared with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from exo_lab.core.errors import NodeError
from exo_lab.engines import convert, rope, tensors
from exo_lab.engines.base import (
    EngineInfo,
    KvBlock,
    KvExport,
    LoadProgress,
    Part,
    Want,
    check_position,
    check_span,
    layers_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.core.shard import Shard
    from exo_lab.core.tensor import Tensor
    from exo_lab.core.weights import WeightSource


class NumpyEngine:
    """float32 NumPy on the CPU. Slow, clear, exact."""

    def __init__(self) -> None:
        self._info: EngineInfo | None = None
        self._weights: dict[str, np.ndarray] = {}
        self._cache: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}

    def load(self, source: WeightSource, shard: Shard, progress: LoadProgress | None = None) -> EngineInfo:
        """Read the shard's tensors as float32."""
        self.config, self.shard = source.config, shard
        names = tensors.names(self.config, shard)
        for index, name in enumerate(names):
            self._weights[name] = source.weight(name).to_float32()
            if progress:
                progress(index + 1, len(names), name)
        self._info = EngineInfo(
            name="numpy",
            dtype="float32",
            device="cpu",
            weight_bytes=sum(w.nbytes for w in self._weights.values()),
            kv_bytes_per_token=len(shard) * 2 * self.config.n_kv_heads * self.config.head_dim * 4,
        )
        return self._info

    @property
    def info(self) -> EngineInfo:
        """What is loaded."""
        if self._info is None:
            raise NodeError("the numpy engine holds no shard yet; call load() first")
        return self._info

    def reserve(self, session: str, tokens: int) -> None:
        """Nothing to do: arrays grow by concatenation."""

    def forward(self, session: str, x: Tensor, position: int, want: Want = "last") -> Tensor | None:
        """See `Engine.forward`."""
        hidden = self._embed(x) if self.shard.is_first else convert.to_numpy(x)  # (n, hidden)
        layers = self._cache.get(session) or self._empty()
        check_position(session, position, len(layers[0][0]))
        self._cache[session] = layers
        turns = rope.rotations(self.config, position, position + len(hidden))[:, None, :]  # (n, 1, head_dim / 2)
        for index in range(len(self.shard)):
            past_keys, past_values = (array[:position] for array in layers[index])
            name = f"blk.{self.shard.start + index}."
            queries, keys, values = self._project(hidden, name, turns)
            layers[index] = np.concatenate((past_keys, keys)), np.concatenate((past_values, values))
            hidden = (
                hidden + self._attend(queries, *layers[index], position) @ self._weights[name + "attn_output.weight"].T
            )
            hidden = hidden + self._feed_forward(hidden, name)
        if not self.shard.is_last:
            return convert.from_numpy(hidden)
        return None if want == "none" else convert.from_numpy(self._head(hidden[-1:] if want == "last" else hidden))

    def _embed(self, x: Tensor) -> np.ndarray:
        return self._weights["token_embd.weight"][convert.to_numpy(x)]

    def _project(self, hidden: np.ndarray, name: str, turns: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Queries (n, heads, head_dim), keys and values (n, kv_heads, head_dim), rotated."""
        normed = self._norm(hidden, self._weights[name + "attn_norm.weight"])
        out: list[np.ndarray] = []
        for part in "qkv":
            projected = normed @ self._weights[f"{name}attn_{part}.weight"].T
            if self.config.qkv_bias:
                projected = projected + self._weights[f"{name}attn_{part}.bias"]
            projected = projected.reshape(len(hidden), -1, self.config.head_dim)
            if self.config.qk_norm and part != "v":
                projected = self._norm(projected, self._weights[f"{name}attn_{part}_norm.weight"])
            out.append(_rotate(projected, turns) if part != "v" else projected)
        return out[0], out[1], out[2]

    def _attend(self, queries: np.ndarray, keys: np.ndarray, values: np.ndarray, position: int) -> np.ndarray:
        """Causal grouped-query attention: (n, heads * head_dim)."""
        n, heads, head_dim = queries.shape
        group = heads // self.config.n_kv_heads
        ahead = np.arange(len(keys))[None, :] - (position + np.arange(n))[:, None]  # (n, T): > 0 is the future
        hidden = ahead > 0
        if self.config.sliding_window:
            hidden |= ahead <= -self.config.sliding_window
        out = np.empty_like(queries)
        for head in range(heads):
            scores = queries[:, head] @ keys[:, head // group].T / np.sqrt(np.float32(head_dim))  # (n, T)
            scores[hidden] = -np.inf
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            out[:, head] = scores @ values[:, head // group] / scores.sum(-1, keepdims=True)
        return out.reshape(n, heads * head_dim)

    def _feed_forward(self, hidden: np.ndarray, name: str) -> np.ndarray:
        normed = self._norm(hidden, self._weights[name + "ffn_norm.weight"])
        gate = normed @ self._weights[name + "ffn_gate.weight"].T
        up = normed @ self._weights[name + "ffn_up.weight"].T
        return (gate / (1 + np.exp(-gate)) * up) @ self._weights[name + "ffn_down.weight"].T

    def _head(self, hidden: np.ndarray) -> np.ndarray:
        matrix = self._weights[tensors.head_matrix(self.config)]
        return self._norm(hidden, self._weights["output_norm.weight"]) @ matrix.T

    def _norm(self, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """RMSNorm (Zhang and Sennrich 2019)."""
        return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + np.float32(self.config.rms_norm_eps)) * weight

    def _empty(self) -> list[tuple[np.ndarray, np.ndarray]]:
        none = np.empty((0, self.config.n_kv_heads, self.config.head_dim), np.float32)
        return [(none, none)] * len(self.shard)

    def forward_batch(self, parts: Sequence[Part]) -> list[Tensor | None]:
        """See `Engine.forward_batch`: one after the other."""
        return [self.forward(part.session, part.x, part.position, part.want) for part in parts]

    def export_kv(self, session: str) -> KvExport:
        """See `Engine.export_kv`."""
        layers = self._cache.get(session) or self._empty()
        return KvExport(self.shard.start, tuple(convert.from_numpy(np.stack(pair, 1)) for pair in layers))

    def import_kv(self, session: str, kv: KvExport) -> None:
        """See `Engine.import_kv`."""
        inner = (2, self.config.n_kv_heads, self.config.head_dim)
        arrays = [convert.to_numpy(layer) for layer in layers_of(session, kv, self.shard, inner)]
        self._cache[session] = [(array[:, 0], array[:, 1]) for array in arrays]

    def cut_kv(self, session: str, start: int, end: int) -> KvBlock:
        """See `Engine.cut_kv`."""
        layers = self._cache.get(session) or self._empty()
        check_span(session, start, end, len(layers[0][0]))
        data = [(keys[start:end].copy(), values[start:end].copy()) for keys, values in layers]
        return KvBlock(data, end - start, sum(keys.nbytes + values.nbytes for keys, values in data))

    def put_kv(self, session: str, position: int, block: KvBlock) -> None:
        """See `Engine.put_kv`."""
        layers = self._cache.get(session) or self._empty()
        check_position(session, position, len(layers[0][0]))
        data = cast("list[tuple[np.ndarray, np.ndarray]]", block.data)
        self._cache[session] = [
            (np.concatenate((keys[:position], more_keys)), np.concatenate((values[:position], more_values)))
            for (keys, values), (more_keys, more_values) in zip(layers, data, strict=True)
        ]

    def drop(self, session: str) -> None:
        """Free a session."""
        self._cache.pop(session, None)

    def kv_bytes(self) -> int:
        """Bytes of all caches."""
        return sum(k.nbytes + v.nbytes for layers in self._cache.values() for k, v in layers)

    def close(self) -> None:
        """Free weights and caches."""
        self._weights.clear()
        self._cache.clear()


def _rotate(x: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """Turn interleaved pairs: x (n, heads, head_dim), turns complex (n, 1, head_dim / 2)."""
    pairs = np.ascontiguousarray(x).view(np.complex64)
    return (pairs * turns).astype(np.complex64).view(np.float32)
