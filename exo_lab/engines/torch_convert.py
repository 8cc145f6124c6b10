"""`Tensor` <-> torch."""

from __future__ import annotations

import numpy as np
import torch

from exo_lab.core.tensor import Tensor

_TORCH = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int32": torch.int32,
}
_NAMES = {dtype: name for name, dtype in _TORCH.items()}


def to_torch(tensor: Tensor, device: torch.device) -> torch.Tensor:
    """The tensor in memory of torch's own allocator.

    Always copied: a network buffer may be unaligned, and BLAS may round differently on unaligned memory.
    """
    out = torch.empty(tensor.shape, dtype=_TORCH[tensor.dtype])
    if tensor.nbytes:
        out.reshape(-1).view(torch.uint8).numpy()[:] = np.frombuffer(tensor.data, dtype=np.uint8)
    return out.to(device)


def from_torch(value: torch.Tensor) -> Tensor:
    """A contiguous CPU copy or view of the tensor; the buffer stays alive with the result."""
    value = value.detach().to("cpu").contiguous()
    shape = tuple(value.shape)
    if not value.numel():
        return Tensor(_NAMES[value.dtype], shape, b"")
    data = value.view(torch.uint8) if value.dim() else value.reshape(1).view(torch.uint8)
    return Tensor(_NAMES[value.dtype], shape, data.reshape(-1).numpy().data)
