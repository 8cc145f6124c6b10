"""exo_lab's torch engine, whole model: `python -m benchmarks.contestants.exo MODEL THREADS DTYPE`."""

from __future__ import annotations

import sys

from benchmarks.contestants.base import serve
from exo_lab.core.shard import Shard
from exo_lab.engines import convert
from exo_lab.engines.base import PREFILL_CHUNK
from exo_lab.engines.decoder import TorchEngine
from exo_lab.models.open import open_model
from exo_lab.planning.chunks import SMALL_CHUNK


class Exo:
    """See `Contestant`."""

    def __init__(self, model: str, threads: int, dtype: str) -> None:
        source = open_model(model)
        layers = source.config.n_layers
        self.engine = TorchEngine(dtype, "cpu", threads)
        self.engine.load(source, Shard(model=model, start=0, end=layers, n_layers=layers))
        source.close()

    def prefill(self, ids: list[int]) -> None:
        """In the chunks that a ring uses."""
        self.engine.drop("s")
        size = SMALL_CHUNK if self.engine.info.dtype == "quantised" else PREFILL_CHUNK
        for start in range(0, len(ids), size):
            chunk = ids[start : start + size]
            want = "last" if start + len(chunk) == len(ids) else "none"
            self.engine.forward("s", convert.tokens(chunk), start, want)

    def decode(self, token: int, position: int) -> None:
        """One token."""
        self.engine.forward("s", convert.tokens([token]), position, "last")


if __name__ == "__main__":
    serve(Exo(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
