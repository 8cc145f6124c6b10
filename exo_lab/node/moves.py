"""Moving layers from node to node: the plan that comes of it. Pure; `recovery` takes running generations along."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.errors import BadPlan
from exo_lab.core.shard import Shard

if TYPE_CHECKING:
    from exo_lab.core.plan import Plan


SAFETY = 0.7  # a migration must take less than this part of a replay: how long it takes is guessed
FRAME_S = 0.0005  # of one layer's cache, beyond its bytes
GUESSED_BYTES_PER_S = 50e6  # of a link that nobody has measured


def owners_of(plan: Plan) -> list[str]:
    """The device of each layer."""
    return [owner for owner, shard in zip(plan.devices, plan.shards, strict=True) for _ in range(len(shard))]


def migrates(replay_s: float, moving_s: float) -> bool:
    """Is it quicker to bring caches to who holds the layers now than to compute them again?

    Args:
        replay_s: what computing them took the first time.
        moving_s: see `migration_s`.
    """
    return moving_s < SAFETY * replay_s


def migration_s(bytes_a_layer: int, old: Plan, new: Plan, bandwidth: float | None, latency_s: float | None) -> float:
    """What bringing the caches of a request to who holds the layers now is guessed to take.

    Args:
        bytes_a_layer: of the cache of one layer.
        old: where they are.
        new: where they are needed.
        bandwidth: bytes a second of the slowest link; None if nobody measured it.
        latency_s: of it, one way; None likewise.
    """
    moving = sum(before != after for before, after in zip(owners_of(old), owners_of(new), strict=True))
    wire_s = moving * bytes_a_layer / (bandwidth or GUESSED_BYTES_PER_S)
    return 3 * (latency_s or 0.0) + old.n_layers * FRAME_S + wire_s


def moved(plan: Plan, start: int, end: int, device: str) -> Plan:
    """The plan in which `device` holds layers [start, end), and everybody else what they held of the others.

    Raises:
        BadPlan: no such layers, nothing would change, or somebody would hold layers that do not follow each other.
    """
    if not 0 <= start < end <= plan.n_layers:
        raise BadPlan(f"{plan.model} has layers 0 to {plan.n_layers - 1}; [{start}, {end}) are none of them")
    owners = owners_of(plan)
    before = list(owners)
    owners[start:end] = [device] * (end - start)
    if owners == before:
        raise BadPlan(f"layers {start} to {end - 1} of {plan.model} are on {device} already")
    runs: list[tuple[str, int, int]] = []  # (device, start, end)
    for layer, owner in enumerate(owners):
        if runs and runs[-1][0] == owner:
            runs[-1] = (owner, runs[-1][1], layer + 1)
        else:
            runs.append((owner, layer, layer + 1))
    devices = tuple(owner for owner, _, _ in runs)
    split = next((owner for owner in devices if devices.count(owner) > 1), None)
    if split is not None:
        held = " and ".join(f"{first}-{last - 1}" for owner, first, last in runs if owner == split)
        raise BadPlan(
            f"then {split} would hold layers {held}, and a node is one stage: its layers follow each other. "
            "Move layers to a neighbour in the ring, or the whole stage."
        )
    shards = tuple(Shard(model=plan.model, start=first, end=last, n_layers=plan.n_layers) for _, first, last in runs)
    why = (f"layers {start} to {end - 1} were moved by hand",)
    return msgspec.structs.replace(plan, devices=devices, shards=shards, strategy="manual", why=why)


def layers_of(text: str) -> tuple[int, int]:
    """[start, end) of "10-14" (both meant), "10" or "10:15" (the last not).

    Raises:
        BadPlan: it is none of these.
    """
    first, mark, last = text.partition("-")
    if not mark:
        first, mark, last = text.partition(":")
    try:
        start = int(first)
        end = start + 1 if not mark else int(last) + (mark == "-")
    except ValueError as exc:
        raise BadPlan(f"{text!r} are no layers; write 10-14 (both included), 10:15 (the last not), or 10") from exc
    return start, end
