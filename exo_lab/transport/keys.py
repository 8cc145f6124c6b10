"""The cluster's secret and a node's identity: made, kept, and turned into keys. Opens no network connection.

Who holds the token is in the cluster. From it HKDF-SHA256 (RFC 5869) derives two Curve25519 key pairs, one for the
listening end of every socket and one for the connecting end; the identity is a separate Ed25519 key per node.
"""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import Any

import msgspec
import zmq
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from jupyter_core.paths import jupyter_data_dir
from zmq.utils import z85

from exo_lab.core.device import device_id
from exo_lab.core.errors import ConfigError, FrameError
from exo_lab.core.messages import NodeCard
from exo_lab.transport.private_file import load_or_create_private

TOKEN_VARIABLE = "EXO_LAB_TOKEN"
MIN_TOKEN_CHARACTERS = 32
MIN_DIFFERENT_CHARACTERS = 8  # random hex of 32 has 13.9 on average; "aaaa..." and "changeme..." have fewer
ZAP_DOMAIN = b"exo_lab"

_SALT = b"exo_lab cluster keys 1"
_CARD = b"exo_lab node card 1\0"  # so that no other signed bytes can pass for a card


# -- the token ---------------------------------------------------------------------------------------------


def token_path() -> Path:
    """Where the token is kept: `exo_lab/token` in Jupyter's data folder."""
    return Path(jupyter_data_dir()) / "exo_lab" / "token"


def new_token() -> str:
    """A fresh secret: 256 random bits, URL-safe base64."""
    return secrets.token_urlsafe(32)


def check_token(token: str, source: str = "the token") -> str:
    """The token without surrounding white space.

    Raises:
        ConfigError: too short, foreign characters, or nearly all the same character. The text never holds the token.
    """
    token = token.strip()
    remedy = "Make one with `exo-lab token --new` and give it to every node."
    if len(token) < MIN_TOKEN_CHARACTERS:
        raise ConfigError(f"{source} has {len(token)} characters; at least {MIN_TOKEN_CHARACTERS} are needed. {remedy}")
    if re.fullmatch(r"[A-Za-z0-9_-]+={0,2}", token) is None:
        raise ConfigError(f"{source} must be hexadecimal or URL-safe base64 (A-Z a-z 0-9 - _). {remedy}")
    if len(set(token)) < MIN_DIFFERENT_CHARACTERS:
        raise ConfigError(f"{source} uses only {len(set(token))} different characters, so it can be guessed. {remedy}")
    return token


def load_or_create_token(path: Path | None = None) -> str:
    """The cluster's secret. Without `path`: `EXO_LAB_TOKEN` if set, else the file at `token_path()`.

    A missing file is made, readable by its owner only; of two processes that make it at once, one wins and both
    return its token. A file that others can read is closed to them, with a warning.

    Raises:
        ConfigError: the token is weak, or the file cannot be read, written or closed to others.
    """
    if path is None:
        given = os.environ.get(TOKEN_VARIABLE)
        if given is not None:
            return check_token(given, TOKEN_VARIABLE)
        path = token_path()
    return check_token(load_or_create_private(path, new_token), f"the token in {path}")


class ClusterKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The key pairs that a token gives, in ZeroMQ's Z85 text form (40 characters each). Never printed."""

    server_public: bytes
    server_secret: bytes
    client_public: bytes
    client_secret: bytes

    @classmethod
    def from_token(cls, token: str) -> ClusterKeys:
        """Derive the pairs. ConfigError if the token is weak."""
        secret = check_token(token).encode()
        server, client = _derive(secret, b"server"), _derive(secret, b"client")
        return cls(
            server_public=zmq.curve_public(server),
            server_secret=server,
            client_public=zmq.curve_public(client),
            client_secret=client,
        )

    def apply_server(self, socket: zmq.Socket[Any]) -> None:
        """Make a socket that binds admit only holders of the token. Before `bind`.

        Enforcing the domain makes it fail closed: without a ZAP handler nobody gets in.
        """
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self.server_public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.server_secret)
        socket.setsockopt(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def apply_client(self, socket: zmq.Socket[Any]) -> None:
        """Make a socket that connects speak only to holders of the token. Before `connect`."""
        socket.setsockopt(zmq.CURVE_SERVERKEY, self.server_public)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self.client_public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.client_secret)

    def __repr__(self) -> str:
        return "ClusterKeys(...)"


