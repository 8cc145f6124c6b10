"""Both kinds of network behind one face, so that every promise of the ports is checked on each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from exo_lab.transport.keys import new_token
from exo_lab.transport.memory import MemoryNetwork
from exo_lab.transport.secure import SecureContext

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exo_lab.transport.base import ControlPort, DataPort


class SocketNetwork:
    """Every port is a node of its own: its own context and doorkeeper, one token."""

    kind = "sockets"

    def __init__(self) -> None:
        self.token = new_token()
        self.contexts: list[SecureContext] = []
        self.datas: list[DataPort] = []

    def context(self, token: str = "") -> SecureContext:
        self.contexts.append(SecureContext(token or self.token))
        return self.contexts[-1]

    def control(self, name: str) -> ControlPort:
        return self.context().control(name=name)

    def data(self, name: str, **options: Any) -> DataPort:
        self.datas.append(self.context().data(**options))
        return self.datas[-1]

    def close(self) -> None:
        for port in self.datas:
            port.close()
        assert all(context.close() for context in self.contexts)


class MemoryTwin(MemoryNetwork):
    kind = "memory"

    def close(self) -> None:
        pass


@pytest.fixture(params=[SocketNetwork, MemoryTwin])
def network(request: pytest.FixtureRequest) -> Iterator[SocketNetwork | MemoryTwin]:
    made = request.param()
    yield made
    made.close()


@pytest.fixture
def sockets() -> Iterator[SocketNetwork]:
    made = SocketNetwork()
    yield made
    made.close()
