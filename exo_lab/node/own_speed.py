"""How fast this node is: what was measured before, else measured in the background while the machine is quiet."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import msgspec
import psutil

from exo_lab.core.device import Device, DeviceSpeed, with_speed
from exo_lab.core.errors import Cancelled
from exo_lab.node.load import cpu_used_s
from exo_lab.telemetry.speed_cache import SpeedCache, key_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_lab.engines.speed import Kit
    from exo_lab.node.node import Node
    from exo_lab.node.parts import SpeedMeter

log = logging.getLogger(__name__)

SWITCH = "EXO_LAB_PROBE"  # "off": nothing is measured, and what was measured before is not used
BUSY = 0.25  # of the machine's cores: above that a measurement would tell of what else runs
LOOK_S = 0.2  # for so long is looked whether the machine is busy
LOOK_AGAIN_S = 5.0
LOOKS = 24
END_S = 5.0  # a measurement that is told to stop ends between two runs; importing PyTorch takes longer


class SpeedProbe:
    """Measures a device with the engine that will compute on it.

    Args:
        device: as detected.
        engine: "torch" or "numpy".
        threads: of the CPU; 0: what the engine chooses.
        cache: where measurements are kept.
        make_kit: makes what does the work, (engine, threads) -> Kit.
        busy: how much of the machine is in use, in [0, 1]; takes `LOOK_S`.
        disturbed: begins to watch, and gives what then says how much of the machine others have used since.
        look_again_s: after so long, if it was busy or another process measured.
    """

    def __init__(
        self,
        device: Device,
        engine: str,
        threads: int,
        cache: SpeedCache,
        make_kit: Callable[[str, int], Kit] | None = None,
        busy: Callable[[], float] | None = None,
        disturbed: Callable[[], Callable[[], float]] | None = None,
        look_again_s: float = LOOK_AGAIN_S,
    ) -> None:
        self._engine, self._threads, self._cache = engine, threads, cache
        self._make_kit, self._busy, self._look_again_s = make_kit or kit_of, busy or _busy, look_again_s
        self._disturbed = disturbed or used_by_others
        self._key = key_of(device, engine=engine, version=_version(engine), threads=threads)

    @property
    def known(self) -> DeviceSpeed | None:
        """What was measured before."""
        return self._cache.get(self._key)

    def measure(self, stopping: threading.Event) -> DeviceSpeed | None:
        """Measure now, or as soon as the machine is quiet. Blocks; in a thread of its own.

        Returns:
            None if it was told to stop, or the machine was busy for two minutes: then what the table says stays.
        """
        for _ in range(LOOKS):
            with self._cache.alone() as alone:
                if (known := self.known) is not None:  # another process was faster
                    return known
                if alone and self._busy() <= BUSY and (speed := self._measure(stopping)) is not None:
                    return speed
            if stopping.wait(self._look_again_s):
                break
        return None

    def _measure(self, stopping: threading.Event) -> DeviceSpeed | None:
        from exo_lab.engines.speed import measure

        kit = self._make_kit(self._engine, self._threads)
        others = self._disturbed()
        try:
            speed = measure(kit, stopping=stopping.is_set)
        except Cancelled:
            return None
        if others() > BUSY:
            return None
        self._cache.keep(self._key, speed)
        return speed


def describe(node: Node, device: Device) -> None:
    """A node found out more about itself. Its peers learn of it with their next ping."""
    node.device = device
    version = max(time.time_ns() // 1_000_000, node.card.version + 1)
    card = msgspec.structs.replace(node.card, device=device, version=version)
    node.peers.card = node.parts.identity.sign_card(card)
    node.peers_changed()


async def learn_speed(node: Node, measure: SpeedMeter) -> None:
    """Measure in a daemon thread, then describe the node by what was found. Cancelled, it waits for that.

    Raises:
        Exception: what measuring raised.
    """
    loop, done, stopping = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    found: list[DeviceSpeed | Exception | None] = []

    def work() -> None:
        try:
            found.append(measure(stopping))
        except Exception as exc:
            found.append(exc)
        with contextlib.suppress(RuntimeError):  # the loop has been closed: nobody waits any more
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=work, name="exo-speed", daemon=True).start()
    try:
        await done.wait()
    except asyncio.CancelledError:
        stopping.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), END_S)
        raise
    match found[0]:
        case DeviceSpeed() as speed:
            describe(node, with_speed(node.device, speed))
        case Exception() as exc:
            raise exc
        case None:
            log.info("the speed of this device was not measured")


def kit_of(engine: str, threads: int) -> Kit:
    """The engine's own library at work, where the engine would compute. Imports it."""
    if engine == "numpy":
        from exo_lab.engines.speed_numpy import NumpyKit

        return NumpyKit()
    from exo_lab.engines.speed_torch import TorchKit

    return TorchKit(threads=threads)


def wanted() -> bool:
    """May this process measure, and use what was measured?"""
    return os.environ.get(SWITCH, "").casefold() not in ("off", "0", "no")


def used_by_others() -> Callable[[], float]:
    """Begin to watch; what is returned says how much of all cores other processes have used since, in [0, 1]."""
    began, used_s, own_s = time.monotonic(), cpu_used_s(), time.process_time()

    def since() -> float:
        elapsed_s = max(time.monotonic() - began, 1e-3) * (psutil.cpu_count() or 1)
        others_s = cpu_used_s() - used_s - (time.process_time() - own_s)
        return min(max(others_s / elapsed_s, 0.0), 1.0)

    return since


def _busy() -> float:
    return psutil.cpu_percent(interval=LOOK_S) / 100


def _version(engine: str) -> str:
    try:
        return version(engine)
    except PackageNotFoundError:
        return "unknown"
