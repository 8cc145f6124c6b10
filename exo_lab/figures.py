"""Measured figures of an answer, from its request and the tokens that have come. Knows neither text nor reader."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from exo_lab.core.following import Step
from exo_lab.core.status import GenerationStats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.core.messages import FinishReason
    from exo_lab.core.status import TokenEvent
    from exo_lab.node.session import Request


def stats_of(
    request: Request, tokens: Sequence[TokenEvent], finish: FinishReason | None, end_s: float
) -> GenerationStats:
    """Figures of an answer until `end_s` (the requester's monotonic clock)."""
    first = tokens[0].at_s if tokens else None
    decode_s = tokens[-1].at_s - tokens[0].at_s if len(tokens) > 1 else 0.0
    computed: defaultdict[str, float] = defaultdict(float)
    for event in tokens:
        for timing in event.timings:
            computed[timing.node] += timing.compute_s
    return GenerationStats(
        request=request.id,
        model=request.plan.model,
        plan=request.plan,
        prompt_tokens=len(request.prompt),
        prompt_tokens_reused=request.reused,
        tokens=len(tokens),
        ttft_s=first,
        total_s=end_s - request.started_at,
        tokens_per_s=(len(tokens) - 1) / decode_s if decode_s > 0 else None,
        prefill_tokens_per_s=(len(request.prompt) - request.reused) / first if first else None,
        stage_compute_s=tuple((node, computed[node]) for node in request.plan.devices if node in computed),
        finish=finish,
        notices=request.notices,
    )


def step_of(request: Request, tokens: Sequence[TokenEvent], began_at_s: float) -> Step:
    """What is told of the latest token."""
    event = tokens[-1]
    return Step(
        request=request.id,
        plan=request.plan,
        began_at_s=began_at_s,
        index=event.index,
        since_s=tokens[-2].at_s if event.index else 0.0,
        at_s=event.at_s,
        prompt_tokens=len(request.prompt),
        reused_tokens=request.reused,
        timings=event.timings,
    )
