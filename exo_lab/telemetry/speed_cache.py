"""What was measured of devices, kept in a file of this user: a device is measured once and not at every connect.

A figure belongs to a chip, the cores and threads that compute, where they compute, and the version of what computes. A
file that is missing or broken holds nothing, and is replaced. Several processes may use it at once.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from filelock import FileLock, Timeout

from exo_lab.core.device import DeviceSpeed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exo_lab.core.device import Device

log = logging.getLogger(__name__)

FORMAT = 1
MAX_BYTES = 1 << 18
MAX_KEPT = 200


class _File(msgspec.Struct, frozen=True, kw_only=True):
    format: int
    speeds: dict[str, DeviceSpeed]


def key_of(device: Device, *, engine: str, version: str, threads: int) -> str:
    """Under which name a device's figures are kept.

    Args:
        device: as detected.
        engine: that computes, "torch" or "numpy".
        version: of it.
        threads: that it was told to use; 0: its own choice.
    """
    place = device.computes_on or "cpu"
    return f"{device.chip} | {device.cores} cores | {threads or 'all'} threads | {engine} {version} | {place}"


class SpeedCache:
    """The file. Every method may be called from any thread; none raises for what is wrong with the file.

    Args:
        path: of the file; its folder is made when something is kept.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, key: str) -> DeviceSpeed | None:
        """What is kept under that name."""
        return self._read().get(key)

    def keep(self, key: str, speed: DeviceSpeed) -> None:
        """Keep a measurement; the oldest ones go when there are many."""
        speeds = self._read()
        speeds.pop(key, None)
        speeds[key] = speed
        latest = dict(list(speeds.items())[-MAX_KEPT:])
        text = msgspec.json.format(msgspec.json.encode(_File(format=FORMAT, speeds=latest)))
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _replace(self._path, text)
        except OSError as exc:
            log.warning("what was measured of this device cannot be kept in %s: %s", self._path, exc)

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        """Measure while nobody else on this machine does: two at once would each find half a machine.

        Yields:
            True; False if another is at it, or there can be no lock.
        """
        lock = FileLock(self._path.with_name(f"{self._path.name}.lock"))
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except (OSError, Timeout, NotImplementedError) as exc:
            log.info("the speed of this device is not measured now: %s", exc)
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def _read(self) -> dict[str, DeviceSpeed]:
        try:
            with self._path.open("rb") as file:
                text = file.read(MAX_BYTES + 1)
            found = msgspec.json.decode(text, type=_File)
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as exc:
            log.warning("%s holds no measurements that can be read (%s); it is made anew", self._path, exc)
            return {}
        return {key: speed for key, speed in found.speeds.items() if _possible(speed)} if found.format == FORMAT else {}


def _possible(speed: DeviceSpeed) -> bool:
    figures = (*msgspec.structs.astuple(speed.flops), speed.memory_bandwidth_bytes_per_s)
    return all(math.isfinite(figure) and figure >= 0 for figure in figures)


def _replace(path: Path, text: bytes) -> None:
    """Readers see the old file or the new one, and only this user sees either (mkstemp makes it 0600)."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
