"""`%exo token`: where the cluster's secret is, how to compare it without showing it, and how to make a new one."""

from __future__ import annotations

import getpass
import hashlib
import os
from typing import TYPE_CHECKING

from exo_lab.core.errors import ConfigError
from exo_lab.front.message_view import MessageView

if TYPE_CHECKING:
    from pathlib import Path

_LABEL = b"exo_lab token fingerprint 1\0"


def fingerprint(token: str) -> str:
    """Eight hexadecimal digits of a SHA-256; tells tokens apart and gives nothing of a 256-bit secret away."""
    digits = hashlib.sha256(_LABEL + token.encode()).hexdigest()[:8]
    return f"{digits[:4]}-{digits[4:]}"


def token_view(*, show: bool, new: bool, connected: bool, join: bool = False) -> MessageView:
    """What the verb answers; makes a new secret first, or asks for another cluster's, if that is wanted.

    Args:
        show: print the secret.
        new: make a new one, in place of the old one.
        join: ask for the secret of a cluster and keep it here in place of the old one.
        connected: is this process a node, which goes on with the secret that it started with?

    Raises:
        ConfigError: the secret is weak, cannot be kept, or comes from the environment and cannot be replaced here.
    """
    from exo_lab.transport.keys import TOKEN_VARIABLE, check_token, load_or_create_token, new_token, token_path

    warnings: list[str] = []
    from_environment = TOKEN_VARIABLE in os.environ
    if new and join:
        raise ConfigError("--new makes a secret and --join takes one over; give one of them")
    if new or join:
        if from_environment:
            raise ConfigError(
                f"{TOKEN_VARIABLE} is set, so another secret in {token_path()} would not be used. "
                "Unset it, or set it to the new one."
            )
        if join:
            # Asked for, and not an argument: a command line stays in a history, a cell in a notebook.
            _replace(token_path(), check_token(_asked_for(), "what was typed"))
            warnings.append("The secret was taken over. Nodes of this machine's old cluster are another cluster now.")
        else:
            _replace(token_path(), new_token())
            warnings.append(
                "A new secret was made. Nodes with the old one are left outside until they are given this one."
            )
        if connected:
            warnings.append("This node keeps the old one until it connects again: %exo disconnect, then %exo connect.")
    token = load_or_create_token()
    where = f"the variable {TOKEN_VARIABLE}" if from_environment else str(token_path())
    lines = [f"The cluster's secret is in {where}", f"fingerprint {fingerprint(token)} (the same on every node)"]
    if show:
        lines.append(token)
        warnings.append("Who has this text is in the cluster. Clear this output before you share the notebook.")
    else:
        lines.append(
            f"To bring another machine in, run exo-lab token --join there or set {TOKEN_VARIABLE}; --show prints it."
        )
    return MessageView(*lines, warnings=warnings)


def _asked_for() -> str:
    try:
        return getpass.getpass("The other cluster's secret: ")
    except (EOFError, RuntimeError) as exc:  # no terminal, or a front end that cannot be asked
        raise ConfigError(
            "--join asks for the secret, and nobody can be asked here. Run exo-lab token --join in a terminal."
        ) from exc


def _replace(path: Path, token: str) -> None:
    """Keep this secret in place of the old one, and make sure of it."""
    from exo_lab.transport.keys import load_or_create_token
    from exo_lab.transport.private_file import replace_private

    replace_private(path, token)
    if load_or_create_token(path) != token:
        raise ConfigError(f"{path} holds another secret than was put there: somebody else replaced it. Do it again.")
