"""What every stage must know of a request, and what each tells of its part: riding with data messages. Pure."""

from __future__ import annotations

import msgspec

from exo_lab.core.sampling import SamplingParams


class StageTiming(msgspec.Struct, frozen=True, array_like=True):
    """What one stage spent on one step, by its own monotonic clock, in seconds.

    `compute_s` is the engine's forward pass, `handling_s` everything from taking the frame to handing on the
    result, computing included. What is missing from a token's time is wire and waiting.
    """

    node: str
    compute_s: float
    handling_s: float


class SessionSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What every stage must know of a request. Rides with the request's first `Step`.

    `history`: prompt tokens, sent only when a repetition penalty or guesses need them. `eos`: token ids that end the
    text. `total_tokens`: prompt plus max_tokens, what the KV cache may grow to. `reuse`: so many positions may be taken
    from what stages kept of other requests; 0 where each must be computed, as for an intervention. `drafted`: the
    requester begins each step after the prompt, with guesses of its own.
    """

    requester: str  # node id
    reply_to: str  # the requester's data endpoint
    sampling: SamplingParams
    eos: tuple[int, ...]
    prompt_tokens: int
    total_tokens: int
    history: tuple[int, ...] = ()
    reuse: int = 0
    drafted: bool = False
