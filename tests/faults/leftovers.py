"""What a storm may leave behind in and below this process: processes, threads, sockets, pipes, shared memory. Linux."""

from __future__ import annotations

import contextlib
import gc
import re
import threading
import time
from collections import Counter
from pathlib import Path

import psutil

WITHIN_S = 15.0


def held() -> Counter[str]:
    """How many of each kind there are now; processes and threads by name, so that a failure says which."""
    gc.collect()
    found = Counter(f"thread {_stem(thread.name)}" for thread in threading.enumerate())
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            command = " ".join(child.cmdline())
            if child.status() != psutil.STATUS_ZOMBIE and "resource_tracker" not in command:  # Python's, one for good
                found[f"process {command}"] += 1
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found["open " + _stem(str(fd.readlink()))] += 1
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    found["shared memory"] = sum("memfd:" in line or "/dev/shm/" in line for line in maps)
    return found


def left(before: Counter[str], within_s: float = WITHIN_S) -> Counter[str]:
    """What there is beyond what was there before, once nothing more goes away or the time is over."""
    end = time.monotonic() + within_s
    while (more := held() - before) and time.monotonic() < end:
        time.sleep(0.05)
    return more


@contextlib.contextmanager
def nothing_left():
    """Fails if something is there at the end that was not at the beginning."""
    before = held()
    yield
    more = left(before)
    assert not more, f"left behind: {dict(more)}"


def _stem(name: str) -> str:
    """Without the numbers and ids that tell one from another."""
    return re.sub(r"[0-9a-f]{6,}|\d+", "", name)
