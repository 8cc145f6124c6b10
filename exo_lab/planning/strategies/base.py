"""What strategies share: which devices there are, counts made to fit, and the plan made of them. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from exo_lab.core.plan import Plan, plan_from_counts
from exo_lab.planning.fit import nearest_counts
from exo_lab.planning.links import links_of
from exo_lab.planning.problem import Problem
from exo_lab.planning.shortage import does_not_fit, layers_that_fit, too_small, unreachable

if TYPE_CHECKING:
    from exo_lab.core.device import Device

Strategy = Callable[[Problem], Plan]


def connected(problem: Problem) -> tuple[list[Device], list[str]]:
    """The devices that a plan may use together, in the problem's order, and a sentence for each that it may not.

    Where links leave the devices in several groups it is the group with the most memory that holds all of the required.

    Raises:
        ConfigError: there is no device.
        DoesNotFit: two that must be used cannot reach each other.
    """
    devices = {device.id: device for device in problem.devices}
    groups = links_of(problem.topology).groups(list(devices))
    must = [device for device in devices if device in problem.must_use]
    for a, b in itertools.pairwise(must):
        if not any(a in group and b in group for group in groups):
            raise unreachable(problem, a, b)
    able = [group for group in groups if not must or must[0] in group]
    chosen = max(able, key=lambda group: (sum(problem.room_bytes(devices[one]) for one in group), len(group)))
    notes = [
        f"{device.name} is left out: no chain of links leads to it"
        for device in devices.values()
        if device.id not in chosen
    ]
    return [devices[one] for one in chosen], notes


def fitted(
    problem: Problem, devices: Sequence[Device], counts: Sequence[int], *, strategy: str, why: Sequence[str] = ()
) -> Plan:
    """A plan with these counts, or the nearest one that the memories hold; says in `why` what was moved.

    A device that must be used gets a layer while there are enough.

    Raises:
        DoesNotFit: no distribution over these devices in this order fits.
    """
    layers, notes = problem.config.n_layers, list(why)
    must = [device.id in problem.must_use for device in devices]
    if sum(must) > layers:
        must = [False] * len(devices)
        notes.append(f"there are more devices than the {layers} layers, so some get none")
    moved = nearest_counts(problem, devices, counts, must)
    if moved is None:
        for device, needed in zip(devices, must, strict=True):
            if needed and not layers_that_fit(problem, device):
                raise too_small(problem, device)
        raise does_not_fit(problem)
    notes += [
        f"{device.name} would have got {before} layers and has no room for them: it gets {after}, the rest goes to "
        f"devices with room"
        for device, before, after in zip(devices, counts, moved, strict=True)
        if before > max(after, 1) or (before == 1 and not after)
    ]
    ids = tuple(device.id for device in devices)
    return plan_from_counts(problem.config.name, ids, moved, strategy=strategy, why=tuple(notes))


def by_memory(problem: Problem) -> tuple[list[Device], list[str]]:
    """The devices in the user's order if there is one, else by (memory, id) descending, as the ring has them; notes."""
    devices, notes = connected(problem)
    if not problem.order:
        devices.sort(key=lambda device: (problem.memory_bytes(device), device.id), reverse=True)
    return devices, notes
