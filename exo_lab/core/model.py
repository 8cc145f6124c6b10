"""The shape of a decoder-only language model, independent of file format and engine."""

from __future__ import annotations

from typing import Literal

import msgspec

from exo_lab.core.errors import UnsupportedModel

Architecture = Literal["llama", "mistral", "qwen2", "qwen3"]
SUPPORTED_ARCHITECTURES: tuple[str, ...] = ("llama", "mistral", "qwen2", "qwen3")


class RopeScaling(msgspec.Struct, frozen=True, kw_only=True):
    """RoPE frequency scaling. `llama3` is the rule of Llama 3.1 (Transformers `rope_type: llama3`)."""

    kind: Literal["linear", "llama3"]
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 8192


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an engine needs to run a model and a planner to cut it.

    Layout contract (made by `models/`, relied on by every engine):

    * tensor names are GGUF's: `token_embd.weight`, `output_norm.weight`, `output.weight` (absent when
      `tied_embeddings`), and per layer `blk.{i}.` + `attn_norm.weight attn_q.weight attn_k.weight
      attn_v.weight attn_output.weight ffn_norm.weight ffn_gate.weight ffn_up.weight ffn_down.weight`,
      with `attn_q.bias attn_k.bias attn_v.bias` when `qkv_bias` and `attn_q_norm.weight
      attn_k_norm.weight` (head_dim,) when `qk_norm`;
    * a matrix is (rows = outputs, columns = inputs), row-major;
    * the rows of q and k (weights, biases, q/k norms) are in **interleaved** RoPE order: pair j of a head
      is elements (2j, 2j + 1). Half-split sources are permuted while they are read.
    """

    name: str
    architecture: str
    n_layers: int
    hidden_size: int
    intermediate_size: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    vocab_size: int
    context_length: int
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    tied_embeddings: bool = False
    qkv_bias: bool = False
    qk_norm: bool = False
    sliding_window: int | None = None
    digest: str = ""  # identifies the weights: two nodes agree on a model when digests are equal
    layer_bytes: tuple[int, ...] = ()  # bytes of each layer's tensors as stored in the file
    embedding_bytes: int = 0
    head_bytes: int = 0  # output norm + output matrix; a tied matrix counts here too: the last stage holds it
    # Matrices of each layer by kind of storage, with the weights of each kind; and what the two ends are stored as.
    layer_kinds: tuple[tuple[tuple[str, int], ...], ...] = ()
    embedding_kind: str = ""
    head_kind: str = ""
    quantisation: str = ""  # for people: "Q4_1", "BF16", ...

    def __post_init__(self) -> None:
        if self.architecture not in SUPPORTED_ARCHITECTURES:
            raise UnsupportedModel(
                f"{self.name}: architecture {self.architecture!r} is not supported; "
                f"supported are {', '.join(SUPPORTED_ARCHITECTURES)}."
            )

    @property
    def kv_bytes_per_token_per_layer(self) -> int:
        """KV cache bytes of one token in one layer at 2 bytes an element (bfloat16)."""
        return 2 * self.n_kv_heads * self.head_dim * 2

    @property
    def flops_per_token_per_layer(self) -> int:
        """Multiply-adds x 2 of the matrix products of one layer for one token (attention scores excluded)."""
        query = self.hidden_size * self.n_heads * self.head_dim
        key_value = 2 * self.hidden_size * self.n_kv_heads * self.head_dim
        return 2 * (2 * query + key_value + 3 * self.hidden_size * self.intermediate_size)

    @property
    def head_flops_per_token(self) -> int:
        """FLOPs of the output projection for one token."""
        return 2 * self.hidden_size * self.vocab_size

    def step_flops(self, layers: int, positions: int, before: int, heads: int) -> float:
        """FLOPs of `positions` through `layers`, with `before` cached, and of the head for `heads` of them.

        Matrix products, attention scores included (2 x 2 x n_heads x head_dim a cached position); norms, RoPE and
        activations are not counted, as in Kaplan et al. (2020), section 2.1.
        """
        window = self.sliding_window or self.context_length + before + positions
        seen = sum(min(before + one + 1, window) for one in range(positions))
        products = positions * self.flops_per_token_per_layer + seen * 4 * self.n_heads * self.head_dim
        return float(layers * products + heads * self.head_flops_per_token)

    @property
    def total_bytes(self) -> int:
        """Bytes of all weights when one device holds everything (a tied matrix once)."""
        ends = self.head_bytes if self.tied_embeddings else self.embedding_bytes + self.head_bytes
        return sum(self.layer_bytes) + ends

    def shard_bytes(self, start: int, end: int) -> int:
        """Weight bytes, as stored in the file, of layers [start, end) with embedding and head on the ends."""
        total = sum(self.layer_bytes[start:end])
        if start == 0:
            total += self.embedding_bytes
        if end == self.n_layers:
            shared = self.tied_embeddings and start == 0
            total += self.head_bytes - (self.embedding_bytes if shared else 0)
        return total
