"""What every engine is: something that holds a shard and turns positions into hidden states or logits.

An engine knows no network, no tokenizer and no sampling. It is used by one thread at a time (the data thread);
`load` may run elsewhere before the first `forward`. Sessions are independent of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import msgspec

from exo_lab.core.errors import NodeError
from exo_lab.core.tensor import Tensor

if TYPE_CHECKING:
    from exo_lab.core.shard import Shard
    from exo_lab.core.weights import WeightSource

Want = Literal["last", "all", "none"]
LoadProgress = Callable[[int, int, str], None]  # (bytes done, bytes in all, what)

# Prompts are cut into chunks of this many tokens. One constant for every engine and every cut: the same matrix
# shapes everywhere are what makes logits bit-identical between cuts.
PREFILL_CHUNK = 128


class EngineInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine is and holds. `kv_bytes_per_token` is for all layers of its shard."""

    name: str
    dtype: str  # "float32", "bfloat16", or "quantised": weights kept as in the file, bfloat16 products
    device: str  # "cpu", "cuda:0"
    weight_bytes: int
    kv_bytes_per_token: int
    together: int = 1  # of so many positions in one step each gets the bits that it would get alone
    kernels: str = ""  # "native": products by our own kernels, "torch": by PyTorch; they differ in the last bits


class KvExport(msgspec.Struct, frozen=True):
    """KV cache of one session: `layers[i]` is layer `start + i`.

    Each is float32 or bfloat16, (tokens, 2, n_kv_heads, head_dim): keys (after RoPE, interleaved order), values.
    """

    start: int
    layers: tuple[Tensor, ...]


class KvBlock(NamedTuple):
    """Positions of a session's KV cache in an engine's own form: for the engine that cut it, and nobody else."""

    data: object
    positions: int
    nbytes: int


class Part(NamedTuple):
    """One session's step among others; fields as in `Engine.forward`."""

    session: str
    x: Tensor
    position: int
    want: Want = "last"


class Engine(Protocol):
    """The device interface (S21)."""

    def load(self, source: WeightSource, shard: Shard, progress: LoadProgress | None = None) -> EngineInfo:
        """Read the shard's tensors, and only those. Called once."""
        ...

    @property
    def info(self) -> EngineInfo:
        """What is loaded; NodeError before `load`."""
        ...

    def reserve(self, session: str, tokens: int) -> None:
        """Make room for `tokens` positions at once instead of growing block by block."""
        ...

    def forward(self, session: str, x: Tensor, position: int, want: Want = "last") -> Tensor | None:
        """Run positions [position, position + n) of a session through the shard.

        `x` is int32 tokens (n,) for a first shard, else hidden states (n, hidden) in any float dtype (converted).
        Returns hidden states (n, hidden), or from a last shard float32 logits: (1, vocab) of the last position,
        (n, vocab) for want="all", None for "none". `position` below the session's length forgets what lies
        behind it (rollback); above it is an error.
        """
        ...

    def forward_batch(self, parts: Sequence[Part]) -> list[Tensor | None]:
        """Steps of several sessions at once; what `forward` would return for each, bit for bit.

        At most one step a session, and `info.together` positions in all; NodeError for more.
        """
        ...

    def export_kv(self, session: str) -> KvExport:
        """A copy of a session's KV cache; empty tensors if the session is unknown."""
        ...

    def import_kv(self, session: str, kv: KvExport) -> None:
        """Set a session's KV cache. Layers outside this shard are ignored; the rest must be present."""
        ...

    def cut_kv(self, session: str, start: int, end: int) -> KvBlock:
        """A copy of positions [start, end) of a session; NodeError if it has not so many."""
        ...

    def put_kv(self, session: str, position: int, block: KvBlock) -> None:
        """Put a block of this engine at [position, position + block.positions); otherwise as `forward` does it."""
        ...

    def drop(self, session: str) -> None:
        """Free a session. Unknown sessions are fine."""
        ...

    def kv_bytes(self) -> int:
        """Bytes allocated for the KV caches of all sessions."""
        ...

    def close(self) -> None:
        """Free everything. Idempotent."""
        ...


def check_position(session: str, position: int, length: int) -> None:
    """NodeError if a step would leave a hole in the session's cache."""
    if position > length:
        raise NodeError(
            f"request {session}: a step for position {position} came, but only {length} positions are cached; "
            "a step was lost. Start the request again."
        )


def check_span(session: str, start: int, end: int, length: int) -> None:
    """NodeError if [start, end) are no positions of a session that has `length`."""
    if not 0 <= start < end <= length:
        raise NodeError(f"request {session}: positions [{start}, {end}) were asked for, {length} are cached")


def layers_of(session: str, kv: KvExport, shard: Shard, inner: tuple[int, ...]) -> tuple[Tensor, ...]:
    """The layers of an export that a shard needs, each (tokens, *inner); NodeError if they are not all there."""
    first = shard.start - kv.start
    layers = kv.layers[max(first, 0) : first + len(shard)] if first + len(shard) > 0 else ()
    shapes = {layer.shape for layer in layers}
    if first < 0 or len(layers) != len(shard) or len(shapes) != 1 or next(iter(shapes))[1:] != inner:
        raise NodeError(
            f"request {session}: layers [{shard.start}, {shard.end}) with {inner} a token are needed, the KV cache "
            f"that came holds layers [{kv.start}, {kv.start + len(kv.layers)}) of shapes {sorted(shapes)}. "
            "Replay the request."
        )
    return layers
