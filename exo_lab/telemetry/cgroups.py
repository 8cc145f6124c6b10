"""What a container may use: memory and CPU limits of Linux' control groups, versions 1 and 2.

Reads through a function that is given, so it works on recorded files. Sources: the kernel's
Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst; proc(5) for mountinfo.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Read = Callable[[str], str | None]

UNLIMITED = 1 << 60  # version 1 writes "no limit" as a number near 2**63


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the tightest group allows; None where nothing limits."""

    memory_bytes: int | None = None
    memory_available_bytes: int | None = None  # limit - usage, with file caches that can go counted as free
    cores: float | None = None


class _Mount(msgspec.Struct, frozen=True):
    root: str
    place: str
    controllers: frozenset[str]  # empty: version 2, all in one


def limits(read: Read) -> Limits:
    """The limits of this process's groups and of all groups that these are in, as far as they can be seen.

    Args:
        read: the text of a file; None if there is none or it may not be read.
    """
    mounts = tuple(_mounts(read("/proc/self/mountinfo") or ""))
    memory: list[tuple[int, int]] = []
    cores: list[float] = []
    for version_2, controllers, group in _groups(read("/proc/self/cgroup") or ""):
        for mount in mounts:
            if version_2 != (not mount.controllers) or not (version_2 or controllers & mount.controllers):
                continue
            for folder in _folders(mount, group):
                if version_2 or "memory" in controllers:
                    memory += _memory(read, folder, version_2=version_2)
                if version_2 or "cpu" in controllers:
                    cores += _cores(read, folder, version_2=version_2)
    return Limits(
        memory_bytes=min((limit for limit, _ in memory), default=None),
        memory_available_bytes=min((free for _, free in memory), default=None),
        cores=min(cores, default=None),
    )


def _groups(text: str) -> Iterator[tuple[bool, frozenset[str], str]]:
    """(version 2?, controllers, path) of /proc/self/cgroup."""
    for line in text.splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3 and parts[2].startswith("/"):
            number, names, path = parts
            yield number == "0" and not names, frozenset(names.split(",")) - {""}, path


def _mounts(text: str) -> Iterator[_Mount]:
    for line in text.splitlines():
        before, dash, after = line.partition(" - ")
        fields, rest = before.split(), after.split()
        if not dash or len(fields) < 5 or len(rest) < 3:
            continue
        root, place = _unescape(fields[3]), _unescape(fields[4])
        if rest[0] == "cgroup2":
            yield _Mount(root, place, frozenset())
        elif rest[0] == "cgroup":
            yield _Mount(root, place, frozenset(rest[2].split(",")))


def _unescape(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)


def _folders(mount: _Mount, group: str) -> Iterator[str]:
    """The group's folder and all above it that the mount shows; the mount itself if the group is not below its root."""
    inside = posixpath.relpath(posixpath.normpath(group), mount.root)
    path = "" if inside == "." or inside.startswith("..") else inside
    while path:
        yield posixpath.join(mount.place, path)
        path = posixpath.dirname(path)
    yield mount.place


def _memory(read: Read, folder: str, *, version_2: bool) -> Iterator[tuple[int, int]]:
    names = ("memory.max", "memory.current") if version_2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    limit, used = (_number(read(f"{folder}/{name}")) for name in names)
    if limit is None or limit >= UNLIMITED:
        return
    key = "inactive_file" if version_2 else "total_inactive_file"
    found = re.search(rf"^{key} (\d+)$", read(f"{folder}/memory.stat") or "", re.MULTILINE)
    taken = max(0, (used or 0) - (int(found[1]) if found else 0))
    yield limit, max(0, limit - taken)


def _cores(read: Read, folder: str, *, version_2: bool) -> Iterator[float]:
    if version_2:
        quota, _, period = (read(f"{folder}/cpu.max") or "").strip().partition(" ")
    else:
        quota, period = read(f"{folder}/cpu.cfs_quota_us") or "", read(f"{folder}/cpu.cfs_period_us") or ""
    allowed, every = _number(quota), _number(period)
    if allowed and every and allowed > 0:
        yield allowed / every


def _number(text: str | None) -> int | None:
    """A whole number; None for "max" and for what is no number."""
    try:
        return int((text or "").strip())
    except ValueError:
        return None
