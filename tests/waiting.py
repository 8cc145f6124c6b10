"""Waiting for what other processes and threads do: with a deadline, and no longer than it takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

WITHIN_S = 30.0


def eventually(condition: Callable[[], object], within_s: float = WITHIN_S, every_s: float = 0.05) -> bool:
    """Has `condition()` come true within the deadline?"""
    deadline, waiting = time.monotonic() + within_s, threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            return False
        waiting.wait(every_s)
    return True
