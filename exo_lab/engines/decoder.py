"""The torch engine: a config-driven Llama-family decoder over a shard, on CPU or CUDA.

float32, bfloat16, or quantised as in the file. The residual stream is float32 on a CPU. This file holds weights and
sessions; the arithmetic is in `decode_step` (one position on a CPU) and `prefill_step` (everything else).
Imported lazily: nothing outside `engines/` may import this file at start-up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from exo_lab.core.errors import ConfigError, NodeError
from exo_lab.engines import quant, rope, tensors
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
from exo_lab.engines.decode_step import DecodeStep
from exo_lab.engines.kv_cache import KvCache
from exo_lab.engines.layer import Layer, Reader
from exo_lab.engines.native_matrix import NativeMatrix
from exo_lab.engines.native_stage import Row
from exo_lab.engines.prefill_step import PrefillStep
from exo_lab.engines.torch_convert import from_torch, to_torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.core.shard import Shard
    from exo_lab.core.tensor import Tensor
    from exo_lab.core.weights import WeightSource
    from exo_lab.engines.linear import Linear

DTYPES = ("auto", "float32", "bfloat16", "quantised")
_FLOATS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_TURNS_AT_FIRST = 512  # rotations computed before anything is asked; the table doubles after that


class TorchEngine:
    """See `Engine`.

    Args:
        dtype: "float32", "bfloat16", "quantised" (four- and eight-bit weights stay so in memory; CPU only), or "auto":
            quantised where the file is and the processor can, float32 for float32 files, else bfloat16.
        device: "auto", "cpu", "cuda", "cuda:1".
        threads: CPU threads of this process's products; None leaves torch's default.

    Raises:
        ConfigError: no such dtype, or one that this device cannot compute in.
    """

    def __init__(self, dtype: str = "auto", device: str = "auto", threads: int | None = None) -> None:
        if dtype not in DTYPES:
            raise ConfigError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        if dtype == "quantised" and self.device.type != "cpu":
            raise ConfigError("dtype 'quantised' runs on the CPU only; choose bfloat16 or float32 on a GPU")
        self._threads = threads
        self._use_threads()
        if dtype == "quantised" and not quant.block_rows():
            raise ConfigError(
                "this processor packs four-bit weights in a layout that exo_lab does not know; use dtype='bfloat16'"
            )
        self._wanted_dtype = dtype
        self._info: EngineInfo | None = None
        self._layers: list[Layer] = []
        self._embedding: Linear | None = None
        self._head: Linear | None = None
        self._sessions: dict[str, KvCache] = {}

    def _use_threads(self) -> None:
        # The setting is per thread once a thread has computed, and engines of one process may differ.
        if self._threads and torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)

    @property
    def info(self) -> EngineInfo:
        """What is loaded."""
        if self._info is None:
            raise NodeError("the torch engine holds no shard yet; call load() first")
        return self._info

    @torch.inference_mode()
    def load(self, source: WeightSource, shard: Shard, progress: LoadProgress | None = None) -> EngineInfo:
        """See `Engine.load`."""
        self._use_threads()
        config = self.config = source.config
        self.shard = shard
        dtype = self._resolve(source)
        dense = _FLOATS.get(dtype, torch.bfloat16)
        on_cpu = self.device.type == "cpu"
        self._stream = torch.float32 if on_cpu else dense
        self._activations = dense
        self._kv_dtype = dense
        read = Reader(source, dense, self._stream, self.device, keep_quantised=dtype == "quantised")
        total, done, size = config.shard_bytes(shard.start, shard.end), 0, 0
        if shard.is_first:
            self._embedding = read.matrix(tensors.EMBEDDING)
            done, size = config.embedding_bytes, self._embedding.nbytes
        for index in range(shard.start, shard.end):
            self._layers.append(read.layer(index))
            size += self._layers[-1].nbytes
            done += config.layer_bytes[index] if config.layer_bytes else 0
            if progress:
                progress(done, total, f"layer {index}")
        if shard.is_last:
            self._output_norm = read.vector(tensors.OUTPUT_NORM)
            if config.tied_embeddings and self._embedding is not None:
                self._head = self._embedding
            else:
                self._head = read.matrix(tensors.head_matrix(config))
                size += self._head.nbytes
        if progress:
            progress(total, total, "ready")
        self._turns = torch.empty(0, config.head_dim // 2, dtype=torch.complex64, device=self.device)
        self._prefill = PrefillStep(config, dense, fused=not on_cpu)
        self._decode = DecodeStep(config, dense, self._kv_dtype, packed=dtype == "quantised") if on_cpu else None
        self._info = EngineInfo(
            name="torch",
            dtype=dtype,
            device=str(self.device),
            kernels="torch" if self._decode is None else self._decode.kernels,
            together=1 if self._decode is None else self._decode.together,
            weight_bytes=size,
            kv_bytes_per_token=len(shard) * 2 * config.n_kv_heads * config.head_dim * self._kv_dtype.itemsize,
        )
        return self._info

    def _resolve(self, source: WeightSource) -> str:
        if self._wanted_dtype != "auto":
            return self._wanted_dtype
        # Of the whole model: a shard whose own layers are stored otherwise computes as every other cut would have it.
        kinds = {kind for layer in source.config.layer_kinds for kind, _ in layer}
        if not kinds:
            names = [
                f"blk.{index}.{name}" for index in range(self.shard.start, self.shard.end) for name in tensors.MATRICES
            ]
            kinds = {source.weight(name).kind for name in names}
        if self.device.type == "cpu" and quant.block_rows() and kinds & quant.CONVERTERS.keys():
            return "quantised"
        return "float32" if kinds == {"F32"} else "bfloat16"

    def _session(self, session: str) -> KvCache:
        cache = self._sessions.get(session)
        if cache is None:
            cache = self._sessions[session] = self._empty()
        return cache

    def _empty(self) -> KvCache:
        return KvCache(len(self.shard), self.config, self._kv_dtype, self.device)

    @torch.inference_mode()
    def reserve(self, session: str, tokens: int) -> None:
        """See `Engine.reserve`."""
        self._session(session).reserve(tokens)

    @torch.inference_mode()
    def forward(self, session: str, x: Tensor, position: int, want: Want = "last") -> Tensor | None:
        """See `Engine.forward`."""
        hidden, cache = self._enter(session, x, position)
        end = position + hidden.shape[0]
        turns = self._rotations(end)[position:end]  # (n, head_dim / 2)
        if self._decode is not None and end - position <= self._decode.together:
            rows = [Row(cache.data, at) for at in range(position, end)]
            self._decode.run(self._layers, hidden, rows, turns)
        elif self._decode is not None:
            hidden = self._decode.run_many(self._layers, hidden, cache.data, turns, position, self._prefill)
        else:
            hidden = self._prefill.run(self._layers, hidden, cache.data, turns, position)
        cache.length = end
        return self._leave(hidden, want)

    @torch.inference_mode()
    def forward_batch(self, parts: Sequence[Part]) -> list[Tensor | None]:
        """See `Engine.forward_batch`."""
        count, sessions = sum(part.x.shape[0] for part in parts), {part.session for part in parts}
        if self._decode is None or count > self._decode.together or len(sessions) < len(parts):
            raise NodeError(
                f"at most {self.info.together} positions run together, and one step a session; got {count} positions "
                f"of {len(sessions)} sessions in {len(parts)} steps"
            )
        entered = [self._enter(part.session, part.x, part.position) for part in parts]
        rows: list[Row] = []
        for part, (hidden, cache) in zip(parts, entered, strict=True):
            rows += [Row(cache.data, part.position + at) for at in range(hidden.shape[0])]
        turns = self._rotations(max(row.position for row in rows) + 1)[[row.position for row in rows]]
        together = torch.cat([hidden for hidden, _ in entered])
        self._decode.run(self._layers, together, rows, turns)
        out: list[Tensor | None] = []
        for part, (hidden, cache), own in zip(
            parts, entered, together.split([hidden.shape[0] for hidden, _ in entered]), strict=True
        ):
            cache.length = part.position + hidden.shape[0]
            out.append(None if self._head is not None else from_torch(own.clone()))
        if self._head is not None:
            self._heads(parts, together, out)
        return out

    def _heads(self, parts: Sequence[Part], together: torch.Tensor, out: list[Tensor | None]) -> None:
        """Put the logits of every part that wants some where they belong: one product for all."""
        wanted: list[int] = []
        spans: list[tuple[int, int]] = []  # (part, rows)
        at = 0
        for number, part in enumerate(parts):
            count = part.x.shape[0]
            first = {"last": count - 1, "all": 0, "none": count}[part.want]
            wanted += range(at + first, at + count)
            if first < count:
                spans.append((number, count - first))
            at += count
        if wanted and self._head is not None:
            logits = self._logits(self._head, together[wanted])
            for (number, _), own in zip(spans, logits.split([count for _, count in spans]), strict=True):
                out[number] = from_torch(own.clone())

    def _enter(self, session: str, x: Tensor, position: int) -> tuple[torch.Tensor, KvCache]:
        """Hidden states (n, hidden) of a step, memory of our own, and its session's cache with room for them."""
        self._use_threads()
        cache = self._session(session)
        check_position(session, position, cache.length)
        hidden = to_torch(x, self.device)
        if self._embedding is not None:
            hidden = self._embedding.rows(hidden.long())
        hidden = hidden.to(self._stream)
        cache.reserve(position + hidden.shape[0])
        return hidden, cache

    def _leave(self, hidden: torch.Tensor, want: Want) -> Tensor | None:
        if self._head is None:
            return from_torch(hidden)
        if want == "none":
            return None
        return from_torch(self._logits(self._head, hidden[-1:] if want == "last" else hidden))

    def _logits(self, head: Linear, hidden: torch.Tensor) -> torch.Tensor:
        """float32 (n, vocab) of hidden states (n, hidden)."""
        normed = functional.rms_norm(hidden, (self.config.hidden_size,), self._output_norm, self.config.rms_norm_eps)
        normed = normed.to(self._activations)
        few = 1 < len(normed) <= self.info.together
        if few and not isinstance(head, NativeMatrix):
            # A product of several rows may round otherwise than that of one.
            return torch.cat([head.product(normed[row : row + 1]).float() for row in range(len(normed))])
        return head.product(normed).float()

    def _rotations(self, end: int) -> torch.Tensor:
        if end > len(self._turns):
            size = min(max(end, 2 * len(self._turns), _TURNS_AT_FIRST), max(end, self.config.context_length))
            self._turns = torch.from_numpy(rope.rotations(self.config, 0, size)).to(self.device)
        return self._turns

    def export_kv(self, session: str) -> KvExport:
        """See `Engine.export_kv`."""
        cache = self._sessions.get(session) or self._empty()
        layers = cache.cut(0, cache.length).permute(0, 3, 1, 2, 4)  # (layers, tokens, 2, groups, head_dim)
        copies = (kv.contiguous() for kv in layers)
        return KvExport(self.shard.start, tuple(from_torch(kv) for kv in copies))

    @torch.inference_mode()
    def import_kv(self, session: str, kv: KvExport) -> None:
        """See `Engine.import_kv`."""
        config = self.config
        layers = layers_of(session, kv, self.shard, (2, config.n_kv_heads, config.head_dim))
        cache = self._sessions[session] = self._empty()
        cache.put(0, torch.stack([to_torch(layer, self.device).permute(1, 2, 0, 3) for layer in layers]))

    @torch.inference_mode()
    def cut_kv(self, session: str, start: int, end: int) -> KvBlock:
        """See `Engine.cut_kv`."""
        cache = self._session(session)
        check_span(session, start, end, cache.length)
        data = cache.cut(start, end)
        return KvBlock(data, end - start, data.nbytes)

    @torch.inference_mode()
    def put_kv(self, session: str, position: int, block: KvBlock) -> None:
        """See `Engine.put_kv`."""
        assert isinstance(block.data, torch.Tensor)
        cache = self._session(session)
        check_position(session, position, cache.length)
        cache.put(position, block.data)

    def drop(self, session: str) -> None:
        """Free a session."""
        self._sessions.pop(session, None)

    def kv_bytes(self) -> int:
        """Bytes allocated for all sessions."""
        return sum(cache.nbytes for cache in self._sessions.values())

    def close(self) -> None:
        """Free weights and caches, for others to see: what is free on a GPU decides what is planned."""
        self._layers.clear()
        self._sessions.clear()
        self._embedding = self._head = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
