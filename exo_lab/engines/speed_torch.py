"""Products and reads by PyTorch, for `speed`: with what the torch engine computes. Imported when it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_lab.engines.speed import Format

_NUMBERS = {"fp32": torch.float32, "fp16": torch.bfloat16}


class TorchKit:
    """See `Kit`. int8 products are `torch._int_mm`, where the device has it.

    Args:
        device: as PyTorch calls it: "cpu", "cuda:0"; "auto": the one that the torch engine takes by itself.
        threads: of the CPU; 0 leaves PyTorch's default.
    """

    def __init__(self, device: str = "auto", threads: int = 0) -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if threads and torch.get_num_threads() != threads:
            torch.set_num_threads(threads)  # of the calling thread
        self._device = torch.device(device)

    @property
    def note(self) -> str:
        """See `Kit`."""
        if self._device.type == "cuda":
            return f"measured with torch {torch.__version__} on {torch.cuda.get_device_name(self._device)}"
        return f"measured with torch {torch.__version__}, CPU threads: {torch.get_num_threads()}"

    def product(self, number: Format, n: int) -> Callable[[], object] | None:
        """See `Kit`. Of ones: numbers do not change how long it takes, and none is denormal."""
        if number == "int8":
            return self._integers(n)
        left, right, out = (torch.ones((n, n), dtype=_NUMBERS[number], device=self._device) for _ in range(3))
        return lambda: torch.mm(left, right, out=out)

    def _integers(self, n: int) -> Callable[[], object] | None:
        product = getattr(torch, "_int_mm", None)
        if product is None:
            return None
        left, right = (torch.ones((n, n), dtype=torch.int8, device=self._device) for _ in range(2))
        try:
            product(left, right)
        except (RuntimeError, NotImplementedError):
            return None
        return lambda: product(left, right)

    def reader(self, size_bytes: int) -> Callable[[], object]:
        """See `Kit`. A sum reads everything and writes next to nothing."""
        buffer = torch.ones(max(1, size_bytes // 4), dtype=torch.float32, device=self._device)
        return buffer.sum

    def wait(self) -> None:
        """See `Kit`."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
