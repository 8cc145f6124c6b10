"""Services in one process: the twin of `services` for tests and for trying things out. No sockets.

Everybody whose network holds one of a service's addresses sees it. A host can be cut off; its services are then gone.
"""

from __future__ import annotations

import asyncio
import ipaddress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exo_lab.discovery.services import Seen, Service


class MemoryServices:
    """See `services.Services`. Give the same one to every node that shall be on this network.

    `fails` is raised by the next `open`, once. `prefix` is that of every interface.
    """

    def __init__(self, prefix: int = 24) -> None:
        self.ports: list[MemoryServicesPort] = []
        self.prefix = prefix
        self.fails: OSError | None = None

    async def open(self, addresses: Sequence[str], seen: Seen) -> MemoryServicesPort:
        """Take part, and see what is there already."""
        if self.fails is not None:
            failure, self.fails = self.fails, None
            raise failure
        made = MemoryServicesPort(self, tuple(addresses), seen)
        self.ports.append(made)
        for port in self.ports:
            for service in port.services:
                self.tell(made, service, gone=False)
        return made

    def tell(self, port: MemoryServicesPort, service: Service, *, gone: bool) -> None:
        """Report a service to one port if it is in its network."""
        networks = [ipaddress.ip_network(f"{one}/{self.prefix}", strict=False) for one in port.addresses]
        if any(ipaddress.ip_address(one) in network for one in service.addresses for network in networks):
            text = None if gone else service.text
            asyncio.get_running_loop().call_soon(port.take, service.instance, text)


class MemoryServicesPort:
    """See `services.ServicesPort`."""

    def __init__(self, net: MemoryServices, addresses: tuple[str, ...], seen: Seen) -> None:
        self._net, self.addresses, self._seen = net, addresses, seen
        self.services: list[Service] = []
        self.problems: tuple[str, ...] = ()

    async def register(self, service: Service) -> None:
        """Everybody near sees it."""
        self.services.append(service)
        for port in self._net.ports:
            self._net.tell(port, service, gone=False)

    def take(self, instance: str, text: Mapping[str, str] | None) -> None:
        """Something is seen."""
        if self in self._net.ports:
            self._seen(instance, text)

    async def close(self) -> None:
        """Everything that was announced here is gone. Idempotent."""
        if self in self._net.ports:
            self._net.ports.remove(self)
        services, self.services = self.services, []
        for service in services:
            for port in self._net.ports:
                self._net.tell(port, service, gone=True)
