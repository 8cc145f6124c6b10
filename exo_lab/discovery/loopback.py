"""Kernels of one user on one machine find each other with nothing configured: a folder of small private files.

Every node writes `<id>.json` with its control address and process id, and reads the others'. A file whose process has
ended is removed by whoever sees it on that machine: in a home folder that several machines or containers share, each
leaves the others' files alone. Knows no trust: only the user can write in the folder (0700), the cluster's tag keeps
two clusters from trying each other, and the handshake decides in any case.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import psutil
from jupyter_core.paths import jupyter_runtime_dir

from exo_lab.discovery.base import Found
from exo_lab.discovery.host import host_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from exo_lab.core.messages import NodeCard

LOOK_EVERY_S = 0.25
MAX_ENTRY_BYTES = 4096
SOURCE = "loopback registry"


def registry_path() -> Path:
    """The folder: `$EXO_LAB_REGISTRY`, else `exo_lab/nodes` in Jupyter's runtime folder (which is the user's own)."""
    given = os.environ.get("EXO_LAB_REGISTRY")
    return Path(given) if given else Path(jupyter_runtime_dir()) / "exo_lab" / "nodes"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One node's file.

    `started` is the process's start time (seconds since the epoch): process ids are used again. `cluster` is the
    cluster's public tag, and `host` where the process id means something; both are empty in files of older versions.
    """

    id: str
    name: str
    control: str
    pid: int
    started: float
    cluster: str = ""
    host: str = ""

    def is_on(self, host: str) -> bool:
        """May it be reached, and judged by its process, from that `host_id`?"""
        return self.host in ("", host)


def registered(folder: Path | None = None) -> tuple[Entry, ...]:
    """Nodes of this machine whose processes live, by name; changes nothing. For those who want to know and are no node.

    Raises:
        OSError: the folder cannot be read.
    """
    here = host_id()
    found = [_read(path) for path in (folder or registry_path()).glob("*.json")]
    living = (one for one in found if one is not None and one.is_on(here) and _alive(one))
    return tuple(sorted(living, key=lambda one: (one.name, one.id)))


class LoopbackRegistry:
    """See `Discovery`.

    Args:
        folder: where the files are.
        cluster_tag: public name of the cluster; who belongs to another is left alone.
        every_s: how often it looks.
        wait: how it waits between two looks; a test hands in its own.
    """

    name = "loopback"

    def __init__(
        self,
        folder: Path | None = None,
        *,
        cluster_tag: str = "",
        every_s: float = LOOK_EVERY_S,
        wait: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._folder = folder or registry_path()
        self._tag, self._every_s, self._wait = cluster_tag, every_s, wait
        self._problems: tuple[str, ...] = ()
        self._others: dict[str, str] = {}
        self._mine: Path | None = None

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong now."""
        return self._problems

    @property
    def other_clusters(self) -> dict[str, str]:
        """Control addresses of this user's nodes of other clusters on this machine, with their names."""
        return dict(self._others)

    async def watch(self, card: NodeCard) -> AsyncIterator[Sequence[Found]]:
        """Announce the card and yield who else is there, at once and on every change."""
        seen: tuple[Found, ...] | None = None
        told: tuple[str, ...] = ()
        try:
            while True:
                try:
                    self._announce(card)
                    now = self._look(card)
                    self._problems = ()
                except OSError as exc:
                    now = ()
                    self._problems = (
                        f"the loopback registry {self._folder} cannot be used: {exc}. Check who owns it, or set "
                        "EXO_LAB_REGISTRY to one of your own.",
                    )
                if now != seen or self._problems != told:
                    seen, told = now, self._problems
                    yield now
                await self._wait(self._every_s)
        finally:
            await self.close()

    def _announce(self, card: NodeCard) -> None:
        """Write this node's file, if it is not there. A folder that others may enter is closed to them."""
        path = self._folder / f"{card.device.id}.json"
        if self._mine == path and path.exists():
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.name != "nt" and self._folder.stat().st_mode & 0o077:
            self._folder.chmod(0o700)
        entry = Entry(
            id=card.device.id,
            name=card.device.name,
            control=card.control,
            pid=os.getpid(),
            started=psutil.Process().create_time(),
            cluster=self._tag,
            host=card.host,
        )
        # Written aside and renamed, so that nobody reads half a file.
        descriptor, temporary = tempfile.mkstemp(dir=self._folder, prefix=".new-")
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(entry))
        Path(temporary).replace(path)
        self._mine = path

    def _look(self, card: NodeCard) -> tuple[Found, ...]:
        found: list[Found] = []
        others: dict[str, str] = {}
        for path in sorted(self._folder.glob("*.json")):
            if path.stem == card.device.id:
                continue
            entry = _read(path)
            if entry is not None and not entry.is_on(card.host):
                continue
            if entry is None or not _alive(entry):
                path.unlink(missing_ok=True)
                continue
            if entry.cluster not in ("", self._tag):
                others[entry.control] = entry.name
                continue
            found.append(
                Found(
                    address=entry.control,
                    source=SOURCE,
                    name=entry.name,
                    device_id=entry.id,
                    interface="lo",
                    kind="loopback",
                )
            )
        self._others = others
        return tuple(found)

    async def close(self) -> None:
        """Remove this node's file. Idempotent."""
        if self._mine is not None:
            self._mine.unlink(missing_ok=True)
            self._mine = None


def _read(path: Path) -> Entry | None:
    """The entry in a file; None if it holds none (it is left over from another version, or cut off)."""
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(MAX_ENTRY_BYTES), type=Entry)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def _alive(entry: Entry) -> bool:
    try:
        process = psutil.Process(entry.pid)
        return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - entry.started) < 2.0
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
