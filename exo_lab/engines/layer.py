"""The weights of one layer as torch wants them, and how they are read. Knows no sessions and no arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from exo_lab.engines.linear import Linear, linear

if TYPE_CHECKING:
    from exo_lab.core.weights import WeightSource


class Layer:
    """One layer. Vectors are in the dtype of the residual stream; products that share an input are stacked."""

    __slots__ = ("attn_norm", "bias", "down", "ffn_norm", "gate_up", "k_norm", "output", "q_norm", "qkv")

    qkv: Linear  # ((heads + 2 * kv_heads) * head_dim, hidden)
    output: Linear  # (hidden, heads * head_dim)
    gate_up: Linear  # (2 * intermediate, hidden)
    down: Linear  # (hidden, intermediate)
    attn_norm: torch.Tensor  # (hidden,)
    ffn_norm: torch.Tensor  # (hidden,)
    bias: torch.Tensor | None  # (qkv rows,)
    q_norm: torch.Tensor | None  # (head_dim,)
    k_norm: torch.Tensor | None  # (head_dim,)

    @property
    def nbytes(self) -> int:
        """Bytes of the matrices."""
        return self.qkv.nbytes + self.output.nbytes + self.gate_up.nbytes + self.down.nbytes


class Reader:
    """Reads tensors of one source into the form that an engine computes in.

    Args:
        source: the weights.
        dense: dtype of matrices that do not stay quantised.
        stream: dtype of vectors, that of the residual stream.
        device: where they go.
        keep_quantised: keep four- and eight-bit kinds as they are in the file.
    """

    def __init__(
        self,
        source: WeightSource,
        dense: torch.dtype,
        stream: torch.dtype,
        device: torch.device,
        *,
        keep_quantised: bool,
    ) -> None:
        self.source, self.dense, self.stream, self.device = source, dense, stream, device
        self.keep_quantised = keep_quantised

    def matrix(self, *names: str) -> Linear:
        """Tensors stacked by rows."""
        weights = [self.source.weight(name) for name in names]
        return linear(weights, self.dense, self.device, keep_quantised=self.keep_quantised)

    def vector(self, *names: str) -> torch.Tensor:
        """Vectors end to end."""
        parts = [torch.from_numpy(self.source.weight(name).to_float32()) for name in names]
        return torch.cat(parts).to(self.device, self.stream)

    def layer(self, index: int) -> Layer:
        """Everything of one layer."""
        config, name = self.source.config, f"blk.{index}."
        layer = Layer()
        layer.qkv = self.matrix(*(f"{name}attn_{part}.weight" for part in "qkv"))
        layer.output = self.matrix(f"{name}attn_output.weight")
        layer.gate_up = self.matrix(f"{name}ffn_gate.weight", f"{name}ffn_up.weight")
        layer.down = self.matrix(f"{name}ffn_down.weight")
        layer.attn_norm = self.vector(f"{name}attn_norm.weight")
        layer.ffn_norm = self.vector(f"{name}ffn_norm.weight")
        layer.bias = self.vector(*(f"{name}attn_{part}.bias" for part in "qkv")) if config.qkv_bias else None
        layer.q_norm = self.vector(f"{name}attn_q_norm.weight") if config.qk_norm else None
        layer.k_norm = self.vector(f"{name}attn_k_norm.weight") if config.qk_norm else None
        return layer
