"""This machine, as text and numbers that its operating system gives. The edge: `detect` makes sense of them.

A test gives `detect` a machine of its own in place of this one.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import psutil

from exo_lab.telemetry.nvidia import GpuReading, Nvidia

MAX_CHARACTERS = 1 << 20  # of a file; /proc/cpuinfo of a large server is a few hundred kilobytes
SYSCTL_TIMEOUT_S = 2.0


class Machine(Protocol):
    """What `detect` asks of a machine."""

    @property
    def system(self) -> str:
        """One of "Linux", "Darwin", "Windows", or what else Python calls it."""
        ...

    @property
    def architecture(self) -> str:
        """Such as "x86_64" or "arm64"."""
        ...

    @property
    def host(self) -> str:
        """The machine's name in the network."""
        ...

    def text(self, path: str) -> str | None:
        """A file's text; None if there is none or it may not be read."""
        ...

    def sysctl(self, name: str) -> str | None:
        """A value of macOS' kernel; None if there is none."""
        ...

    def registry(self, key: str, value: str) -> str | None:
        """A text in Windows' registry below HKEY_LOCAL_MACHINE; None if there is none."""
        ...

    def memory(self) -> tuple[int, int]:
        """Bytes of main memory: all, and available without swapping."""
        ...

    def cores(self) -> int:
        """CPUs that this process may run on."""
        ...

    def variable(self, name: str) -> str | None:
        """An environment variable."""
        ...

    def module_text(self, module: str, file: str) -> str | None:
        """A file of an installed Python package, which is not imported; None if it is not installed."""
        ...

    def gpus(self) -> tuple[GpuReading, ...]:
        """Every NVIDIA GPU."""
        ...

    def gpu(self, index: int) -> GpuReading | None:
        """One of them now."""
        ...


class ThisMachine:
    """See `Machine`. Nothing is kept but the GPU library, so every answer is fresh."""

    def __init__(self) -> None:
        self.system, self.architecture, self.host = platform.system(), platform.machine(), platform.node()
        self._nvidia = Nvidia()

    def text(self, path: str) -> str | None:
        """See `Machine`."""
        try:
            with Path(path).open(encoding="utf-8", errors="replace") as file:
                return file.read(MAX_CHARACTERS)
        except OSError:
            return None

    def sysctl(self, name: str) -> str | None:
        """See `Machine`."""
        try:
            # An absolute path: whatever else is called sysctl in this user's PATH is not run.
            done = subprocess.run(
                ["/usr/sbin/sysctl", "-n", name],
                capture_output=True,
                text=True,
                timeout=SYSCTL_TIMEOUT_S,
                check=True,
                stdin=subprocess.DEVNULL,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    def registry(self, key: str, value: str) -> str | None:
        """See `Machine`."""
        if sys.platform != "win32":
            return None
        import winreg

        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, key) as handle:
                return str(winreg.QueryValueEx(handle, value)[0])
        except OSError:
            return None

    def memory(self) -> tuple[int, int]:
        """See `Machine`."""
        memory = psutil.virtual_memory()
        return memory.total, memory.available

    def cores(self) -> int:
        """See `Machine`."""
        try:
            return len(psutil.Process().cpu_affinity())
        except (AttributeError, psutil.Error, OSError):  # macOS has no affinity
            return os.cpu_count() or 1

    def variable(self, name: str) -> str | None:
        """See `Machine`."""
        return os.environ.get(name)

    def module_text(self, module: str, file: str) -> str | None:
        """See `Machine`."""
        spec = find_spec(module)
        if spec is None or not spec.submodule_search_locations:
            return None
        return self.text(str(Path(next(iter(spec.submodule_search_locations))) / file))

    def gpus(self) -> tuple[GpuReading, ...]:
        """See `Machine`."""
        return self._nvidia.gpus()

    def gpu(self, index: int) -> GpuReading | None:
        """See `Machine`."""
        return self._nvidia.gpu(index)
