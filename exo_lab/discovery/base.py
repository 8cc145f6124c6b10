"""What every discovery is: a stream of guesses at who else is there. Knows no trust.

A discovery only says "somebody may listen at this address". Whether that is a member of the cluster is found out by
the control port's handshake and the signed card that comes back; a wrong guess costs one refused connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from exo_lab.core.topology import LinkKind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from exo_lab.core.messages import NodeCard


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One sighting. `address` is a control endpoint, `tcp://host:port`.

    `source` is how it was found, for people ("loopback registry", "peers.toml line 3", "mDNS on eth0"). `device_id` is
    what the sighting claims, empty if it says nothing. `interface` is the local interface it was seen on.
    """

    address: str
    source: str
    name: str = ""
    device_id: str = ""
    interface: str = ""
    kind: LinkKind = "unknown"


class Discovery(Protocol):
    """Looks for other nodes and, where the method allows it, lets itself be found."""

    @property
    def name(self) -> str:
        """A word for status lines: "loopback", "manual", "mdns"."""
        ...

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong now, as sentences that say what to do. Empty when all is well."""
        ...

    def watch(self, card: NodeCard) -> AsyncIterator[Sequence[Found]]:
        """Announce `card` and yield the whole list of what is seen, at once and whenever it may have changed.

        Never ends by itself; closing the iterator (or cancelling the task that reads it) withdraws the announcement
        and frees what was opened. Bad input from the network or a file is counted in `problems`, never raised.
        """
        ...

    async def close(self) -> None:
        """Withdraw the announcement. Idempotent."""
        ...
