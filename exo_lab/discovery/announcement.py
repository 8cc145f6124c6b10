"""What a node says to everybody: one small signed datagram. Carries no secret; proves who wrote it, and that it may.

A datagram is `MAGIC`, a 16-byte proof, a 64-byte Ed25519 signature, and a msgpack array; both cover the
bytes of the array as they travel. The proof is HMAC-SHA256 (RFC 2104, cut to half) with a key that is derived from the
cluster's token: who knows only the public tag is not listened to. Whether a member really is there, the control port's
handshake decides.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from typing import Literal, NamedTuple, Protocol

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from exo_lab.core.device import device_id

MAGIC = b"exo-lab\x02"  # the last byte is the version of the datagram
PROOF_BYTES = 16
SIGNATURE_BYTES = 64
MAX_DATAGRAM_BYTES = 1200  # fits every link's MTU (IPv6 promises 1280), so that nothing is fragmented
MAX_NAME_CHARACTERS = 64
MAX_CONTROLS = 16

_PURPOSE = b"exo_lab announcement 2\0"  # so that no other signed bytes can pass for an announcement
_ENDPOINT = re.compile(r"tcp://(\[[0-9A-Fa-f:]{2,45}\]|[0-9.]{7,15}):(\d{1,5})")

Reason = Literal[
    "too large", "not an announcement", "another datagram version", "malformed", "forged", "another cluster",
    "another protocol", "same identity", "repeated", "too often", "too many nodes",
]  # fmt: skip


class Signer(Protocol):
    """A node's identity, as far as discovery needs it."""

    @property
    def device_id(self) -> str:
        """The id that belongs to the public key."""
        ...

    @property
    def public_key(self) -> bytes:
        """32 bytes, Ed25519."""
        ...

    def sign(self, data: bytes) -> bytes:
        """The Ed25519 signature, 64 bytes."""
        ...


class Announcement(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Who is where. `controls` are all control endpoints; the first is the one on the link that this goes out on.

    `run` is a random number for the life of the process, `version` the card's, and `sequence` rises with every
    datagram of a run: what is not newer than what was heard is a repetition. `leaving` says goodbye.
    """

    tag: str
    device_id: str
    name: str
    controls: tuple[str, ...]
    public_key: bytes
    protocol: int
    version: int
    run: int
    sequence: int
    leaving: bool = False


class Sealed(NamedTuple):
    """An announcement that was read and whose proof and signature were not checked yet."""

    announcement: Announcement
    proof: bytes
    signature: bytes
    body: bytes


class Refused(NamedTuple):
    """Why a datagram is not used. `detail` is for the log."""

    reason: Reason
    detail: str = ""


def seal(announcement: Announcement, signer: Signer, cluster_key: bytes) -> bytes:
    """The signed datagram, with the proof that its writer has the cluster's key."""
    body = msgspec.msgpack.encode(announcement)
    return MAGIC + _proof(body, cluster_key) + signer.sign(_PURPOSE + body) + body


def read(data: bytes) -> Sealed | Refused:
    """What a datagram says, its form checked and nothing believed."""
    if len(data) > MAX_DATAGRAM_BYTES:
        return Refused("too large", f"{len(data)} bytes")
    if not data.startswith(MAGIC[:-1]):
        return Refused("not an announcement")
    if not data.startswith(MAGIC):
        return Refused("another datagram version", f"{data[len(MAGIC) - 1 : len(MAGIC)].hex()}, ours is {MAGIC[-1]}")
    rest = data[len(MAGIC) :]
    proof, rest = rest[:PROOF_BYTES], rest[PROOF_BYTES:]
    signature, body = rest[:SIGNATURE_BYTES], rest[SIGNATURE_BYTES:]
    try:
        said = msgspec.msgpack.decode(body, type=Announcement)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        return Refused("malformed", str(exc))
    if not 0 < len(said.controls) <= MAX_CONTROLS or not all(is_endpoint(one) for one in said.controls):
        return Refused("malformed", "its control addresses")
    if min(said.version, said.run, said.sequence) < 0 or not _is_plain(said.name, said.device_id, said.tag):
        return Refused("malformed", "its numbers or names")
    return Sealed(said, proof, signature, body)


def check_member(sealed: Sealed, cluster_key: bytes) -> Refused | None:
    """None if somebody with the cluster's key wrote it. Cheaper than checking the signature."""
    if hmac.compare_digest(sealed.proof, _proof(sealed.body, cluster_key)):
        return None
    return Refused("forged", f"{sealed.announcement.name} names this cluster and has not its token")


def check(sealed: Sealed) -> Refused | None:
    """None if the owner of the id wrote it."""
    said = sealed.announcement
    if device_id(said.public_key) != said.device_id:
        return Refused("forged", f"the id {said.device_id} does not belong to its key")
    try:
        Ed25519PublicKey.from_public_bytes(said.public_key).verify(sealed.signature, _PURPOSE + sealed.body)
    except (InvalidSignature, ValueError):
        return Refused("forged", f"not signed by {said.device_id}")
    return None


def _proof(body: bytes, cluster_key: bytes) -> bytes:
    return hmac.digest(cluster_key, _PURPOSE + body, "sha256")[:PROOF_BYTES]


def is_endpoint(text: str) -> bool:
    """Is it `tcp://address:port` with an address that another machine can have? Names are not looked up."""
    match = _ENDPOINT.fullmatch(text)
    if match is None or not 0 < int(match[2]) < 65536:
        return False
    try:
        address = ipaddress.ip_address(match[1].strip("[]"))
    except ValueError:
        return False
    return not (address.is_unspecified or address.is_multicast or address.is_loopback)


def endpoint(address: str, port: int) -> str:
    """`tcp://address:port`, IPv6 in brackets."""
    bare = address.strip("[]")
    return f"tcp://[{bare}]:{port}" if ":" in bare else f"tcp://{bare}:{port}"


def host_of(control: str) -> str:
    """The host of `tcp://host:port`, without brackets; empty if it is not of that form."""
    return control.removeprefix("tcp://").rpartition(":")[0].strip("[]")


def port_of(control: str) -> int:
    """The port of `tcp://host:port`; 0 if there is none."""
    port = control.rpartition(":")[2]
    return int(port) if port.isdigit() else 0


def printable(name: str) -> str:
    """A name as it may be announced."""
    return "".join(char for char in name if char.isprintable())[:MAX_NAME_CHARACTERS]


def _is_plain(*texts: str) -> bool:
    return all(len(text) <= MAX_NAME_CHARACTERS and (text == "" or text.isprintable()) for text in texts)
