"""Writes measurements to a store, in a thread of its own, and never stops whoever measures.

Where the file cannot be written (a full disk), the latest readings are kept in memory and tried again; what is wrong is
in `problem` as a sentence.
"""

from __future__ import annotations

import logging
import re
import sqlite3
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from exo_lab.core.telemetry import QUANTITIES, Series
from exo_lab.telemetry.store import MINUTE_S, MINUTES_KEPT_S, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from exo_lab.core.telemetry import Sample

log = logging.getLogger(__name__)

FLUSH_S = 10.0
WAITING = 20_000  # readings that wait to be written; beyond it the oldest are lost
FILES = 64  # nodes of one name on one machine at one time
CLOSE_S = 3.0


class Recorder:
    """See the module. `add`, `series` and `problem` may be used from any thread.

    Args:
        folder: where the node's file is, or will be; None: in memory.
        name: of the node. A second node of that name that runs at the same time gets a file of its own.
        clock: seconds since the epoch.
        flush_s: between two writes.
    """

    def __init__(
        self, folder: Path | None, name: str, clock: Callable[[], float] = time.time, flush_s: float = FLUSH_S
    ) -> None:
        self.problem = ""
        self._folder, self._name, self._clock, self._flush_s = folder, name, clock, flush_s
        self._waiting: deque[Sample] = deque(maxlen=WAITING)
        self._lock = threading.Lock()  # one flush at a time
        self._over = threading.Event()
        self._file_lock: FileLock | None = None
        self._store: Store | None = None
        self._tidied_at = 0.0
        self._thread = threading.Thread(target=self._run, name="exo-recorder", daemon=True)

    def start(self) -> None:
        """Begin to write now and then."""
        self._thread.start()

    def add(self, samples: Iterable[Sample]) -> None:
        """Remember readings; they are written later. Takes no time."""
        self._waiting.extend(samples)

    def series(self, since_s: float, quantities: Sequence[str] = QUANTITIES) -> tuple[Series, ...]:
        """What was measured from then on, by this node and those of its name before it. Reads a file.

        What cannot be read is left out, and `problem` says why.
        """
        self.flush()
        with self._lock:
            store = self._store
            if store is None:
                return ()
            try:
                return store.series(self._clock(), since_s, quantities)
            except sqlite3.Error as exc:
                self._failed(exc)
                return ()

    def flush(self) -> None:
        """Write what waits. Raises nothing: what cannot be written waits on."""
        with self._lock:
            try:
                store = self._store = self._store or self._open()
                if store.notice:
                    log.warning("%s", store.notice)
                self.problem = store.notice
                batch = tuple(self._waiting)
                store.add(batch)
                for _ in batch:
                    self._waiting.popleft()
                now_s = self._clock()
                if abs(now_s - self._tidied_at) >= MINUTE_S:
                    store.tidy(now_s)
                    self._tidied_at = now_s
            except (sqlite3.Error, OSError) as exc:
                self._failed(exc)

    def close(self) -> None:
        """Write what waits and end. Takes a few seconds at most; idempotent."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_S)
        with self._lock:
            if self._store is not None:
                self._store.close()
                self._store = None
            if self._file_lock is not None:
                self._file_lock.release()
                self._file_lock = None

    def _run(self) -> None:
        while not self._over.wait(self._flush_s):
            self.flush()
        self.flush()

    def _open(self) -> Store:
        return Store(None if self._folder is None else self._own_file(self._folder))

    def _own_file(self, folder: Path) -> Path:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        stem = re.sub(r"[^\w.-]", "_", self._name, flags=re.ASCII)[:60] or "node"
        _forget_old(folder, self._clock())
        for number in range(1, FILES + 1):
            path = folder / f"{stem}{f'-{number}' if number > 1 else ''}.sqlite3"
            lock = FileLock(path.with_name(f"{path.name}.lock"), timeout=0, thread_local=False)
            try:
                lock.acquire()
            except (Timeout, NotImplementedError):
                continue
            self._file_lock = lock
            return path
        raise OSError(f"{FILES} nodes are called {self._name} on this machine already")

    def _failed(self, exc: Exception) -> None:
        if isinstance(exc, sqlite3.DatabaseError) and not isinstance(exc, sqlite3.OperationalError) and self._store:
            try:
                self._store.renew(exc)
                return
            except (sqlite3.Error, OSError) as again:
                exc = again
        where = self._folder or "memory"
        said = self.problem
        self.problem = (
            f"measurements cannot be kept in {where}: {exc}. The latest are in memory; make room, or check who owns it."
        )
        if said != self.problem:
            log.warning("%s", self.problem)


def _forget_old(folder: Path, now_s: float) -> None:
    """Files that no node has written to for so long that everything in them is too old."""
    for path in folder.glob("*.sqlite3"):
        parts = [path.with_name(path.name + ending) for ending in ("", "-wal", "-shm", ".lock")]
        written_s = max(part.stat().st_mtime for part in parts if part.exists())
        if now_s - written_s > MINUTES_KEPT_S:
            for part in parts:
                part.unlink(missing_ok=True)
