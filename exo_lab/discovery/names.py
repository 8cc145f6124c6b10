"""Names of machines that a user wrote become IP addresses here, each in a thread of its own and with a deadline.

ZeroMQ would look them up in the one thread that carries every connection, and hold all of them up while a name server
is silent. So the transport takes addresses only.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import ipaddress
import re
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from exo_lab.discovery.announcement import endpoint, port_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from exo_lab.discovery.base import Found

DEADLINE_S = 5.0
PATIENCE_S = 0.5  # one look of a discovery waits so long; a name that takes longer is in a later look
AGAIN_S = 10.0  # after this a name that was not found is looked up again
FRESH_S = 60.0  # and one that was found
AT_ONCE = 8
_NAMED = re.compile(r"tcp://([A-Za-z0-9._-]+):\d{1,5}")


async def look_up(host: str) -> str:
    """An IP address of a machine; an IPv4 one if it has any, since that is what nodes listen on.

    Cancelled, it leaves a daemon thread behind, which ends when the system gives up.

    Raises:
        OSError: it has none, or the name is malformed.
    """
    answer: concurrent.futures.Future[list[tuple[Any, ...]]] = concurrent.futures.Future()

    def ask() -> None:
        try:
            answer.set_result(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as exc:
            answer.set_exception(exc)

    answer.set_running_or_notify_cancel()
    # Not in an executor: Python waits for its threads when it ends, and a silent name server takes half a minute.
    threading.Thread(target=ask, name=f"looking up {host}", daemon=True).start()
    try:
        found = await asyncio.wrap_future(answer)
    except UnicodeError as exc:
        raise OSError(f"not a name: {exc}") from exc
    found.sort(key=lambda one: one[0] != socket.AF_INET)
    return str(found[0][4][0])


class _Answer(NamedTuple):
    """What came of a name at a time: `why` there is no address. The last known one stays when it is not found again."""

    address: str
    why: str
    at: float


class Names:
    """What is known of the names in a discovery's list. For one asyncio loop.

    Args:
        look_up: finds an address or raises OSError.
        patience_s: how long `resolve` waits at most.
        now: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        look_up: Callable[[str], Awaitable[str]] = look_up,
        *,
        patience_s: float = PATIENCE_S,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look_up, self._patience_s, self._now = look_up, patience_s, now
        self._answers: dict[str, _Answer] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._gate = asyncio.Semaphore(AT_ONCE)
        self.problems: tuple[str, ...] = ()

    async def resolve(self, found: Sequence[Found]) -> tuple[Found, ...]:
        """The same with IP addresses, without those whose names are not known yet. `problems` says which and why."""
        named = {one: host for one in found if (host := _name_in(one.address))}
        self._answers = {host: self._answers[host] for host in named.values() if host in self._answers}
        for host in named.values():
            if host not in self._asking and self._is_due(host):
                self._asking[host] = asyncio.create_task(self._ask(host), name=f"looking up {host}")
        if self._asking:
            done, _ = await asyncio.wait(self._asking.values(), timeout=self._patience_s)
            self._asking = {host: task for host, task in self._asking.items() if task not in done}
            for task in done:
                task.result()
        self.problems = tuple(
            f"{one.source}: the name {host} cannot be looked up ({self._answers[host].why}). Check its spelling, or "
            "give that machine's IP address."
            for one, host in named.items()
            if host in self._answers and self._answers[host].why
        )
        resolved: list[Found] = []
        for one in found:
            if one not in named:
                resolved.append(one)
            elif address := self._answers.get(named[one], _Answer("", "", 0.0)).address:
                resolved.append(msgspec.structs.replace(one, address=endpoint(address, port_of(one.address))))
        return tuple(resolved)

    def _is_due(self, host: str) -> bool:
        known = self._answers.get(host)
        return known is None or self._now() - known.at >= (AGAIN_S if known.why else FRESH_S)

    async def _ask(self, host: str) -> None:
        async with self._gate:
            try:
                async with asyncio.timeout(DEADLINE_S):
                    answer = _Answer(await self._look_up(host), "", self._now())
            except OSError as exc:  # TimeoutError is one too
                why = str(exc) or f"no name server answered within {DEADLINE_S:g} s"
                known = self._answers.get(host)
                answer = _Answer(known.address if known is not None else "", why, self._now())
        self._answers[host] = answer

    async def close(self) -> None:
        """End what is being looked up. Idempotent."""
        asking, self._asking = tuple(self._asking.values()), {}
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


def _name_in(address: str) -> str:
    """The name in `tcp://name:port`; empty if it is an IP address there, or nothing that could be looked up."""
    match = _NAMED.fullmatch(address)
    if match is None:
        return ""
    try:
        ipaddress.ip_address(match[1])
    except ValueError:
        return match[1]
    return ""
