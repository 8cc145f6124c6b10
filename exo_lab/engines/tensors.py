"""Which tensors a shard needs. Shared by every engine, so that all of them read the same and nothing more."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exo_lab.core.model import ModelConfig
    from exo_lab.core.shard import Shard

LAYER = (
    "attn_norm.weight", "attn_q.weight", "attn_k.weight", "attn_v.weight", "attn_output.weight",
    "ffn_norm.weight", "ffn_gate.weight", "ffn_up.weight", "ffn_down.weight",
)  # fmt: skip
MATRICES = tuple(name for name in LAYER if "norm" not in name)
BIASES = ("attn_q.bias", "attn_k.bias", "attn_v.bias")
HEAD_NORMS = ("attn_q_norm.weight", "attn_k_norm.weight")
EMBEDDING = "token_embd.weight"
OUTPUT_NORM = "output_norm.weight"
OUTPUT = "output.weight"


def head_matrix(config: ModelConfig) -> str:
    """The name of the matrix that makes logits."""
    return EMBEDDING if config.tied_embeddings else OUTPUT


def names(config: ModelConfig, shard: Shard) -> list[str]:
    """Every tensor of a shard in load order, each once: embedding, layers, output norm, head."""
    suffixes = LAYER + BIASES * config.qkv_bias + HEAD_NORMS * config.qk_norm
    wanted = [EMBEDDING] * shard.is_first
    wanted += [f"blk.{layer}.{suffix}" for layer in range(shard.start, shard.end) for suffix in suffixes]
    wanted += [OUTPUT_NORM, head_matrix(config)] * shard.is_last
    return list(dict.fromkeys(wanted))
