"""Transformers in bfloat16 on the same file: `python -m benchmarks.contestants.transformers_ MODEL THREADS`."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.contestants.base import serve


def forward(model: Any, ids: torch.Tensor, cache: Any = None, **options: Any) -> tuple[torch.Tensor, Any]:
    """Logits and the cache, whose name changed with Transformers 5.24."""
    name = "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
    given = {} if cache is None else {name: cache}
    out = model(ids, use_cache=True, **given, **options)
    return out.logits, getattr(out, name)


class Transformers:
    """See `Contestant`."""

    def __init__(self, model: str, threads: int) -> None:
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(threads)
        path = Path(model)
        self.model: Any = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.bfloat16)
        self.cache: Any = None

    @torch.inference_mode()
    def prefill(self, ids: list[int]) -> None:
        """All at once, as its own generate() does."""
        _, self.cache = forward(self.model, torch.tensor([ids]), logits_to_keep=1)

    @torch.inference_mode()
    def decode(self, token: int, position: int) -> None:
        """One token."""
        forward(self.model, torch.tensor([[token]]), self.cache, logits_to_keep=1)


if __name__ == "__main__":
    serve(Transformers(sys.argv[1], int(sys.argv[2])))
