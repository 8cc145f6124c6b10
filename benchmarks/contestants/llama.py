"""llama.cpp through llama-cpp-python, on the same file: `python -m benchmarks.contestants.llama MODEL THREADS`."""

from __future__ import annotations

import sys

from llama_cpp import Llama, llama_get_logits  # pyright: ignore[reportMissingImports]

from benchmarks.contestants.base import serve


class LlamaCpp:
    """See `Contestant`."""

    def __init__(self, model: str, threads: int, *, gpu_layers: int = 0) -> None:
        same = {"n_threads": threads, "n_threads_batch": threads}
        self.model = Llama(model, n_ctx=2048, n_batch=512, n_gpu_layers=gpu_layers, verbose=False, **same)

    def prefill(self, ids: list[int]) -> None:
        """In its own batches of 512."""
        self.model.reset()
        self.model.eval(ids)
        llama_get_logits(self.model.ctx)

    def decode(self, token: int, position: int) -> None:
        """One token."""
        self.model.eval([token])
        llama_get_logits(self.model.ctx)


if __name__ == "__main__":
    serve(LlamaCpp(sys.argv[1], int(sys.argv[2])))
