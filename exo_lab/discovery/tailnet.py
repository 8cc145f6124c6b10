"""What the Tailscale of this machine says: asked over its local API's socket, or by its command. Reads, never changes.

The answer's form is `ipnstate.Status` of tailscale.com (`tailscale status --json` prints the same); only what is needed
is read, and what is missing counts as unknown.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Coroutine

ASK_TIMEOUT_S = 5.0
MAX_ANSWER_BYTES = 8 << 20
MAX_PEERS = 256
SOCKETS = {
    "linux": ("/var/run/tailscale/tailscaled.sock", "/run/tailscale/tailscaled.sock"),
    "darwin": ("/var/run/tailscaled.socket",),
}
# The app of macOS and the installer of Windows do not put the command on the PATH.
COMMANDS = {
    "darwin": "/Applications/Tailscale.app/Contents/MacOS/Tailscale",
    "win32": r"C:\Program Files\Tailscale\tailscale.exe",
}


class TailPeer(msgspec.Struct, frozen=True, kw_only=True):
    """Another machine of the tailnet. `how` is the path to it: "direct", "relayed by fra", or empty if idle."""

    name: str
    address: str
    online: bool = False
    how: str = ""


class TailStatus(msgspec.Struct, frozen=True, kw_only=True):
    """`state` is Tailscale's own word: Running, Stopped, NeedsLogin, Starting, NoState."""

    state: str
    address: str = ""
    name: str = ""
    peers: tuple[TailPeer, ...] = ()
    health: tuple[str, ...] = ()


class _Machine(msgspec.Struct, frozen=True, rename="pascal"):
    host_name: str = ""
    online: bool = False
    addresses: tuple[str, ...] | None = msgspec.field(default=None, name="TailscaleIPs")
    cur_addr: str = ""
    relay: str = ""
    active: bool = False
    sharee_node: bool = False

    @property
    def address(self) -> str:
        """The IPv4 address, else the IPv6 one."""
        return min(self.addresses or ("",), key=lambda one: (":" in one, one))


class _Status(msgspec.Struct, frozen=True, rename="pascal"):
    backend_state: str
    this: _Machine | None = msgspec.field(default=None, name="Self")
    peer: dict[str, _Machine] | None = None
    health: tuple[str, ...] | None = None


class NoTailscale(NamedTuple):
    """There is none here, or it does not answer; `why` is a sentence that says what to do.

    `is_absent` means that nothing of it was found, which is no fault.
    """

    why: str
    is_absent: bool


def parse_status(text: bytes) -> TailStatus | NoTailscale:
    """What a status says. Machines without an address, and those that only share something, are left out."""
    try:
        status = msgspec.json.decode(text, type=_Status)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        return NoTailscale(f"Tailscale's answer cannot be read: {exc}. Update Tailscale, or use a peers file.", False)
    this = status.this or _Machine()
    machines = sorted((status.peer or {}).values(), key=lambda one: (one.host_name, one.address))
    return TailStatus(
        state=status.backend_state,
        address=this.address,
        name=this.host_name,
        health=status.health or (),
        peers=tuple(
            TailPeer(name=one.host_name[:64], address=one.address, online=one.online, how=_how(one))
            for one in machines
            if one.address and not one.sharee_node
        )[:MAX_PEERS],
    )


def _how(one: _Machine) -> str:
    if one.cur_addr:
        return "direct"
    return f"relayed by {one.relay}" if one.relay and one.active else ""


class Tailscale:
    """Asks. The local API's socket first, which costs a millisecond, then the command.

    Args:
        sockets: paths of the local API's socket; those of this system if None.
        command: the command; found on the PATH if None.
        timeout_s: the longest wait for one answer.
    """

    def __init__(
        self,
        sockets: tuple[Path, ...] | None = None,
        command: str | None = None,
        timeout_s: float = ASK_TIMEOUT_S,
    ) -> None:
        default = SOCKETS.get("linux" if sys.platform.startswith("linux") else sys.platform, ())
        self._sockets = tuple(map(Path, default)) if sockets is None else sockets
        self._command, self._timeout_s = command, timeout_s

    async def status(self) -> TailStatus | NoTailscale:
        """The status now. Never raises but for cancellation, which ends the command too."""
        failure = NoTailscale(
            "Tailscale is not installed here (no socket and no command). Install it, or leave 'tailscale' out of the "
            "discoveries.",
            is_absent=True,
        )
        for path in self._sockets:
            if not path.exists():
                continue
            answer = await self._ask(_over_socket(path), f"its socket {path}")
            if isinstance(answer, bytes):
                return parse_status(answer)
            failure = answer
        command = shutil.which(self._command or "tailscale") or shutil.which(COMMANDS.get(sys.platform, ""))
        if command:
            answer = await self._ask(_by_command(command), f"`{command} status --json`")
            if isinstance(answer, bytes):
                return parse_status(answer)
            failure = answer
        return failure

    async def _ask(self, asking: Coroutine[Any, Any, bytes], what: str) -> bytes | NoTailscale:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asking
        except TimeoutError:
            said = f"no answer within {self._timeout_s:g} s"
        except (OSError, EOFError, ValueError) as exc:
            said = str(exc) or type(exc).__name__
        return NoTailscale(
            f"Tailscale does not answer over {what}: {said}. Is tailscaled running, and may this user ask it?", False
        )


async def _over_socket(path: Path) -> bytes:
    """GET /localapi/v0/status. ValueError if it is refused."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        # The host name is the one that tailscaled insists on; HTTP/1.0, so that the answer ends with the connection.
        writer.write(b"GET /localapi/v0/status HTTP/1.0\r\nHost: local-tailscaled.sock\r\n\r\n")
        await writer.drain()
        answer = await _all(reader)
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b"\r\n", 1)[0].decode(errors="replace")
    if " 200" not in status[:13]:
        raise ValueError(f"it said {status[:80]!r} {body[:80].decode(errors='replace')!r}")
    return body


async def _by_command(command: str) -> bytes:
    """Run `tailscale status --json`. ValueError if it fails."""
    process = await asyncio.create_subprocess_exec(
        command,
        "status",
        "--json",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # a notebook's Interrupt goes to the whole process group
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        answer, complaint = await asyncio.gather(_all(process.stdout), _all(process.stderr))
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    # A stopped Tailscale exits with 1 and still says so in JSON.
    if code and not answer.lstrip().startswith(b"{"):
        raise ValueError(f"exit code {code}, {complaint[:200].decode(errors='replace').strip()!r}")
    return answer


async def _all(reader: asyncio.StreamReader) -> bytes:
    """Everything up to the end. ValueError if it is too much."""
    parts: list[bytes] = []
    size = 0
    while part := await reader.read(1 << 16):
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            raise ValueError(f"more than {MAX_ANSWER_BYTES >> 20} MiB")
        parts.append(part)
    return b"".join(parts)
