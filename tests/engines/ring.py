"""A model cut over engines in one process: what the node does over a network, without one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from exo_lab.core.shard import Shard
from exo_lab.core.weights import WeightSource
from exo_lab.engines import convert
from exo_lab.engines.base import PREFILL_CHUNK, Engine, Want


def shards(n_layers: int, cuts: Iterable[int] = ()) -> list[Shard]:
    """The shards between `cuts`, which lie strictly inside [0, n_layers]."""
    bounds = [0, *sorted(cuts), n_layers]
    return [Shard(model="m", start=a, end=b, n_layers=n_layers) for a, b in itertools.pairwise(bounds)]


class Ring:
    """Stages in order. Hidden states cross between them as the bytes that a wire would carry."""

    def __init__(self, source: WeightSource, make: Callable[[], Engine], cuts: Iterable[int] = ()) -> None:
        self.config = source.config
        self.stages: list[Engine] = []
        for shard in shards(source.config.n_layers, cuts):
            self.stages.append(make())
            self.stages[-1].load(source, shard)

    def step(self, session: str, ids: Sequence[int], position: int, want: Want = "last") -> np.ndarray | None:
        """One frame: at most a chunk of positions through every stage."""
        x = convert.tokens(list(ids))
        for stage in self.stages[:-1]:
            x = stage.forward(session, x, position)
            assert x is not None
            # As received: another buffer, read-only, not aligned.
            x = type(x)(x.dtype, x.shape, memoryview(b"-" + bytes(x.data))[1:])
        out = self.stages[-1].forward(session, x, position, want)
        return None if out is None else convert.to_numpy(out)

    def logits(
        self, ids: Sequence[int], *, session: str = "s", position: int = 0, chunk: int = PREFILL_CHUNK
    ) -> np.ndarray:
        """float32 (n, vocab), prefilled in chunks."""
        parts = [self.step(session, ids[i : i + chunk], position + i, "all") for i in range(0, len(ids), chunk)]
        return np.concatenate([part for part in parts if part is not None])

    def greedy(self, prompt: Sequence[int], count: int, session: str = "s") -> list[int]:
        """The likeliest `count` tokens after a prompt."""
        out: np.ndarray | None = None
        for start in range(0, len(prompt), PREFILL_CHUNK):
            out = self.step(session, prompt[start : start + PREFILL_CHUNK], start)
        answer: list[int] = []
        for position in range(len(prompt), len(prompt) + count):
            assert out is not None
            answer.append(int(out[0].argmax()))
            out = self.step(session, answer[-1:], position)
        return answer