def _derive(secret: bytes, end: bytes) -> bytes:
    return z85.encode(HKDF(algorithm=hashes.SHA256(), length=32, salt=_SALT, info=end).derive(secret))


def cluster_tag(token: str) -> str:
    """A short public name of the cluster: 16 hexadecimal digits that do not give the token away.

    Announcements carry it, so that nodes of two clusters on one network do not even try each other. It proves nothing.

    Raises:
        ConfigError: the token is weak: a guessable one could be found from its tag.
    """
    secret = check_token(token).encode()
    return HKDF(algorithm=hashes.SHA256(), length=8, salt=_SALT, info=b"discovery tag").derive(secret).hex()


def announcement_key(token: str) -> bytes:
    """What members prove with, in announcements, that they hold the token: 32 secret bytes. ConfigError as above."""
    secret = check_token(token).encode()
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=_SALT, info=b"announcement").derive(secret)


# -- the identity ------------------------------------------------------------------------------------------


class Identity:
    """A node's own Ed25519 key. Make one with `create` or `load_or_create`."""

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        self._private = private_key
        self.public_key = private_key.public_key().public_bytes_raw()
        self.device_id = device_id(self.public_key)

    @classmethod
    def create(cls) -> Identity:
        """A fresh identity, kept nowhere."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load_or_create(cls, path: Path) -> Identity:
        """The identity in a file, made if missing. ConfigError if the file is not one, or cannot be kept private."""
        text = load_or_create_private(path, lambda: Ed25519PrivateKey.generate().private_bytes_raw().hex()).strip()
        try:
            return cls(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(text)))
        except ValueError as exc:
            raise ConfigError(
                f"{path} holds no node identity (64 hexadecimal digits). Delete it to make anew."
            ) from exc

    def sign(self, data: bytes) -> bytes:
        """The signature of some bytes, 64 of them. What is signed must begin with what it is meant for."""
        return self._private.sign(data)

    def sign_card(self, card: NodeCard) -> NodeCard:
        """The card with this identity's public key and signature.

        Raises:
            ConfigError: the card's device id is not this identity's.
        """
        if card.device.id != self.device_id:
            raise ConfigError(f"the card is for device {card.device.id!r}, the identity is of {self.device_id}")
        # Through the codec once: an int in a float field would be signed as another text than the one that arrives.
        card = msgspec.msgpack.decode(msgspec.msgpack.encode(card), type=NodeCard)
        card = msgspec.structs.replace(card, public_key=self.public_key, signature=b"")
        return msgspec.structs.replace(card, signature=self.sign(_signed_bytes(card)))

    @staticmethod
    def verify_card(card: NodeCard) -> None:
        """See the function of the same name."""
        verify_card(card)


def verify_card(card: NodeCard) -> None:
    """Check that a card was written by the owner of its key, and that its id belongs to that key.

    Raises:
        FrameError: the id is not the key's, or the signature is wrong.
    """
    who = f"the card of {card.device.name[:64]!r} ({card.device.id[:64]})"
    if device_id(card.public_key) != card.device.id:
        raise FrameError(f"{who} has an id that does not belong to its key ({device_id(card.public_key)})")
    try:
        key = Ed25519PublicKey.from_public_bytes(card.public_key)
        key.verify(card.signature, _signed_bytes(msgspec.structs.replace(card, signature=b"")))
    except (InvalidSignature, ValueError) as exc:
        raise FrameError(f"{who} is not signed by the owner of its key") from exc


def _signed_bytes(card: NodeCard) -> bytes:
    return _CARD + msgspec.msgpack.encode(card)
