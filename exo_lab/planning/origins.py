"""Where a prediction's numbers come from: every coefficient of a plan as a row, with its origin. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from exo_lab.core.pace import Measured
from exo_lab.planning.coefficients import Coefficient
from exo_lab.planning.text import seconds_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exo_lab.core.plan import Plan
    from exo_lab.planning.cost import Costs
    from exo_lab.planning.problem import Problem

Row = tuple[str, str, str, str]
_SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def names_of(problem: Problem, plan: Plan) -> dict[str, str]:
    """Names for people by device id; a name that several have carries its id."""
    devices = {device.id: device for device in (*problem.devices, *(problem.device(one) for one in plan.devices))}
    count = Counter(device.name for device in devices.values())
    return {one: f"{device.name} ({one})" if count[device.name] > 1 else device.name for one, device in devices.items()}


def coefficient_rows(costs: Costs, plan: Plan, names: dict[str, str]) -> Iterator[Row]:
    """(of whom, what, value, origin) of every coefficient that the prediction of a plan used."""
    for place, device in enumerate(plan.devices):
        measured = costs.problem.measured_of(device) or Measured()
        for what, coefficient in _used(costs, place, measured):
            yield names[device], what, value_text(coefficient), coefficient.origin
    count = len(plan.devices)
    for place in range(count if count > 1 else 0):
        following = (place + 1) % count
        hop = costs.hop(place, following)
        pair = f"{names[plan.devices[place]]} to {names[plan.devices[following]]}"
        yield pair, f"latency ({hop.kind})", value_text(hop.latency), hop.latency.origin
        yield pair, f"bandwidth ({hop.kind})", value_text(hop.bandwidth), hop.bandwidth.origin


def _used(costs: Costs, place: int, measured: Measured) -> Iterator[tuple[str, Coefficient]]:
    """A measured time replaces the speeds that it would have been computed from."""
    speed = costs.speeds[place]
    times = (
        ("one layer, one position", measured.layer_s),
        ("one layer, one position of a prompt", measured.prefill_layer_s),
        ("embedding", measured.embedding_s),
        ("head", measured.head_s),
    )
    for what, seconds in times:
        if seconds is not None:
            yield what, Coefficient(seconds, "s", "measured")
    if None in (measured.layer_s, measured.prefill_layer_s, measured.head_s):
        yield "compute", speed.flops
        yield "memory bandwidth", speed.bandwidth
    if measured.embedding_s is None:
        yield "embedding", Coefficient(0.0, "s", "assumed")
    yield "overhead of a stage", speed.overhead


def value_text(coefficient: Coefficient) -> str:
    """A coefficient for people."""
    value, unit = coefficient.value, coefficient.unit
    if unit == "s":
        return seconds_text(value)
    for scale, prefix in _SCALES:
        if value >= scale:
            return f"{value / scale:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"
