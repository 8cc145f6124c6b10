"""In pieces of how many tokens a plan takes a prompt: what the user says, or what the cost model finds best. Pure.

Small pieces fill a ring sooner and cost more: each reads and unpacks all weights again. A prompt in other pieces has
other last bits (measured: engines multiply 64 and 128 positions otherwise), so every plan takes pieces of
`PREFILL_CHUNK` unless the user asks for others, and plans that take over running generations keep the size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from exo_lab.core.errors import ConfigError
from exo_lab.core.plan import LEAST_CHUNK, MOST_CHUNK
from exo_lab.planning.cost import predict
from exo_lab.planning.problem import PREFILL_CHUNK
from exo_lab.planning.text import count_text, seconds_text

if TYPE_CHECKING:
    from exo_lab.core.plan import Plan
    from exo_lab.planning.problem import Problem

SIZES = (PREFILL_CHUNK, 96, 64, 48, 32)
GAIN = 1.02  # predicted, of the time to the first token, before another size than the usual one is worth it


def with_chunk(problem: Problem, plan: Plan, wish: int | Literal["auto"]) -> Plan:
    """The plan with the size of its pieces, and in `why` the reason if it is not the usual one.

    Raises:
        ConfigError: a size that is not possible.
    """
    if wish == PREFILL_CHUNK:
        return plan
    usual = predict(problem, plan).ttft_s
    if wish == "auto":
        took = {size: predict(problem, msgspec.structs.replace(plan, chunk=size)).ttft_s for size in SIZES}
        best = min(SIZES, key=lambda size: took[size])
        if usual < GAIN * took[best]:
            return plan
        wish = best
    if not LEAST_CHUNK <= wish <= MOST_CHUNK:
        raise ConfigError(f"a chunk of {wish} tokens is not possible; {LEAST_CHUNK} to {MOST_CHUNK} are")
    chosen = msgspec.structs.replace(plan, chunk=wish)
    why = (
        f"Prompts run in pieces of {count_text(wish, 'token')}: the first token of one of {problem.prompt_tokens} is "
        f"predicted after {seconds_text(predict(problem, chosen).ttft_s)}, with {PREFILL_CHUNK} after "
        f"{seconds_text(usual)}. The last bits differ from those of other sizes."
    )
    return msgspec.structs.replace(chosen, why=(*plan.why, why))
