"""Memory that processes of one user on one machine share, without a name: Linux' memfd, opened through /proc.

Without a name there is nothing to sweep up: the kernel frees a block with the last process that maps it, also one that
is killed. The size is sealed, so that no other process can shrink it under a reader, which would be a bus error. Pages
are taken as they are written. Raises OSError for whatever does not work; elsewhere than on Linux, that is everything.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import stat
import sys
from pathlib import Path

NAME = "exo-lab"
_LINK = f"/memfd:{NAME}"
MAX_BYTES = 256 << 20


class Block:
    """Mapped memory. `fd` stays open until `seal_off`, for the other process to open."""

    def __init__(self, fd: int, size_bytes: int) -> None:
        self.fd = fd
        self.map = mmap.mmap(fd, size_bytes)

    def seal_off(self) -> None:
        """Nobody else can map it from now on."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def close(self) -> None:
        """Unmap it. Idempotent. No view of it may be left."""
        self.seal_off()
        with contextlib.suppress(BufferError):  # a view is left after all: unmapped with the last one
            self.map.close()


def create(size_bytes: int) -> Block:
    """A block of zeros."""
    if sys.platform != "linux":
        raise OSError("memory without a name is Linux'")
    import fcntl

    fd = os.memfd_create(NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size_bytes)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return Block(fd, size_bytes)
    except BaseException:
        os.close(fd)
        raise


def open_of(pid: int, fd: int, size_bytes: int) -> Block:
    """A block of another process of this user.

    Only a sealed block of that size is mapped; the number of a process and of a file, which come from a peer, open
    nothing else. That it is the block that was meant is for its contents to prove.
    """
    if sys.platform != "linux":
        raise OSError("memory without a name is Linux'")
    import fcntl

    path = Path(f"/proc/{pid:d}/fd/{fd:d}")
    if str(path.readlink()).removesuffix(" (deleted)") != _LINK:
        raise OSError(f"{path} is no block")
    opened = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        found = os.fstat(opened)
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
        if (
            not stat.S_ISREG(found.st_mode)
            or found.st_uid != os.geteuid()
            or found.st_size != size_bytes
            or not 0 < size_bytes <= MAX_BYTES
            or fcntl.fcntl(opened, fcntl.F_GET_SEALS) & seals != seals
        ):
            raise OSError(f"{path} is no sealed block of {size_bytes} bytes of this user")
        block = Block(opened, size_bytes)
        block.seal_off()
        return block
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(opened)
        raise


class Process:
    """Another process, by a handle: its number may be given to a new one, the handle tells them apart."""

    def __init__(self, pid: int) -> None:
        if sys.platform != "linux":
            raise OSError("handles of processes are Linux'")
        if not 0 < pid < 1 << 31:
            raise OSError(f"{pid} is no process")
        self._fd = os.pidfd_open(pid)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)

    @property
    def ended(self) -> bool:
        """Is it over? Also if nobody has taken note of its end."""
        return bool(self._poll.poll(0))

    def close(self) -> None:
        """Free the handle. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
