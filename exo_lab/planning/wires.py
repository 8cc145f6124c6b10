"""In what precision each hop of a plan carries hidden states, and why. Pure.

What the user asked for, or by itself: float32, but for a link that was measured and whose time for a chunk matters
beside what computing it takes; such a link gets bfloat16. int8 is never chosen by itself: its error is larger.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.wire import Rounding, row_bytes
from exo_lab.planning.cost import Costs
from exo_lab.planning.text import seconds_text, size_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exo_lab.core.plan import Plan
    from exo_lab.core.wire import Wire
    from exo_lab.planning.problem import Problem


def with_wires(problem: Problem, plan: Plan) -> Plan:
    """The plan, with hidden states rounded on the hops where the problem wants it; says in `why` where and why."""
    costs = Costs(problem, [problem.device(device) for device in plan.devices])
    roundings: list[Rounding] = []
    for stage, shard in enumerate(plan.shards[1:]):
        wire = costs.wire(stage, stage + 1)
        if wire != "float32":
            roundings.append(Rounding(shard.start, wire))
    plan = msgspec.structs.replace(plan, roundings=tuple(roundings))
    lossy = tuple(text for wire, text in wire_reasons(costs, plan) if wire != "float32")
    return msgspec.structs.replace(plan, why=(*plan.why, *lossy))


def wire_reasons(costs: Costs, plan: Plan) -> Iterator[tuple[Wire, str]]:
    """For each hop that carries hidden states: in what precision, and why."""
    config, wish = costs.config, costs.problem.wire
    for stage in range(len(plan.devices) - 1):
        wire, hop = plan.wire_out_of(stage), costs.hop(stage, stage + 1)
        size = row_bytes(config.hidden_size, wire) * costs.chunk_tokens
        full = row_bytes(config.hidden_size, "float32") * costs.chunk_tokens
        ends = costs.devices[stage : stage + 2]
        emulated = "emulated " if any(device.emulated_link for device in ends) else ""
        what = f"Hidden states go from {ends[0].name} to {ends[1].name} as {wire}"
        takes = f"the {emulated}link takes {seconds_text(hop.busy_s(full))} for a chunk's {size_text(full)} of float32"
        if wish != "auto":
            reason = "as was asked for"
        elif hop.bandwidth.origin != "measured":
            reason = "nobody has measured the link's bandwidth"
        elif wire == "float32":
            reason = f"{takes}, which does not matter beside computing it"
        else:
            reason = f"{takes}, and {seconds_text(hop.busy_s(size))} for {size_text(size)} (wire=float32 is exact)"
        yield wire, f"{what}: {reason}."
