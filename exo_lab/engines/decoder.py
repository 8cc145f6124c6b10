"""The torch engine: a config-driven Llama-family decoder over a shard, on CPU or CUDA.

float32, bfloat16, or quantised as in the file. The residual stream is float32 on a CPU. Shapes depend on the shard
only through how many layers run, never through what they compute: that is why every cut gives the same bits.
Imported lazily: nothing outside `engines/` may import this file at start-up.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from exo_lab.core.errors import ConfigError, NodeError
from exo_lab.core.tensor import Tensor
from exo_lab.engines import quant, rope, tensors
from exo_lab.engines.base import EngineInfo, KvExport, LoadProgress, Want, check_position
from exo_lab.engines.kv_cache import KvCache
from exo_lab.engines.linear import Linear, linear
from exo_lab.engines.torch_convert import from_torch, to_torch

if TYPE_CHECKING:
    from exo_lab.core.model import ModelConfig
    from exo_lab.core.shard import Shard
    from exo_lab.core.weights import WeightSource

DTYPES = ("auto", "float32", "bfloat16", "quantised")
_FLOATS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Layer:
    """The weights of one layer. Vectors are in the dtype of the residual stream."""

    __slots__ = ("attn_norm", "bias", "down", "ffn_norm", "gate_up", "k_norm", "output", "q_norm", "qkv")

    qkv: Linear
    output: Linear
    gate_up: Linear
    down: Linear
    attn_norm: torch.Tensor  # (hidden,)
    ffn_norm: torch.Tensor  # (hidden,)
    bias: torch.Tensor | None  # (qkv rows,)
    q_norm: torch.Tensor | None  # (head_dim,)
    k_norm: torch.Tensor | None  # (head_dim,)


class TorchEngine:
    """See `Engine`.

    Args:
        dtype: "float32", "bfloat16", "quantised" (four- and eight-bit weights stay so in memory; CPU only), or "auto":
            quantised where the file is and the device can, else the file's float dtype.
        device: "auto", "cpu", "cuda", "cuda:1".
        threads: CPU threads of this process's products; None leaves torch's default.
    """

    def __init__(self, dtype: str = "auto", device: str = "auto", threads: int | None = None) -> None:
        if dtype not in DTYPES:
            raise ConfigError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        if dtype == "quantised" and self.device.type != "cpu":
            raise ConfigError("dtype 'quantised' runs on the CPU only; choose bfloat16 or float32 on a GPU")
        if threads:
            torch.set_num_threads(threads)
        self._wanted_dtype = dtype
        self._info: EngineInfo | None = None
        self._layers: list[Layer] = []
        self._sessions: dict[str, KvCache] = {}

    @property
    def info(self) -> EngineInfo:
        """What is loaded."""
        if self._info is None:
            raise NodeError("the torch engine holds no shard yet; call load() first")
        return self._info

    @torch.inference_mode()
    def load(self, source: WeightSource, shard: Shard, progress: LoadProgress | None = None) -> EngineInfo:
        """See `Engine.load`."""
        config = self.config = source.config
        self.shard = shard
        dtype = self._resolve(source)
        self._dense = _FLOATS.get(dtype, torch.bfloat16)
        self._stream = torch.float32 if self.device.type == "cpu" else self._dense
        self._kv_dtype = torch.float32 if dtype == "float32" else torch.bfloat16
        keep = dtype == "quantised"
        total, done = config.shard_bytes(shard.start, shard.end), 0

        def matrix(*names: str) -> Linear:
            return linear([source.weight(name) for name in names], self._dense, self.device, keep_quantised=keep)

        held: list[Linear] = []
        self._embedding = self._head = None
        if shard.is_first:
            self._embedding = matrix(tensors.EMBEDDING)
            held.append(self._embedding)
        for index in range(shard.start, shard.end):
            layer = self._load_layer(source, f"blk.{index}.", matrix)
            self._layers.append(layer)
            held += [layer.qkv, layer.output, layer.gate_up, layer.down]
            done += config.layer_bytes[index] if config.layer_bytes else 0
            if progress:
                progress(done, total, f"layer {index}")
        if shard.is_last:
            self._output_norm = self._vector(source, tensors.OUTPUT_NORM)
            if config.tied_embeddings and self._embedding is not None:
                self._head = self._embedding
            else:
                self._head = matrix(tensors.head_matrix(config))
                held.append(self._head)
        if progress:
            progress(total, total, "ready")
        self._turns = torch.empty(0, config.head_dim // 2, dtype=torch.complex64, device=self.device)
        self._info = EngineInfo(
            name="torch",
            dtype=dtype,
            device=str(self.device),
            weight_bytes=sum(part.nbytes for part in held),
            kv_bytes_per_token=len(shard) * self._kv_width * self._kv_dtype.itemsize,
        )
        return self._info

    def _resolve(self, source: WeightSource) -> str:
        if self._wanted_dtype != "auto":
            if self._wanted_dtype == "quantised" and not quant.can_unpack():
                raise ConfigError(
                    "this processor packs four-bit weights in a layout that exo_lab does not know; use dtype='bfloat16'"
                )
            return self._wanted_dtype
        kind = source.weight("blk.0.ffn_down.weight").kind
        if kind.startswith("Q"):
            return "quantised" if self.device.type == "cpu" and quant.can_unpack() else "bfloat16"
        return "float32" if kind == "F32" else "bfloat16"

    def _vector(self, source: WeightSource, name: str) -> torch.Tensor:
        return torch.from_numpy(source.weight(name).to_float32()).to(self.device, self._stream)

    def _load_layer(self, source: WeightSource, name: str, matrix: MatrixLoader) -> Layer:
        layer = Layer()
        layer.qkv = matrix(*(f"{name}attn_{part}.weight" for part in "qkv"))
        layer.output = matrix(f"{name}attn_output.weight")
        layer.gate_up = matrix(f"{name}ffn_gate.weight", f"{name}ffn_up.weight")
        layer.down = matrix(f"{name}ffn_down.weight")
        layer.attn_norm = self._vector(source, f"{name}attn_norm.weight")
        layer.ffn_norm = self._vector(source, f"{name}ffn_norm.weight")
        layer.bias = layer.q_norm = layer.k_norm = None
        if self.config.qkv_bias:
            layer.bias = torch.cat([self._vector(source, f"{name}attn_{part}.bias") for part in "qkv"])
        if self.config.qk_norm:
            layer.q_norm = self._vector(source, f"{name}attn_q_norm.weight")
            layer.k_norm = self._vector(source, f"{name}attn_k_norm.weight")
        return layer

    @property
    def _kv_width(self) -> int:
        return 2 * self.config.n_kv_heads * self.config.head_dim

    def _session(self, session: str) -> KvCache:
        cache = self._sessions.get(session)
        if cache is None:
            cache = KvCache(len(self.shard), self._kv_width, self._kv_dtype, self.device)
            self._sessions[session] = cache
        return cache

    @torch.inference_mode()
    def reserve(self, session: str, tokens: int) -> None:
        """See `Engine.reserve`."""
        self._session(session).reserve(tokens)

    @torch.inference_mode()
    def forward(self, session: str, x: Tensor, position: int, want: Want = "last") -> Tensor | None:
        """See `Engine.forward`."""
        cache = self._session(session)
        check_position(session, position, cache.length)
        hidden = to_torch(x, self.device)
        if self._embedding is not None:
            hidden = self._embedding.rows(hidden.long())
        hidden = hidden.to(self._stream)  # (n, hidden)
        end = position + hidden.shape[0]
        cache.reserve(end)
        turns = self._rotations(end)[position:end, None, :]  # (n, 1, head_dim / 2)
        mask = self._mask(position, end)
        for layer, kv in zip(self._layers, cache.data, strict=True):
            hidden = self._run(layer, hidden, kv, turns, mask, position, end)
        cache.length = end
        if self._head is None:
            return from_torch(hidden)
        if want == "none":
            return None
        if want == "last":
            hidden = hidden[-1:]
        normed = functional.rms_norm(hidden, (self.config.hidden_size,), self._output_norm, self.config.rms_norm_eps)
        return from_torch(self._head.product(normed).float())

    def _run(
        self,
        layer: Layer,
        hidden: torch.Tensor,
        kv: torch.Tensor,
        turns: torch.Tensor,
        mask: torch.Tensor | None,
        position: int,
        end: int,
    ) -> torch.Tensor:
        config = self.config
        size, eps = (config.hidden_size,), config.rms_norm_eps
        normed = functional.rms_norm(hidden, size, layer.attn_norm, eps)
        attended = self._attend(layer, layer.qkv.product(normed), kv, turns, mask, position, end)
        hidden = hidden + layer.output.product(attended)
        gate, up = (
            layer.gate_up.product(functional.rms_norm(hidden, size, layer.ffn_norm, eps))
            .split(config.intermediate_size, -1)
        )  # fmt: skip
        return hidden + layer.down.product(functional.silu(gate).mul_(up))

    def _attend(
        self,
        layer: Layer,
        qkv: torch.Tensor,
        kv: torch.Tensor,
        turns: torch.Tensor,
        mask: torch.Tensor | None,
        position: int,
        end: int,
    ) -> torch.Tensor:
        """Grouped-query attention of n positions over [0, end): (n, heads * head_dim)."""
        config = self.config
        n, heads, groups, head_dim = qkv.shape[0], config.n_heads, config.n_kv_heads, config.head_dim
        qkv = qkv.float()
        if layer.bias is not None:
            qkv = qkv + layer.bias
        split = heads * head_dim
        turned = qkv[:, : split + groups * head_dim].view(n, heads + groups, head_dim)
        if layer.q_norm is not None and layer.k_norm is not None:
            turned[:, :heads] = functional.rms_norm(turned[:, :heads], (head_dim,), layer.q_norm, config.rms_norm_eps)
            turned[:, heads:] = functional.rms_norm(turned[:, heads:], (head_dim,), layer.k_norm, config.rms_norm_eps)
        # Interleaved pairs are complex numbers; turning them is one product, in place.
        torch.view_as_complex(turned.view(n, heads + groups, head_dim // 2, 2)).mul_(turns)
        qkv = qkv.to(kv.dtype)
        kv[position:end] = qkv[:, split:]
        past = kv[:end].view(end, 2, groups, head_dim)
        keys, values = past[:, 0].transpose(0, 1)[None], past[:, 1].transpose(0, 1)[None]  # (1, groups, end, head_dim)
        queries = qkv[:, :split]
        if n == 1:
            if config.sliding_window and end > config.sliding_window:
                keys, values = keys[:, :, -config.sliding_window :], values[:, :, -config.sliding_window :]
            # The queries of a group share keys: they sit where a sequence would, so nothing is repeated.
            out = functional.scaled_dot_product_attention(queries.view(1, groups, heads // groups, head_dim), keys, values)
            return out.view(1, split)
        queries = queries.view(n, heads, head_dim).transpose(0, 1)[None]
        keys, values = (part.repeat_interleave(heads // groups, 1) for part in (keys, values))
        out = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        return out[0].transpose(0, 1).reshape(n, split)

    def _rotations(self, end: int) -> torch.Tensor:
        if end > len(self._turns):
            size = min(max(end, 2 * len(self._turns), 512), max(end, self.config.context_length))
            self._turns = torch.from_numpy(rope.rotations(self.config, 0, size)).to(self.device)
        return self._turns

    def _mask(self, position: int, end: int) -> torch.Tensor | None:
        """Additive mask (n, end) for n > 1: position + i sees [0, position + i], less what the window hides."""
        if end - position == 1:
            return None
        ahead = torch.arange(end, device=self.device)[None] - torch.arange(position, end, device=self.device)[:, None]
        hidden = ahead > 0
        if self.config.sliding_window:
            hidden |= ahead <= -self.config.sliding_window
        return torch.zeros(hidden.shape, dtype=self._kv_dtype, device=self.device).masked_fill_(hidden, -math.inf)

    def export_kv(self, session: str) -> KvExport:
        """See `Engine.export_kv`."""
        cache = self._session(session)
        shape = (cache.length, 2, self.config.n_kv_heads, self.config.head_dim)
        layers = tuple(from_torch(kv[: cache.length].reshape(shape).clone()) for kv in cache.data)
        return KvExport(self.shard.start, layers)

    @torch.inference_mode()
    def import_kv(self, session: str, kv: KvExport) -> None:
        """See `Engine.import_kv`."""
        cache = KvCache(len(self.shard), self._kv_width, self._kv_dtype, self.device)
        wanted = [kv.layers[layer - kv.start] for layer in range(self.shard.start, self.shard.end)]
        length = wanted[0].shape[0]
        cache.reserve(length)
        for slot, layer in zip(cache.data, wanted, strict=True):
            slot[:length] = to_torch(layer, self.device).reshape(length, self._kv_width)
        cache.length = length
        self._sessions[session] = cache

    def drop(self, session: str) -> None:
        """Free a session."""
        self._sessions.pop(session, None)

    def kv_bytes(self) -> int:
        """Bytes allocated for all sessions."""
        return sum(cache.nbytes for cache in self._sessions.values())

    def close(self) -> None:
        """Free weights and caches."""
        self._layers.clear()
        self._sessions.clear()
        self._embedding = self._head = None


if TYPE_CHECKING:
    from collections.abc import Callable

    MatrixLoader = Callable[..., Linear]

