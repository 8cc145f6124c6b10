"""Rotary position embedding angles (Su et al. 2021), for every engine. NumPy only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from exo_lab.core.model import ModelConfig


def inverse_frequencies(config: ModelConfig) -> np.ndarray:
    """Radians a position turns each pair by: float64 (head_dim / 2,).

    `llama3` scaling is that of Llama 3.1 as published in Transformers (`_compute_llama3_parameters`): long
    wavelengths are divided by `factor`, short ones kept, those between are blended.
    """
    frequencies = config.rope_theta ** -(np.arange(0, config.head_dim, 2, dtype=np.float64) / config.head_dim)
    scaling = config.rope_scaling
    if scaling is None:
        return frequencies
    if scaling.kind == "linear":
        return frequencies / scaling.factor
    wavelengths = 2 * math.pi / frequencies
    smooth = (scaling.original_context / wavelengths - scaling.low_freq_factor) / (
        scaling.high_freq_factor - scaling.low_freq_factor
    )
    smooth = np.clip(smooth, 0.0, 1.0)
    return frequencies * (smooth + (1 - smooth) / scaling.factor)


def rotations(config: ModelConfig, start: int, end: int) -> np.ndarray:
    """exp(i * angle) for positions [start, end): complex64 (end - start, head_dim / 2)."""
    angles = np.arange(start, end, dtype=np.float64)[:, None] * inverse_frequencies(config)
    return np.exp(1j * angles).astype(np.complex64)
