"""Consecutive layers in one call of our own kernels (`kernels/stage.c`). Knows no sessions.

Whether a layer can run there depends on the layer alone, never on its neighbours: every cut computes the same bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from exo_lab.engines.native_matrix import NativeMatrix

if TYPE_CHECKING:
    import ctypes

    from exo_lab.core.model import ModelConfig
    from exo_lab.engines.layer import Layer

FIELDS = 13  # of a Layer in stage.c: four matrices of two fields, five vectors


def can_run(layer: Layer) -> bool:
    """Are all its matrices packed for our kernels?"""
    matrices = (layer.qkv, layer.output, layer.gate_up, layer.down)
    return all(isinstance(matrix, NativeMatrix) for matrix in matrices)


class NativeStage:
    """Layers that follow each other and can all run there.

    Args:
        library: of `native.library()`.
        config: of the model; head_dim, hidden and intermediate size are multiples of 16.
        layers: kept alive as long as this is, since their memory is read.
    """

    def __init__(self, library: ctypes.CDLL, config: ModelConfig, layers: list[Layer]) -> None:
        self._run, self._config, self.layers = library.exo_stage, config, layers
        self._table = torch.tensor([_fields(layer) for layer in layers], dtype=torch.int64)
        heads, groups, head_dim = config.n_heads, config.n_kv_heads, config.head_dim
        shape = (config.hidden_size, config.intermediate_size, heads, groups, head_dim)
        self._shape = torch.tensor(shape, dtype=torch.int64)
        widest = max(config.hidden_size, config.intermediate_size, heads * head_dim)
        self._fixed = 2 * widest + max(
            2 * config.intermediate_size, (heads + 2 * groups) * head_dim, config.hidden_size
        )
        self._room = torch.empty(0)

    def run(self, hidden: torch.Tensor, turn: torch.Tensor, past: torch.Tensor) -> None:
        """Run one position.

        Args:
            hidden: float32 (1, hidden), contiguous, changed in place.
            turn: complex64 (head_dim / 2,), contiguous.
            past: bfloat16 (layers, 2, groups, T, head_dim) of these layers, a view of the cache whose last row is this
                position's.
        """
        config, length = self._config, past.shape[3]
        needed = self._fixed + config.n_heads * (length + 15)
        if needed > self._room.numel():
            self._room = torch.empty(self._fixed + 2 * config.n_heads * (length + 15))
        self._run(
            self._table.data_ptr(), len(self.layers), self._shape.data_ptr(), hidden.data_ptr(), turn.data_ptr(),
            past.data_ptr(), past.stride(1), past.stride(0), past.stride(2), length, self._room.data_ptr(),
            config.rms_norm_eps, torch.get_num_threads(),
        )  # fmt: skip


def _fields(layer: Layer) -> list[int]:
    fields: list[int] = []
    for matrix in (layer.qkv, layer.output, layer.gate_up, layer.down):
        assert isinstance(matrix, NativeMatrix)
        fields += [matrix.packed.data_ptr(), matrix.bits]
    vectors = (layer.attn_norm, layer.ffn_norm, layer.bias, layer.q_norm, layer.k_norm)
    fields += [0 if vector is None else vector.data_ptr() for vector in vectors]
    assert len(fields) == FIELDS
    return fields
