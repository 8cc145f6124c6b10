"""`%exo token`: where the cluster's secret is, how to compare it without showing it, and how to make a new one."""

from __future__ import annotations

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


def token_view(*, show: bool, new: bool, connected: bool) -> MessageView:
    """What the verb answers; makes a new secret first if asked to.

    Args:
        show: print the secret.
        new: make a new one, in place of the old one.
        connected: is this process a node, which goes on with the secret that it started with?

    Raises:
        ConfigError: the secret is weak, cannot be kept, or comes from the environment and cannot be replaced here.
    """
    from exo_lab.transport.keys import TOKEN_VARIABLE, load_or_create_token, token_path

    warnings: list[str] = []
    from_environment = TOKEN_VARIABLE in os.environ
    if new:
        if from_environment:
            raise ConfigError(
                f"{TOKEN_VARIABLE} is set, so a new secret in {token_path()} would not be used. "
                "Unset it, or set it to the new one."
            )
        _forget(token_path())
        warnings.append("A new secret was made. Nodes with the old one are left outside until they are given this one.")
        if connected:
            warnings.append("This node keeps the old one until it connects again: %exo disconnect, then %exo connect.")
    token = load_or_create_token()
    where = f"the variable {TOKEN_VARIABLE}" if from_environment else str(token_path())
    lines = [f"The cluster's secret is in {where}", f"fingerprint {fingerprint(token)} (the same on every node)"]
    if show:
        lines.append(token)
        warnings.append("Who has this text is in the cluster. Clear this output before you share the notebook.")
    else:
        lines.append(f"To bring another machine in, copy it there or set {TOKEN_VARIABLE}; --show prints it.")
    return MessageView(*lines, warnings=warnings)


def _forget(path: Path) -> None:
    """Remove the old secret, so that the next look makes a new one."""
    try:
        path.unlink(missing_ok=True)
    except OSError as exc:
        raise ConfigError(f"{path} cannot be replaced: {exc}. Check who owns it and its folder.") from exc
