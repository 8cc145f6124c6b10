"""Shared memory beside encrypted TCP: a frame there and back between two processes, by size; prefill of a ring of two.

Every tensor goes by way of the ring here, small ones too, so that the table shows from which size on that is
worth it. The rings of two are real kernels with the real model, one thread each.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import statistics
import tempfile
import time
from typing import TYPE_CHECKING, Any
from unittest import mock

from benchmarks.measure import REPEATS, interleave, median, ratio, report
from benchmarks.ring import MODEL, PREFILLS, Rings, prompt_of
from exo_lab.cluster import Cluster
from exo_lab.core.messages import Cancel, Step
from exo_lab.core.tensor import Tensor
from exo_lab.node.parts import NodeOptions
from exo_lab.transport.keys import new_token
from exo_lab.transport.secure import SecureContext
from exo_lab.transport.shared_memory import SWITCH, THRESHOLD_BYTES, SharedMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

    from exo_lab.transport.base import DataPort

SIZES = (2304, 8 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20)
ROUND_TRIPS, WARM_UP = 60, 5
STEP = Step(request="r", model="m", epoch=1, proposer="p", stage=1, position=7)
WITHIN_S = 30.0
WAYS = {"TCP": False, "shared memory": True}


def _serve(pipe: Connection, token: str, shared: bool) -> None:
    context = SecureContext(token)
    port = context.data(side=SharedMemory(enabled=shared, threshold_bytes=1))
    pipe.send(port.address)
    back = pipe.recv()
    while isinstance(frame := port.recv(WITHIN_S), tuple) and not isinstance(frame[0], Cancel):
        port.send(back, *frame)
    port.close()
    context.close()


class Pair:
    """A port here and one in another process, which sends back what it gets."""

    def __init__(self, *, shared: bool) -> None:
        token = new_token()
        self._context = SecureContext(token)
        self.port: DataPort = self._context.data(side=SharedMemory(enabled=shared, threshold_bytes=1))
        spawn = multiprocessing.get_context("spawn")
        here, there = spawn.Pipe()
        self._other = spawn.Process(target=_serve, args=(there, token, shared), daemon=True)
        self._other.start()
        self.address = here.recv()
        here.send(self.port.address)
        while shared and not self.port.shares_memory(self.address):
            self.round_trip_s(Tensor("int32", (1,), bytes(4)))

    def round_trip_s(self, tensor: Tensor) -> float:
        """Seconds until a tensor is back."""
        began = time.perf_counter()
        self.port.send(self.address, STEP, tensor)
        if self.port.recv(WITHIN_S) is None:
            raise TimeoutError("the other process did not answer")
        return time.perf_counter() - began

    def median_s(self, size: int) -> float:
        """The median of some round trips."""
        tensor = Tensor("float32", (size // 4,), bytes(size))
        return statistics.median([self.round_trip_s(tensor) for _ in range(WARM_UP + ROUND_TRIPS)][WARM_UP:])

    def close(self) -> None:
        """End the other process and free the sockets."""
        self.port.send(self.address, Cancel(request="end"))
        self._other.join(WITHIN_S)
        self.port.close()
        self._context.close()


def frames(repeats: int) -> dict[str, dict[int, list[float]]]:
    """Seconds of a round trip, by way and size."""
    pairs = {name: Pair(shared=shared) for name, shared in WAYS.items()}
    try:
        cases: dict[str, Callable[[], float]] = {
            f"{name} {size}": lambda pair=pair, size=size: pair.median_s(size)
            for name, pair in pairs.items()
            for size in SIZES
        }
        found = interleave(cases, repeats)
    finally:
        for pair in pairs.values():
            pair.close()
    return {name: {size: found[f"{name} {size}"] for size in SIZES} for name in WAYS}


@contextlib.contextmanager
def _ring(folder: str, *, shared: bool) -> Iterator[Rings]:
    """Two kernels; those of the other ring do not see them, or both would be busy with refusing each other."""
    settings = {SWITCH: "on" if shared else "off", "EXO_LAB_REGISTRY": f"{folder}/{shared}"}
    with mock.patch.dict(os.environ, settings):
        cluster = Cluster(NodeOptions(name="bench", threads=1), new_token())
        cluster.up(2, threads=1)
    with cluster:
        rings = Rings(cluster)
        rings.use(2)
        yield rings


def prefills(repeats: int) -> dict[str, dict[int, list[float]]]:
    """Seconds to the first token of a ring of two, by way and length of the prompt."""
    with (
        tempfile.TemporaryDirectory() as folder,
        _ring(folder, shared=False) as tcp,
        _ring(folder, shared=True) as memory,
    ):
        rings = dict(zip(WAYS, (tcp, memory), strict=True))
        prompts = {size: prompt_of(tcp.cluster, size) for size in PREFILLS}
        cases: dict[str, Callable[[], float]] = {
            f"{name} {size}": lambda ring=ring, text=text: ring.prefill_s(2, text)
            for name, ring in rings.items()
            for size, text in prompts.items()
        }
        found = interleave(cases, repeats)
    return {name: {size: found[f"{name} {size}"] for size in PREFILLS} for name in WAYS}


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    repeats = parser.parse_args().repeats
    data: dict[str, Any] = {"threshold_bytes": THRESHOLD_BYTES, "repeats": repeats}
    data["round_trip_s"], data["first_token_s"] = frames(repeats), prefills(repeats)
    rows = [_row(f"{size:,} bytes there and back", data["round_trip_s"], size) for size in SIZES]
    rows += [_row(f"prefill {size}, ring of 2 x 1 thread", data["first_token_s"], size) for size in PREFILLS]
    title = f"Shared memory beside TCP with CURVE (medians of {repeats}); in use from {THRESHOLD_BYTES:,} bytes on"
    report("shared_memory", title, ["", "TCP, ms", "shared memory, ms", "TCP / shared memory"], rows, data)
    print(f"The ring runs {MODEL}.")


def _row(what: str, times: dict[str, dict[int, list[float]]], size: int) -> list[str]:
    tcp, shared = (times[name][size] for name in WAYS)
    return [what, f"{1e3 * median(tcp):.3f}", f"{1e3 * median(shared):.3f}", f"{ratio(tcp, shared):.2f}"]


if __name__ == "__main__":
    main()
