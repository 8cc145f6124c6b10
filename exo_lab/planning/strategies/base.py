"""What strategies share: counts made to fit, and the plan made of them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from exo_lab.core.errors import DoesNotFit
from exo_lab.core.plan import Plan, plan_from_counts
from exo_lab.planning.allocate import largest_remainder
from exo_lab.planning.problem import Problem, does_not_fit, layers_that_fit

if TYPE_CHECKING:
    from exo_lab.core.device import Device

Strategy = Callable[[Problem], Plan]


def fitted(
    problem: Problem, devices: Sequence[Device], counts: Sequence[int], *, strategy: str, why: Sequence[str] = ()
) -> Plan:
    """A plan with these counts, or the nearest one that the memories hold; says in `why` what was moved.

    Raises:
        DoesNotFit: no distribution over these devices fits.
    """
    layers = problem.config.n_layers
    caps = _caps(problem, devices, counts)
    fits = all(count <= cap for count, cap in zip(counts, caps, strict=True))
    notes = list(why)
    if not fits:
        try:
            moved = largest_remainder([max(count, 1e-6) for count in counts], layers, caps)
        except DoesNotFit as exc:
            raise does_not_fit(problem) from exc
        caps = _caps(problem, devices, moved)
        if any(count > cap for count, cap in zip(moved, caps, strict=True)):
            raise does_not_fit(problem)
        notes += [
            f"{device.name} would have got {before} layers and has room for {cap}: it gets {after}"
            for device, before, after, cap in zip(devices, counts, moved, caps, strict=True)
            if before > after
        ]
        counts = moved
    ids = tuple(device.id for device in devices)
    return plan_from_counts(problem.config.name, ids, tuple(counts), strategy=strategy, why=tuple(notes))


def _caps(problem: Problem, devices: Sequence[Device], counts: Sequence[int]) -> list[int]:
    used = [i for i, count in enumerate(counts) if count]
    first, last = (used[0], used[-1]) if used else (0, len(devices) - 1)
    return [layers_that_fit(problem, device, first=i == first, last=i == last) for i, device in enumerate(devices)]


def by_memory(problem: Problem) -> list[Device]:
    """The devices in the user's order if there is one, else by (memory, id) descending, as the ring has them."""
    if problem.order:
        return list(problem.devices)
    return sorted(problem.devices, key=lambda device: (problem.room_bytes(device), device.id), reverse=True)
