"""What operating systems write about a machine, read from their text. Pure: `machine` gets the text."""

from __future__ import annotations

import re

MAX_NAME = 100  # characters of a name that goes into a device's card

# What makers leave in their firmware where a name should be.
PLACEHOLDERS = {
    "",
    "0",
    "123456789",
    "default string",
    "empty",
    "n/a",
    "na",
    "none",
    "not applicable",
    "not specified",
    "o.e.m.",
    "oem",
    "system manufacturer",
    "system product name",
    "system version",
    "to be filled by o.e.m.",
    "unknown",
}

# Arm's cores have numbers where others have names: (implementer, part) in /proc/cpuinfo, as in util-linux' lscpu-arm.c.
ARM_CORES = {
    (0x41, 0xD03): "Cortex-A53",
    (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD0B): "Cortex-A76",
    (0x41, 0xD0C): "Neoverse-N1",
    (0x41, 0xD40): "Neoverse-V1",
    (0x41, 0xD49): "Neoverse-N2",
    (0x41, 0xD4F): "Neoverse-V2",
}


def clean_name(text: str | None) -> str:
    """A name without control characters, doubled blanks and what only fills a place; empty if nothing is left."""
    name = " ".join((text or "").replace("\0", " ").split())
    name = "".join(one for one in name if one.isprintable())[:MAX_NAME]
    return "" if name.casefold() in PLACEHOLDERS else name


def cpu_of_cpuinfo(text: str) -> str:
    """The processor's name in Linux' /proc/cpuinfo; empty if it has none that we know."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip().casefold(), value.strip())
    for key in ("model name", "cpu model", "cpu"):  # x86 and some Arm; MIPS; POWER
        if name := clean_name(fields.get(key)):
            return name
    try:
        core = int(fields["cpu implementer"], 16), int(fields["cpu part"], 16)
    except (KeyError, ValueError):
        return clean_name(fields.get("hardware"))
    return ARM_CORES.get(core, "") or clean_name(fields.get("hardware"))


def machine_of_dmi(vendor: str | None, product: str | None, version: str | None) -> str:
    """A machine's model from its firmware's three fields; the maker is not said twice."""
    maker, name, family = clean_name(vendor), clean_name(product), clean_name(version)
    if maker.casefold() == "lenovo" and family:  # its product is a number, its version what people call it
        name = family
    if maker and name and not name.casefold().startswith(maker.split()[0].casefold().rstrip(",")):
        return clean_name(f"{maker} {name}")
    return name or maker


def cuda_of_torch(text: str) -> bool:
    """Was this PyTorch built for CUDA or ROCm? By its version.py, since importing it takes seconds."""
    return bool(re.search(r"^(?:cuda|hip)\b[^=\n]*=\s*['\"]", text, re.MULTILINE))


def visible(devices: str | None, uuids: list[str]) -> list[int]:
    """Which GPUs CUDA shows to a program, in its order, by what `CUDA_VISIBLE_DEVICES` says.

    Args:
        devices: the variable; None if it is not set.
        uuids: of all GPUs, by index.

    Returns:
        Indices. As in CUDA, the first entry that names no GPU ends the list.
    """
    if devices is None:
        return list(range(len(uuids)))
    shown: list[int] = []
    for entry in devices.split(","):
        name = entry.strip()
        if name.isdigit() and int(name) < len(uuids):
            index = int(name)
        else:
            matching = [i for i, uuid in enumerate(uuids) if name and uuid.startswith(name)]
            if len(matching) != 1:
                break
            index = matching[0]
        if index in shown:
            return []  # CUDA shows none if one is named twice
        shown.append(index)
    return shown
