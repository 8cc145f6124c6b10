"""How long a loaded shard takes, measured in a fraction of a second through nothing but the `Engine` protocol.

Of a few runs the fastest counts: what else the machine does makes a run slower and never faster.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from exo_lab.core.pace import Measured
from exo_lab.core.sampling import SamplingParams
from exo_lab.engines import convert, sampling
from exo_lab.engines.base import PREFILL_CHUNK, KvExport

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_lab.core.model import ModelConfig
    from exo_lab.core.shard import Shard
    from exo_lab.core.tensor import Tensor
    from exo_lab.engines.base import Engine, Want

SESSION = "calibration"
BUDGET_S = 0.3  # after that, what was measured once is not measured again
RUNS = 5
FAR = 512  # cached positions of the second point, where the context has room for them


def calibrate(
    engine: Engine,
    shard: Shard,
    config: ModelConfig,
    *,
    budget_s: float = BUDGET_S,
    clock: Callable[[], float] = time.perf_counter,
) -> Measured:
    """Measure a loaded engine that nobody else uses yet. Takes one chunk and a few positions at least.

    Args:
        engine: holds `shard`.
        shard: its layers.
        config: of the model.
        budget_s: see `BUDGET_S`.
        clock: seconds, monotonic.

    Returns:
        Times of this engine; `embedding_s` is part of `layer_s`, since looking up a row takes next to nothing.
    """
    end = clock() + budget_s
    n = min(PREFILL_CHUNK, config.context_length - 2)

    def inputs(count: int) -> Tensor:
        if shard.is_first:
            return convert.tokens([1 % config.vocab_size] * count)
        return convert.from_numpy(np.full((count, config.hidden_size), 0.5, dtype=np.float32))

    def timed(count: int, position: int, want: Want) -> float:
        x = inputs(count)
        began = clock()
        out = engine.forward(SESSION, x, position, want)
        if want == "last" and out is not None:
            sampling.sample(convert.to_numpy(out)[0], SamplingParams(), position + 1)
        return clock() - began

    def fastest(count: int, position: int, want: Want) -> float:
        best = timed(count, position, want)
        for _ in range(RUNS - 1):
            if clock() >= end:
                break
            best = min(best, timed(count, position, want))
        return best

    try:
        timed(n, 0, "none")  # the first run makes buffers
        prefill_s = fastest(n, 0, "none")
        timed(1, n, "none")
        near_s = fastest(1, n, "none")
        head_s = max(fastest(1, n, "last") - near_s, 0.0) if shard.is_last else None
        far = min(FAR, config.context_length - 1)
        attend_s = 0.0
        if far > 2 * n:
            engine.import_kv(SESSION, _cache(shard, config, far))
            timed(1, far, "none")
            attend_s = max(fastest(1, far, "none") - near_s, 0.0) / (far - n) / len(shard)
    finally:
        engine.drop(SESSION)
    return Measured(
        layer_s=max(near_s / len(shard) - n * attend_s, 0.0),
        attend_s=attend_s,
        prefill_layer_s=prefill_s / n / len(shard),
        head_s=head_s,
    )


def _cache(shard: Shard, config: ModelConfig, tokens: int) -> KvExport:
    """A cache of so many positions, to look back at without having computed them."""
    layer = convert.from_numpy(np.zeros((tokens, 2, config.n_kv_heads, config.head_dim), dtype=np.float32))
    return KvExport(shard.start, (layer,) * len(shard))
