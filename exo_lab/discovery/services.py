"""DNS-SD services by multicast DNS (RFC 6762, 6763), over python-zeroconf. Knows nothing of what a service's text says.

`services_memory` is the in-process twin. IPv4 only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from zeroconf import ServiceStateChange, Zeroconf
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

TYPE = "_exo-lab._tcp.local."
TTL_S = 60  # not the 75 minutes that DNS-SD proposes: who vanished without a word is forgotten in a minute or two
RESOLVE_MS = 3000
MAX_INSTANCES = 256
MAX_RESOLVING = 32


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """One instance. `instance` is its name without the type; `text` is the TXT record, at most 255 bytes an entry."""

    instance: str
    host: str
    port: int
    addresses: tuple[str, ...]
    text: Mapping[str, str]


Seen = Callable[[str, Mapping[str, str] | None], None]


class ServicesPort(Protocol):
    """An open place among the services of the networks."""

    @property
    def problems(self) -> tuple[str, ...]:
        """What does not work now, as sentences that say what to do."""
        ...

    async def register(self, service: Service) -> None:
        """Announce a service. Never raises but for cancellation: what fails shows up in `problems`."""
        ...

    async def close(self) -> None:
        """Take back what was announced and free the sockets. Idempotent; at most a second or two."""
        ...


class Services(Protocol):
    """A way to announce and to see services."""

    async def open(self, addresses: Sequence[str], seen: Seen) -> ServicesPort:
        """Take part on the interfaces with these addresses.

        `seen(instance, text)` is called on the loop when an instance appears or changes, with None when it is gone.
        Instances of this node itself are reported too.

        Raises:
            OSError: no socket could be opened.
        """
        ...


class ZeroconfServices:
    """See `Services`. `ttl_s` is how long others believe in a record without hearing it again."""

    def __init__(self, ttl_s: int = TTL_S) -> None:
        self._ttl_s = ttl_s

    async def open(self, addresses: Sequence[str], seen: Seen) -> ZeroconfPort:
        """Open the sockets and begin to browse."""
        # Imported here: it is only needed by who uses mDNS, and takes a tenth of a second.
        from zeroconf import IPVersion
        from zeroconf.asyncio import AsyncZeroconf

        return ZeroconfPort(AsyncZeroconf(interfaces=list(addresses), ip_version=IPVersion.V4Only), seen, self._ttl_s)


class ZeroconfPort:
    """See `ServicesPort`. Made by `ZeroconfServices.open`."""

    def __init__(self, zeroconf: AsyncZeroconf, seen: Seen, ttl_s: int) -> None:
        from zeroconf.asyncio import AsyncServiceBrowser

        self._zeroconf, self._seen, self._ttl_s = zeroconf, seen, ttl_s
        self._problems: dict[str, str] = {}
        self._known: set[str] = set()
        self._resolving: dict[str, asyncio.Task[None]] = {}
        self._closed = False
        self._browser: AsyncServiceBrowser = AsyncServiceBrowser(zeroconf.zeroconf, TYPE, handlers=[self._changed])
        self._looking = asyncio.create_task(self._look_again(), name="mdns, looking again")

    @property
    def problems(self) -> tuple[str, ...]:
        """What does not work now."""
        return tuple(self._problems.values())

    async def register(self, service: Service) -> None:
        """Probe for the name, announce, and say so if another has it."""
        from zeroconf import Error
        from zeroconf.asyncio import AsyncServiceInfo

        info = AsyncServiceInfo(
            TYPE,
            f"{service.instance}.{TYPE}",
            port=service.port,
            server=f"{service.host}.local.",
            properties=dict(service.text),
            parsed_addresses=list(service.addresses),
            host_ttl=self._ttl_s,
            other_ttl=self._ttl_s,
        )
        try:
            # It is typed with a bare Awaitable: what it gives is not used.
            await (await self._zeroconf.async_register_service(info, allow_name_change=True))  # pyright: ignore[reportUnknownMemberType]
        except (Error, OSError) as exc:
            self._problems["register"] = (
                f"mDNS cannot announce {service.instance!r}: {type(exc).__name__} {exc}. Use UDP discovery or a peers "
                "file."
            )
            return
        if info.name != f"{service.instance}.{TYPE}":
            self._problems["name"] = (
                f"another node is called {service.instance!r} by mDNS, so this one is announced as "
                f"{info.name.removesuffix('.' + TYPE)!r}. Two nodes share an identity file, most likely: delete it on "
                "one of them and start that node again."
            )

    async def _look_again(self) -> None:
        """Ask anew who is there, twice in a time to live.

        zeroconf believes in an instance's name for 19 minutes at least, and asks for new ones at the start only. Asked
        again, those whose other records are too old are resolved: who does not answer is gone, until it does again.
        """
        from zeroconf.asyncio import AsyncServiceBrowser

        while True:
            await asyncio.sleep(self._ttl_s / 2)
            await self._browser.async_cancel()
            self._browser = AsyncServiceBrowser(self._zeroconf.zeroconf, TYPE, handlers=[self._changed])

    # -- browsing ----------------------------------------------------------------------------------------

    def _changed(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        from zeroconf import ServiceStateChange
        from zeroconf.asyncio import AsyncServiceInfo

        if self._closed:
            return
        if state_change is ServiceStateChange.Removed:
            self._known.discard(name)
            task = self._resolving.pop(name, None)
            if task is not None:
                task.cancel()
            self._seen(_instance(name), None)
            return
        if name not in self._known and len(self._known) >= MAX_INSTANCES:
            self._problems["many"] = f"more than {MAX_INSTANCES} exo_lab services are announced; the rest is not read."
            return
        self._known.add(name)
        info = AsyncServiceInfo(TYPE, name)
        if info.load_from_cache(zeroconf):
            self._tell(info, name)
        elif name not in self._resolving and len(self._resolving) < MAX_RESOLVING:
            task = asyncio.create_task(self._resolve(info, name), name=f"mdns {name}")
            self._resolving[name] = task
            task.add_done_callback(lambda done: self._resolved(name, done))

    async def _resolve(self, info: AsyncServiceInfo, name: str) -> None:
        if await info.async_request(self._zeroconf.zeroconf, RESOLVE_MS):
            self._tell(info, name)
        else:
            self._known.discard(name)
            self._seen(_instance(name), None)

    def _resolved(self, name: str, task: asyncio.Task[None]) -> None:
        if self._resolving.get(name) is task:
            del self._resolving[name]
        if not task.cancelled() and task.exception() is not None:
            self._problems["resolve"] = f"mDNS cannot read {_instance(name)!r}: {task.exception()}."

    def _tell(self, info: AsyncServiceInfo, name: str) -> None:
        text = {key: value for key, value in info.decoded_properties.items() if value is not None}
        self._seen(_instance(name), text)

    async def close(self) -> None:
        """Say goodbye and free the sockets."""
        if self._closed:
            return
        self._closed = True
        tasks: list[asyncio.Task[None]] = [self._looking, *self._resolving.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._browser.async_cancel()
        await self._zeroconf.async_close()


def _instance(name: str) -> str:
    return name.removesuffix(f".{TYPE}")
