"""In pieces of how many tokens a plan takes a prompt: what the user says, or what the cost model finds best. Pure.

Small pieces fill a ring sooner and cost more: each reads and unpacks all weights again. Our own kernels for quantised
weights give a position the same bits whatever piece it is in and lose little by small ones (docs/performance.md), so
these are usual where they compute. Elsewhere a prompt in other pieces has other last bits (measured: engines multiply
64 and 128 positions otherwise) and large ones are faster. Plans that take over running generations keep the size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from exo_lab.core.errors import ConfigError
from exo_lab.core.plan import LEAST_CHUNK, MOST_CHUNK
from exo_lab.planning.cost import predict
from exo_lab.planning.footprint import form_of
from exo_lab.planning.problem import PREFILL_CHUNK
from exo_lab.planning.text import count_text, seconds_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exo_lab.core.device import Device
    from exo_lab.core.model import ModelConfig
    from exo_lab.core.plan import Plan
    from exo_lab.planning.problem import Problem

SIZES = (PREFILL_CHUNK, 96, 64, 48, 32)
SMALL_CHUNK = 32
GAIN = 1.02  # predicted, of the time to the first token, before another size than the usual one is worth it


def usual_chunk(config: ModelConfig, dtype: str, engine: str, devices: Iterable[Device]) -> int:
    """Tokens of a piece if nobody says otherwise: small where quantised weights are computed with on processors."""
    forms = [form_of(config, device, dtype, engine) for device in devices]
    return SMALL_CHUNK if forms and all(form is not None and form.keeps for form in forms) else PREFILL_CHUNK


def with_chunk(problem: Problem, plan: Plan, wish: int | Literal["auto"] | None) -> Plan:
    """The plan with the size of its pieces, and in `why` the reason if it is not the usual one, `problem.chunk`.

    Raises:
        ConfigError: a size that is not possible.
    """
    plan = msgspec.structs.replace(plan, chunk=problem.chunk)
    if wish in (None, problem.chunk):
        return plan
    usual = predict(problem, plan).ttft_s
    if wish == "auto":
        took = {size: predict(problem, msgspec.structs.replace(plan, chunk=size)).ttft_s for size in SIZES}
        wish = min(SIZES, key=lambda size: took[size])
        if usual < GAIN * took[wish]:
            return plan
    if not LEAST_CHUNK <= wish <= MOST_CHUNK:
        raise ConfigError(f"a chunk of {wish} tokens is not possible; {LEAST_CHUNK} to {MOST_CHUNK} are")
    chosen = msgspec.structs.replace(plan, chunk=wish)
    why = (
        f"Prompts run in pieces of {count_text(wish, 'token')}: the first token of one of {problem.prompt_tokens} is "
        f"predicted after {seconds_text(predict(problem, chosen).ttft_s)}, with {problem.chunk} after "
        f"{seconds_text(usual)}. The last bits can differ from those of other sizes."
    )
    return msgspec.structs.replace(chosen, why=(*plan.why, why))
