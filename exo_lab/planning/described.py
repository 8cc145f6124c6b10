"""Devices described in words: "MacBook Air: M3 8GB x2, RTX 4070 12GB". Pure; the chip table is handed in.

Memory is read as it is sold: a "GB" of memory is 2^30 bytes. Speeds are those of the chip table, peaks as it has them;
a chip written as "?" has none, and the cost model assumes some and says so.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.device import Device
from exo_lab.core.errors import ConfigError
from exo_lab.core.topology import LinkKind, Sighting, Topology, link, topology

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.core.chips import ChipTable

DESCRIBED = "as described"  # of a link whose bandwidth somebody said and nobody measured
MOST = 1024  # stages of a plan
GPUS = ("NVIDIA ", "AMD ")  # of the table's chips those that PyTorch computes on; of others it takes the processor
EXAMPLE = "M3 8GB x2, RTX 4070 12GB"
_ENTRY = re.compile(
    r"(?:(?P<before>\d{1,5})\s*x\s+)?(?:(?P<label>[^:]{1,60}):)?\s*(?P<chip>.+?)"
    r"(?:\s+(?P<size>\d{1,6}(?:\.\d{1,3})?)\s*(?P<unit>[mgt])i?b)?(?:\s+x\s*(?P<after>\d{1,5}))?",
    re.IGNORECASE,
)
_UNITS = {"m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def described(text: str, table: ChipTable) -> tuple[Device, ...]:
    """The devices of `[label:] chip memory [xN], ...`. A GPU that comes with one size only needs no memory.

    Raises:
        ConfigError: an entry that cannot be read, a chip that the table does not know, no memory, none or too many.
    """
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    if not entries:
        raise ConfigError(f"no device is named; write some, such as {EXAMPLE!r}")
    found: list[Device] = []
    for number, entry in enumerate(entries, 1):
        match = _ENTRY.fullmatch(entry)
        if match is None:
            raise ConfigError(f"{entry!r} is no device; write a chip and its memory, such as {EXAMPLE!r}")
        count = int(match["before"] or match["after"] or 1)
        if count < 1 or len(found) + count > MOST:
            raise ConfigError(f"{entry!r}: {count} devices are not possible; 1 to {MOST} in all are")
        one = _device(entry, match, table)
        name = (match["label"] or match["chip"]).strip()
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "device"
        for copy in range(1, count + 1):
            label = name if count == 1 else f"{name} #{copy}"
            found.append(msgspec.structs.replace(one, id=f"{number:03d}-{slug}-{copy}", name=label))
    return tuple(found)


def linked(devices: Sequence[Device], kind: LinkKind, bandwidth_bytes_per_s: float | None = None) -> Topology:
    """A topology in which all devices reach each other by one kind of link.

    The links of one of them to all others say that: a pair without a link takes what the two have in common.
    """
    hub, *others = devices
    said = "" if bandwidth_bytes_per_s is None else DESCRIBED
    return topology(
        [Sighting(device=device) for device in devices],
        [
            link(hub.id, other.id, kind=kind, bandwidth_bytes_per_s=bandwidth_bytes_per_s, description=said)
            for other in others
        ],
    )


def _device(entry: str, match: re.Match[str], table: ChipTable) -> Device:
    given = float(match["size"]) * _UNITS[match["unit"].lower()] if match["size"] else 0.0
    if match["size"] and given < 1:
        raise ConfigError(f"{entry!r} has no memory; it must be more than nothing")
    name = match["chip"].strip()
    chip = None if name == "?" else table.match(name, int(given))
    if chip is None and name != "?":
        raise ConfigError(
            f"the chip table has no {name!r}, or several that differ. Write its full name and memory, such as "
            f"'NVIDIA GeForce RTX 4070 12GB', or '? 8GB' for one whose speed is to be assumed."
        )
    memory = int(given) or (chip.memory_bytes if chip is not None else 0)
    if not memory:
        raise ConfigError(f"{entry!r} does not say how much memory it has; write it, as in {EXAMPLE!r}")
    if chip is None:
        return Device(id="", name="", memory_bytes=memory, computes_on="cpu")
    return Device(
        id="",
        name="",
        chip=chip.name,
        memory_bytes=memory,
        flops=chip.flops,
        memory_bandwidth_bytes_per_s=chip.memory_bandwidth_bytes_per_s,
        computes_on="cuda:0" if chip.name.startswith(GPUS) else "cpu",
        speed_origin="chip table",
        speed_note=chip.note,
    )
