"""Which machine this is, or which container on it: what a process id and a loopback address are good for."""

from __future__ import annotations

import uuid
from pathlib import Path

PROC = Path("/proc")


def host_id(proc: Path = PROC) -> str:
    """Names the set of processes that this one can see, so that nodes know whether their process ids mean the same.

    That is the machine since it was started, and in a container the container: its processes have ids of their own.

    Args:
        proc: the kernel's view of this process; where there is none, the network card's address is the name.
    """
    try:
        boot = (proc / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return f"{uuid.getnode():012x}"
    try:
        return f"{boot}/{(proc / 'self/ns/pid').stat().st_ino}"
    except OSError:  # a kernel without namespaces
        return boot
