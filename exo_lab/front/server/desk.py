"""What the routes share: where the peers file is, errands, and who watches.

One task looks for everybody who watches; it lives as long as there is somebody.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from exo_lab.front.server import looking
from exo_lab.front.server.errands import Errands

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PEERS_NAME = "peers.toml"
LOOK_EVERY_S = 2.0
LOOK_TIMEOUT_S = 10.0

log = logging.getLogger(__name__)


class ServerDesk:
    """One a server.

    Args:
        root: the server's root folder, where a `peers.toml` is looked for.
        peers: the peers file that the configuration names; empty for none.
    """

    def __init__(self, root: str | Path = ".", peers: str = "") -> None:
        self._root, self._peers = Path(root), peers
        self.errands = Errands()
        self.watch = Watch(lambda: self.errands.run("facts", lambda: looking.facts(self.peers()), LOOK_TIMEOUT_S))

    def peers(self) -> Path | None:
        """The peers file: the configured one, whether it is there or not; else the root folder's, if there is one."""
        if self._peers:
            return Path(self._peers).expanduser()
        usual = self._root / PEERS_NAME
        return usual if usual.is_file() else None


class Watch:
    """Tells everybody who listens what is new. Used on one event loop only.

    Args:
        look: finds out how things are.
        wait: between two looks; a test hands in its own.
    """

    def __init__(
        self,
        look: Callable[[], Awaitable[msgspec.Struct]],
        wait: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._look, self._wait = look, wait
        self._listeners: list[Callable[[str], None]] = []
        self._said = ""
        self._task: asyncio.Task[None] | None = None

    def add(self, listener: Callable[[str], None]) -> None:
        """Listen: what is known at once, then what changes."""
        self._listeners.append(listener)
        if self._said:
            listener(self._said)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    def discard(self, listener: Callable[[str], None]) -> None:
        """Listen no more. With the last one the looking ends."""
        if listener in self._listeners:
            self._listeners.remove(listener)
        if not self._listeners and self._task is not None:
            self._task.cancel()
            self._task, self._said = None, ""

    async def _run(self) -> None:
        while True:
            try:
                said = msgspec.json.encode(await self._look()).decode()
            except Exception as exc:  # or nobody who watches would ever hear again
                log.warning("what this machine knows could not be looked at, and will be again: %r", exc)
            else:
                if said != self._said:
                    self._said = said
                    self._tell()
            await self._wait(LOOK_EVERY_S)

    def _tell(self) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(self._said)
            except Exception as exc:
                log.warning("somebody who watched could not be told and is dropped: %s", exc)
                self.discard(listener)
