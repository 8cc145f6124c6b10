"""Peers from a file that the user writes, read again whenever it changes. Every mistake is named with line and field.

The file is TOML, one table a peer:

    [peers.gpu-box]
    address = "192.168.1.20"     # host, or tcp://host:port
    port = 52415                 # control port, as printed by `exo-lab node` on that machine
    kind = "ethernet"            # optional: what the link is

EXO's JSON form (`{"peers": {"id": {"address": ..., "port": ...}}}`) is read too. A file with mistakes keeps the peers
that are right: losing all of them for one typing error would lose the cluster. Hosts may be names (`names`).
"""

from __future__ import annotations

import asyncio
import json
import re
import tomllib
from typing import TYPE_CHECKING, NamedTuple, cast, get_args

from exo_lab.core.errors import ConfigError
from exo_lab.core.topology import LinkKind
from exo_lab.discovery.base import Found
from exo_lab.discovery.names import Names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from exo_lab.core.messages import NodeCard

LOOK_EVERY_S = 1.0
GREET_EVERY_S = 2.0
MAX_FILE_BYTES = 1 << 20
KINDS: tuple[str, ...] = get_args(LinkKind)
_ENDPOINT = re.compile(r"tcp://(\[[0-9A-Fa-f:.%\w]+\]|[A-Za-z0-9._-]+):(\d{1,5})")
_HOST = re.compile(r"\[?[0-9A-Fa-f:.%\w]+\]?|[A-Za-z0-9._-]+")
_FIELDS = ("address", "port", "kind", "device_capabilities")  # the last one is EXO's; we ask the device itself


class PeersFile(NamedTuple):
    """What a peers file says. `mistakes` are sentences, each with the file, the line and the field."""

    found: tuple[Found, ...]
    mistakes: tuple[str, ...]


def parse_peers(text: str, name: str) -> PeersFile:
    """The peers in a file's text.

    Args:
        text: TOML, or JSON if it begins with a brace.
        name: of the file, for messages.

    Raises:
        ConfigError: not TOML or JSON at all; says the line.
    """
    is_json = text.lstrip().startswith("{")
    try:
        data: object = json.loads(text) if is_json else tomllib.loads(text)
    except (json.JSONDecodeError, tomllib.TOMLDecodeError) as exc:
        said = str(exc).replace("end of document", f"line {len(text.splitlines())}, the end of the document")
        raise ConfigError(f"{name}: not readable as {'JSON' if is_json else 'TOML'}: {said}") from exc
    found: list[Found] = []
    table = cast("Mapping[str, object]", data)
    mistakes = [
        f"{name}, line {_line(text, key)}: unknown field {key!r}; the file holds [peers.NAME] tables"
        for key in table
        if key != "peers"
    ]
    peers = table.get("peers", {})
    if not isinstance(peers, dict):
        return PeersFile((), (*mistakes, f"{name}, line {_line(text, 'peers')}: peers must be tables, [peers.NAME]"))
    for peer, fields in cast("dict[str, object]", peers).items():
        one = _peer(peer, fields, text, name, mistakes)
        if one is not None:
            found.append(one)
    return PeersFile(tuple(found), tuple(mistakes))


def _peer(peer: str, fields: object, text: str, name: str, mistakes: list[str]) -> Found | None:
    before = len(mistakes)

    def mistake(field: str, said: str) -> None:
        mistakes.append(f"{name}, line {_line(text, field, peer)}: peer {peer!r}, field {field!r}: {said}")

    if not isinstance(fields, dict):
        mistakes.append(f"{name}, line {_line(text, peer)}: peer {peer!r} must be a table with address and port")
        return None
    values = cast("dict[str, object]", fields)
    for field in values:
        if field not in _FIELDS:
            mistake(field, f"unknown; known are {', '.join(_FIELDS[:3])}")
    address, port, kind = values.get("address"), values.get("port"), values.get("kind", "unknown")
    endpoint = ""
    if not isinstance(address, str) or not address:
        mistake("address", f'must be a host such as "192.168.1.20", got {address!r}')
    elif "://" in address:
        match = _ENDPOINT.fullmatch(address)
        if match is None or not 0 < int(match[2]) < 65536:
            mistake("address", f"must be a host or tcp://host:port, got {address!r}")
        endpoint = address
    elif _HOST.fullmatch(address) is None:
        mistake("address", f"is not a host name or an IP address: {address!r}")
    elif not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536:
        mistake("port", f"must be a number from 1 to 65535 (printed by `exo-lab node` there), got {port!r}")
    else:
        host = f"[{address}]" if ":" in address and not address.startswith("[") else address
        endpoint = f"tcp://{host}:{port}"
    if not isinstance(kind, str) or kind not in KINDS:
        mistake("kind", f"must be one of {', '.join(KINDS)}, got {kind!r}")
    if len(mistakes) > before:
        return None
    return Found(address=endpoint, source=f"{name}, peer {peer!r}", name=peer, kind=cast("LinkKind", kind))


