"""Rehearsing a loss: a kernel that was started here is killed, frozen or thawed, as a real machine would fail.

Only kernels of this process on this machine, so that nobody's node but one's own can be hurt.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Literal, get_args

import psutil

from exo_lab.core.errors import ConfigError

if TYPE_CHECKING:
    from exo_lab.launch.kernels import Kernels

How = Literal["kill", "freeze", "thaw"]
SIGNALS = {"kill": "SIGKILL", "freeze": "SIGSTOP", "thaw": "SIGCONT"}  # by name: Windows has not all of them


def trouble(kernels: Kernels, name: str, how: How) -> None:
    """Send the signal; returns at once. A killed kernel says no goodbye, a frozen one is only silent.

    Raises:
        ConfigError: it was not started here, not on this machine, is gone already, or this system cannot do that.
    """
    if how not in SIGNALS:
        raise ConfigError(f"a kernel can be made to {', '.join(get_args(How))}, not {how!r}")
    holder = kernels.local_process(name)
    number = getattr(signal, SIGNALS[how], None)
    if number is None:
        raise ConfigError(f"this operating system has no {SIGNALS[how]}, so {name} cannot be made to {how}")
    process = holder.process()
    gone = ConfigError(f"{name} is gone already (process {holder.pid}); %exo up starts another")
    if process is None:
        raise gone
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess as exc:
        raise gone from exc
    except psutil.AccessDenied as exc:
        raise ConfigError(f"{name} cannot be made to {how}: this system does not let process {holder.pid} be") from exc
