"""Many positions at once through the layers of a stage: prefill, and everything that runs on a GPU.

Shapes depend on how many positions there are and on what is cached, never on which layers run: every cut of a model
computes the same bits.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from exo_lab.core.model import ModelConfig
    from exo_lab.engines.layer import Layer

SCORES = 1 << 22  # attention scores computed at a time: bounds the scratch of long prompts


class PrefillStep:
    """Arithmetic of n positions.

    Args:
        config: of the model.
        activations: dtype that the layers' products take.
        fused: attention by PyTorch's fused operator (GPUs) instead of plain products, which are faster on CPUs.
    """

    def __init__(self, config: ModelConfig, activations: torch.dtype, *, fused: bool) -> None:
        self.config, self.activations, self.fused = config, activations, fused

    def run(
        self, layers: list[Layer], hidden: torch.Tensor, cached: torch.Tensor, turns: torch.Tensor, position: int
    ) -> torch.Tensor:
        """Run positions [position, position + n).

        Args:
            layers: one after the other.
            hidden: (n, hidden) in the dtype of the residual stream.
            cached: (layers, 2, groups, T, head_dim) of these layers, with room; keys and values are written there.
            turns: complex64 (n, head_dim / 2), the rotations of those positions.
            position: 0-based.

        Returns:
            Hidden states, shape and dtype as they came.
        """
        config = self.config
        size, eps = (config.hidden_size,), config.rms_norm_eps
        end = position + hidden.shape[0]
        mask = self._mask(position, end, cached)
        turns = turns[:, None]  # (n, 1, head_dim / 2)
        for layer, kv in zip(layers, cached, strict=True):
            normed = functional.rms_norm(hidden, size, layer.attn_norm, eps).to(self.activations)
            queries = self._project(layer, layer.qkv.product(normed), kv[:, :, position:end], turns)
            attended = self._attend(queries, kv[:, :, :end], mask)
            hidden = hidden + layer.output.product(attended)
            normed = functional.rms_norm(hidden, size, layer.ffn_norm, eps).to(self.activations)
            gate, up = layer.gate_up.product(normed).split(config.intermediate_size, -1)
            inner = functional.silu(gate).mul_(up).to(self.activations)
            hidden = hidden + layer.down.product(inner)
        return hidden

    def _project(self, layer: Layer, qkv: torch.Tensor, slot: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
        """Keys and values into `slot` (2, groups, n, head_dim); queries (groups, heads / groups, n, head_dim)."""
        config = self.config
        heads, groups, head_dim = config.n_heads, config.n_kv_heads, config.head_dim
        qkv = qkv.float()
        if layer.bias is not None:
            qkv = qkv + layer.bias
        parts = qkv.view(-1, heads + 2 * groups, head_dim)
        if layer.q_norm is not None and layer.k_norm is not None:
            for part, weight in (
                (parts[:, :heads], layer.q_norm),
                (parts[:, heads : heads + groups], layer.k_norm),
            ):
                part.copy_(functional.rms_norm(part, weight.shape, weight, config.rms_norm_eps))
        # Interleaved pairs are complex numbers; turning them is one product, in place.
        torch.view_as_complex(parts[:, : heads + groups].unflatten(2, (-1, 2))).mul_(turns)
        slot.copy_(parts[:, heads:].unflatten(1, (2, groups)).permute(1, 2, 0, 3))
        queries = parts[:, :heads].unflatten(1, (groups, -1)).permute(1, 2, 0, 3)
        return queries.mul(1 / math.sqrt(head_dim)).to(slot.dtype)

    def _attend(self, queries: torch.Tensor, kv: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Causal grouped-query attention over `kv` (2, groups, T, head_dim): (n, heads * head_dim)."""
        groups, share, n, head_dim = queries.shape
        keys, values = kv
        if self.fused:
            out = functional.scaled_dot_product_attention(
                queries.reshape(1, groups * share, n, head_dim),
                keys[None],
                values[None],
                attn_mask=mask,
                scale=1.0,
                enable_gqa=share > 1,
            ).view(groups, share, n, head_dim)
        else:
            # The queries of a group share keys: they sit where more positions would, so nothing is repeated.
            queries = queries.reshape(groups, share * n, head_dim)
            out = torch.empty_like(queries)
            step = max(1, SCORES // (share * n * keys.shape[1]))
            for first in range(0, groups, step):
                last = first + step
                scores = torch.bmm(queries[first:last], keys[first:last].transpose(1, 2))
                if mask is not None:
                    scores.unflatten(1, (share, n)).add_(mask)
                out[first:last] = torch.bmm(torch.softmax(scores, -1), values[first:last])
            out = out.view(groups, share, n, head_dim)
        return out.permute(2, 0, 1, 3).reshape(n, -1).to(self.activations)

    def _mask(self, position: int, end: int, like: torch.Tensor) -> torch.Tensor | None:
        """Additive mask (n, end): position + i sees [0, position + i], less what the window hides."""
        window = self.config.sliding_window
        if end - position == 1 and not window:
            return None
        ahead = torch.arange(end, device=like.device)[None] - torch.arange(position, end, device=like.device)[:, None]
        hidden = ahead > 0
        if window:
            hidden |= ahead <= -window
        return torch.zeros(hidden.shape, dtype=like.dtype, device=like.device).masked_fill_(hidden, -math.inf)
