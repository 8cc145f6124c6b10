"""Why a model does not fit: what is short, by how much, and what to do. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.core.errors import DoesNotFit
from exo_lab.planning.links import links_of
from exo_lab.planning.text import count_text, size_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.core.device import Device
    from exo_lab.planning.problem import Problem

ADVICE = "Add a device, load a smaller file, or ask for a shorter context."


def layers_that_fit(problem: Problem, device: Device, *, first: bool = False, last: bool = False) -> int:
    """How many layers a device can hold, counted by the largest, as first or last stage or between; all if forced."""
    config = problem.config
    if problem.force:
        return config.n_layers
    held = problem.footprint(device)
    ends = held.embedding * first + held.head * last - held.shared * (first and last)
    left = problem.room_bytes(device) - ends - problem.activation_bytes
    largest = problem.layer_memory_bytes(device)
    return max(0, min(config.n_layers, left // largest)) if largest else config.n_layers * (left >= 0)


def does_not_fit(problem: Problem) -> DoesNotFit:
    """The error that says what is short by how much, for the largest group of devices that reach each other."""
    config, devices = problem.config, {device.id: device for device in problem.devices}
    groups = links_of(problem.topology).groups(list(devices))
    room = {device: problem.room_bytes(devices[device]) for device in devices}
    group = max(groups, key=lambda ids: (sum(room[one] for one in ids), len(ids)))
    needed = problem.least_memory_bytes
    offered = sum(room[one] for one in group)
    count = len(group)
    who = f"the {count_text(count, 'node')}{' that reach each other' * (len(groups) > 1)}"
    text = (
        f"{config.name} needs {size_text(needed)} for weights and {problem.context_tokens} tokens of KV cache; {who} "
        f"offer{'s' * (count == 1)} {size_text(offered)} of memory"
    )
    if offered < needed:
        text += f", {size_text(needed - offered)} short."
    else:
        text += f", but not in portions that hold it: {_portions(problem, [devices[one] for one in group])}."
    apart = [devices[one].name for ids in groups if ids is not group for one in ids]
    if apart:
        text += f" There is no link from them to {', '.join(apart)}."
    return DoesNotFit(f"{text} {ADVICE}")


def _portions(problem: Problem, devices: Sequence[Device]) -> str:
    config = problem.config
    held = [layers_that_fit(problem, device) for device in devices]
    layer = min(problem.layer_memory_bytes(device) for device in devices)
    if sum(held) < config.n_layers:
        missing = config.n_layers - sum(held)
        each = ", ".join(f"{device.name} {count}" for device, count in zip(devices, held, strict=True))
        return (
            f"a layer takes {size_text(layer)}, room is for {sum(held)} of {config.n_layers} layers ({each}), "
            f"{size_text(missing * layer)} short"
        )
    footprints = [problem.footprint(device) for device in devices]
    ends = min(one.embedding for one in footprints), min(one.head for one in footprints)
    return (
        f"beside its layers the first node holds {size_text(ends[0])} of embedding, the last one {size_text(ends[1])} "
        f"of head, and too few of them have room for that"
    )


def too_small(problem: Problem, device: Device) -> DoesNotFit:
    """A device that must be used and cannot hold one layer."""
    room = problem.room_bytes(device)
    needed = problem.layer_memory_bytes(device) + problem.activation_bytes
    return DoesNotFit(
        f"{device.name} has room for {size_text(room)}; one layer of {problem.config.name} needs {size_text(needed)}, "
        f"{size_text(max(0, needed - room))} short. Leave it out, or ask for a shorter context."
    )


def unreachable(problem: Problem, a: str, b: str) -> DoesNotFit:
    """Two devices that must be in one plan and that no link joins."""
    names = problem.device(a).name, problem.device(b).name
    return DoesNotFit(
        f"{names[0]} and {names[1]} must hold layers of one model and no chain of links joins them; 1 link is missing. "
        f"Leave one out, or connect them: `%exo doctor` says why nodes do not see each other."
    )
