"""Clusters whose nodes have model files of their own, each in a folder of its own: what tests of lending run on."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from exo_lab.core.errors import ModelNotFound
from exo_lab.core.shard import Shard
from exo_lab.engines import tensors
from exo_lab.models.open import open_file
from exo_lab.models.source import FileSource
from exo_lab.models.store import ModelStore
from exo_lab.node.node import Node
from tests.node.clusters import MODEL, Cluster, cluster
from tests.tiny import tiny_config, write_gguf, write_safetensors


def not_here(name: str) -> FileSource:
    """As a machine without a hub opens a model that it has not."""
    raise ModelNotFound(f"no model {name!r} on this machine, and no hub.")


def gguf_at(folder: Path, **options: Any) -> Path:
    """A tiny model in a file."""
    folder.mkdir(parents=True, exist_ok=True)
    write_gguf(folder / "tiny.gguf", options.pop("config", tiny_config()), **options)
    return folder / "tiny.gguf"


def folder_at(folder: Path, **options: Any) -> Path:
    """A tiny model in three files of safetensors."""
    write_safetensors(folder / "tiny", options.pop("config", tiny_config("qwen2")), files=3, **options)
    return folder / "tiny"


MADE: dict[str, Callable[..., Path]] = {"gguf": gguf_at, "safetensors": folder_at}


class Lending:
    """A cluster; `folder` holds the store of each node."""

    def __init__(self, made: Cluster, folder: Path) -> None:
        self.made, self.folder = made, folder

    async def add(self, name: str, path: Path | None = None, **changes: Any) -> Node:
        """A node that has the model at `path`, or has none."""
        store = ModelStore(self.folder / name, lambda asked: path if asked == MODEL else None)
        return await self.made.add(name, store=store, **changes)

    def lent(self, node: int) -> int:
        """Bytes that a node gave to others."""
        lender = self.made[node].lender
        assert lender is not None
        return lender.bytes_lent

    def partial(self, node: int) -> Any:
        """What a node has of the model from others."""
        store = self.made[node].parts.store
        assert store is not None
        return store.partial(self.made.source.config.digest)

    def shard(self, start: int, end: int) -> Shard:
        """Layers of the model."""
        return Shard(model=MODEL, start=start, end=end, n_layers=self.made.source.config.n_layers)

    def names(self, start: int, end: int) -> list[str]:
        """Tensors of these layers."""
        return tensors.names(self.made.source.config, self.shard(start, end))


@contextlib.asynccontextmanager
async def lending(path: Path, folder: Path, **options: Any) -> AsyncIterator[Lending]:
    """A cluster without nodes yet, of the model at `path`."""
    source = open_file(path, MODEL)
    try:
        async with cluster(0, source=source, parts={"open_model": not_here}, **options) as made:
            yield Lending(made, folder)
    finally:
        source.close()


@contextlib.asynccontextmanager
async def lenders(folder: Path, have: int, lack: int) -> AsyncIterator[Lending]:
    """Nodes that have the file of a tiny model, n0 and so on, then nodes that lack it; all have met."""
    path = gguf_at(folder / "files")
    async with lending(path, folder) as here:
        for number in range(have + lack):
            await here.add(f"n{number}", path if number < have else None)
        await here.made.all_met()
        yield here
