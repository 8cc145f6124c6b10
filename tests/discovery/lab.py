"""What the discovery tests share: a clock that a test moves, identities, interfaces, and waiting without sleeping."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from exo_lab.core.device import Device, device_id
from exo_lab.core.messages import NodeCard
from exo_lab.discovery.interfaces import Interface

WITHIN_S = 20.0
KEY = bytes(range(32))  # of the cluster that the tests are about


class Signature:
    """An identity as discovery needs it, the same for the same seed."""

    def __init__(self, seed: str) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(seed.encode()).digest())
        self.public_key = self._private.public_key().public_bytes_raw()
        self.device_id = device_id(self.public_key)

    def sign(self, data: bytes) -> bytes:
        return self._private.sign(data)


class Clock:
    """Stands still until the test moves it."""

    def __init__(self) -> None:
        self.time = 1000.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self.time

    async def wait(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.time + seconds, future))
        await future

    async def advance(self, seconds: float) -> None:
        """Let time pass; whoever's wait ends on the way runs at its time, to the end of what it does then."""
        end = self.time + seconds
        while True:
            await rest()
            due = [one for one in self._sleepers if one[0] <= end and not one[1].done()]
            if not due:
                break
            first = min(due, key=lambda one: one[0])
            self.time = max(self.time, first[0])
            self._sleepers.remove(first)
            first[1].set_result(None)
        self.time = end
        await rest()


async def rest() -> None:
    """Let everything that is ready run."""
    for _ in range(30):
        await asyncio.sleep(0)


async def until(condition) -> None:
    """Let the loop turn until something is true."""
    async with asyncio.timeout(WITHIN_S):
        while not condition():  # noqa: ASYNC110 - the loop must turn for it to become true
            await asyncio.sleep(0)


def ethernet(address: str, name: str = "eth0", prefix: int = 24, kind="ethernet") -> Interface:
    head = address.rsplit(".", 1)[0]
    return Interface(name=name, address=address, prefix=prefix, broadcast=f"{head}.255", kind=kind)


def card_of(identity: Signature, name: str, port: int = 4000, version: int = 1, **fields) -> NodeCard:
    device = Device(id=identity.device_id, name=name)
    return NodeCard(device=device, control=f"tcp://10.0.0.99:{port}", data="", version=version, **fields)


class Watched:
    """A discovery that is being read in the background, and the last list that it gave."""

    def __init__(self, discovery, card: NodeCard) -> None:
        self.discovery, self.found, self.lists = discovery, (), 0
        self._watching = discovery.watch(card)
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for found in self._watching:
                self.found = tuple(found)
                self.lists += 1
        finally:
            await self._watching.aclose()

    @property
    def addresses(self) -> list[str]:
        return sorted(one.address for one in self.found)

    @property
    def names(self) -> list[str]:
        return sorted({one.name for one in self.found})

    async def stop(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
