"""A shard that rounds between two of its layers, as if a wire of lower precision were there: one engine for each part.

What a plan needs that takes over running generations from one that was cut there, see `core.wire`. Where the model's
embedding is its head as well, a shard with both holds it twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import msgspec

from exo_lab.core.errors import NodeError
from exo_lab.engines import wire
from exo_lab.engines.base import EngineInfo, KvBlock, KvExport, LoadProgress, Part, Want

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exo_lab.core.shard import Shard
    from exo_lab.core.tensor import Tensor
    from exo_lab.core.weights import WeightSource
    from exo_lab.core.wire import Rounding
    from exo_lab.engines.base import Engine


class RoundedEngine:
    """See `Engine`.

    Args:
        make: an engine that holds nothing yet.
        roundings: within the shard, in the order of layers.
    """

    def __init__(self, make: Callable[[], Engine], roundings: Sequence[Rounding]) -> None:
        self._roundings = tuple(roundings)
        self._parts = tuple(make() for _ in range(len(self._roundings) + 1))
        self._info: EngineInfo | None = None

    @property
    def info(self) -> EngineInfo:
        """What is loaded."""
        if self._info is None:
            raise NodeError("the engine holds no shard yet; call load() first")
        return self._info

    def load(self, source: WeightSource, shard: Shard, progress: LoadProgress | None = None) -> EngineInfo:
        """See `Engine.load`."""
        edges = [shard.start, *(rounding.layer for rounding in self._roundings), shard.end]
        infos = [
            engine.load(source, msgspec.structs.replace(shard, start=start, end=end), progress)
            for engine, start, end in zip(self._parts, edges, edges[1:], strict=False)
        ]
        self._info = msgspec.structs.replace(
            infos[0],
            weight_bytes=sum(info.weight_bytes for info in infos),
            kv_bytes_per_token=sum(info.kv_bytes_per_token for info in infos),
            together=min(info.together for info in infos),
        )
        return self._info

    def reserve(self, session: str, tokens: int) -> None:
        """See `Engine.reserve`."""
        for engine in self._parts:
            engine.reserve(session, tokens)

    def forward(self, session: str, x: Tensor, position: int, want: Want = "last") -> Tensor | None:
        """See `Engine.forward`."""
        for engine, rounding in zip(self._parts, self._roundings, strict=False):
            x = wire.rounded(_there(engine.forward(session, x, position)), rounding.dtype)
        return self._parts[-1].forward(session, x, position, want)

    def forward_batch(self, parts: Sequence[Part]) -> list[Tensor | None]:
        """See `Engine.forward_batch`."""
        for engine, rounding in zip(self._parts, self._roundings, strict=False):
            outputs = engine.forward_batch(parts)
            parts = [
                part._replace(x=wire.rounded(_there(out), rounding.dtype))
                for part, out in zip(parts, outputs, strict=True)
            ]
        return self._parts[-1].forward_batch(parts)

    def export_kv(self, session: str) -> KvExport:
        """See `Engine.export_kv`."""
        exports = [engine.export_kv(session) for engine in self._parts]
        return KvExport(exports[0].start, tuple(layer for export in exports for layer in export.layers))

    def import_kv(self, session: str, kv: KvExport) -> None:
        """See `Engine.import_kv`."""
        for engine in self._parts:
            engine.import_kv(session, kv)

    def cut_kv(self, session: str, start: int, end: int) -> KvBlock:
        """See `Engine.cut_kv`."""
        blocks = [engine.cut_kv(session, start, end) for engine in self._parts]
        return KvBlock(blocks, end - start, sum(block.nbytes for block in blocks))

    def put_kv(self, session: str, position: int, block: KvBlock) -> None:
        """See `Engine.put_kv`."""
        for engine, part in zip(self._parts, cast("list[KvBlock]", block.data), strict=True):
            engine.put_kv(session, position, part)

    def drop(self, session: str) -> None:
        """Free a session."""
        for engine in self._parts:
            engine.drop(session)

    def kv_bytes(self) -> int:
        """Bytes allocated for all sessions."""
        return sum(engine.kv_bytes() for engine in self._parts)

    def close(self) -> None:
        """Free weights and caches."""
        for engine in self._parts:
            engine.close()


def _there(hidden: Tensor | None) -> Tensor:
    if hidden is None:
        raise NodeError("an engine that is not the last one returned no hidden states")
    return hidden