def _line(text: str, field: str, peer: str = "") -> int:
    """The line (from 1) where a field is written, below its peer if one is given; the peer's own line else."""
    lines = text.splitlines()
    start = 0
    if peer:
        # The peer's header: [peers.NAME], peers.NAME = or "NAME": in JSON.
        header = re.compile(
            rf"""(\[\s*peers\s*\.\s*["']?{re.escape(peer)}["']?\s*\]|["']?\b{re.escape(peer)}["']?\s*[:=])"""
        )
        start = next((i for i, line in enumerate(lines) if header.search(line)), 0)
    pattern = re.compile(rf"""["']?\b{re.escape(field)}\b["']?\s*[:=\]]""")
    for i in range(start, len(lines)):
        if peer and i > start and lines[i].lstrip().startswith("["):
            break
        if pattern.search(lines[i]):
            return i + 1
    return start + 1


class ManualPeers:
    """See `Discovery`. It only reads: this node is not announced by it.

    Args:
        path: the file.
        every_s: how often it looks whether the file has changed.
        wait: how it waits between two looks; a test hands in its own.
        names: looks names up.
    """

    name = "manual"

    def __init__(
        self,
        path: Path,
        *,
        every_s: float = LOOK_EVERY_S,
        wait: Callable[[float], Awaitable[object]] = asyncio.sleep,
        names: Names | None = None,
    ) -> None:
        self.path = path
        self._every_s, self._wait, self._names = every_s, wait, names or Names()
        self._mistakes: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """The mistakes in the file, and the names in it that are not found."""
        return (*self._mistakes, *self._names.problems)

    async def watch(self, card: NodeCard) -> AsyncIterator[Sequence[Found]]:
        """Yield the file's peers at once and whenever they change. A peer that is this node itself is left out."""
        text: str | None = None
        peers: tuple[Found, ...] = ()
        seen: tuple[Found, ...] | None = None
        told: tuple[str, ...] = ()
        try:
            while True:
                try:
                    now_text = self._read()
                except (OSError, UnicodeDecodeError) as exc:
                    now_text, peers = None, ()
                    self._mistakes = (f"{self.path} cannot be read: {exc}. Write one [peers.NAME] table a peer there.",)
                else:
                    if now_text != text:
                        peers = self._parse(now_text, peers)
                text = now_text
                now = tuple(one for one in await self._names.resolve(peers) if one.address != card.control)
                if now != seen or self.problems != told:
                    seen, told = now, self.problems
                    yield now
                await self._wait(self._every_s)
        finally:
            await self.close()

    def _read(self) -> str:
        with self.path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        if len(raw) > MAX_FILE_BYTES:
            raise OSError(f"larger than {MAX_FILE_BYTES} bytes")
        return raw.decode()

    def _parse(self, text: str, before: tuple[Found, ...]) -> tuple[Found, ...]:
        try:
            peers = parse_peers(text, self.path.name)
        except ConfigError as exc:
            # Half-written, most likely: what was known stays until the file can be read again.
            self._mistakes = (str(exc),)
            return before
        self._mistakes = peers.mistakes
        return peers.found

    async def close(self) -> None:
        """End what is being looked up. Idempotent."""
        await self._names.close()


class GivenPeers:
    """See `Discovery`. Addresses that are known when the node starts; the names in them are looked up now and then.

    Args:
        addresses: control endpoints, `tcp://host:port`.
        wait: how it waits for ever; a test hands in its own.
        names: looks names up.
    """

    name = "given"

    def __init__(
        self,
        addresses: Sequence[str],
        wait: Callable[[float], Awaitable[object]] = asyncio.sleep,
        names: Names | None = None,
    ) -> None:
        self._given = tuple(Found(address=one, source="given at start") for one in addresses)
        self._wait, self._names = wait, names or Names()

    @property
    def problems(self) -> tuple[str, ...]:
        """The names that are not found."""
        return self._names.problems

    async def watch(self, card: NodeCard) -> AsyncIterator[Sequence[Found]]:
        """Yield the addresses, now and every few seconds, so that a peer that was not up yet is greeted again."""
        try:
            while True:
                yield tuple(one for one in await self._names.resolve(self._given) if one.address != card.control)
                await self._wait(GREET_EVERY_S)
        finally:
            await self.close()

    async def close(self) -> None:
        """End what is being looked up. Idempotent."""
        await self._names.close()
