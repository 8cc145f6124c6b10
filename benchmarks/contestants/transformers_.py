"""Transformers in bfloat16 on the same file: `python -m benchmarks.contestants.transformers_ MODEL THREADS`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.contestants.base import serve


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
        out = self.model(torch.tensor([ids]), use_cache=True, logits_to_keep=1)
        self.cache = out.past_key_values

    @torch.inference_mode()
    def decode(self, token: int, position: int) -> None:
        """One token."""
        self.model(torch.tensor([[token]]), past_key_values=self.cache, use_cache=True, logits_to_keep=1)


if __name__ == "__main__":
    serve(Transformers(sys.argv[1], int(sys.argv[2])))
