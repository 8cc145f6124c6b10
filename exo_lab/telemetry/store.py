"""What was measured, kept in one SQLite file a node: readings of the last hour, means of a minute for a week.

A file that is broken or of another version is set aside, with a notice, and begun anew. Knows no clock and no node.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from typing import TYPE_CHECKING

from exo_lab.core.telemetry import QUANTITIES, Series

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from exo_lab.core.telemetry import Sample

VERSION = 1
RAW_KEPT_S = 3600.0
MINUTES_KEPT_S = 7 * 24 * 3600.0
MINUTE_S = 60
BUSY_TIMEOUT_S = 1.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS raw (
    quantity TEXT NOT NULL, about TEXT NOT NULL, at_s REAL NOT NULL, value REAL NOT NULL,
    PRIMARY KEY (quantity, about, at_s)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS minute (
    quantity TEXT NOT NULL, about TEXT NOT NULL, at_s REAL NOT NULL,
    mean REAL NOT NULL, least REAL NOT NULL, most REAL NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (quantity, about, at_s)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS raw_at ON raw (at_s);
CREATE INDEX IF NOT EXISTS minute_at ON minute (at_s);
"""
_CONDENSE = """
INSERT INTO minute
SELECT quantity, about, CAST(at_s / :minute AS INTEGER) * :minute, AVG(value), MIN(value), MAX(value), COUNT(*)
FROM raw WHERE at_s >= :since AND at_s < :until GROUP BY quantity, about, CAST(at_s / :minute AS INTEGER)
ON CONFLICT DO UPDATE SET mean = excluded.mean, least = excluded.least, most = excluded.most, count = excluded.count
WHERE excluded.count >= minute.count
"""
_READ = """
SELECT quantity, about, at_s, mean FROM minute WHERE at_s >= :since AND at_s < :raw_since
UNION ALL
SELECT quantity, about, at_s, value FROM raw WHERE at_s >= :raw_since AND at_s >= :since
ORDER BY 1, 2, 3
"""


class Store:
    """Open it, add to it, read it, close it. Any thread; every call is short.

    Args:
        path: of the file, made with its folder and readable by this user only; None: in memory.

    Raises:
        OSError: the file cannot be made.
        sqlite3.Error: it cannot be opened, by another reason than its content.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.notice = ""  # what happened to the file that was there before; empty: nothing
        self._lock = threading.Lock()
        self._base = self._open()

    def add(self, samples: Iterable[Sample]) -> None:
        """Keep readings; those that are there already are replaced.

        Raises:
            sqlite3.Error: the disk is full, say; nothing of them is kept then.
        """
        rows = [(one.quantity, one.about, one.at_s, one.value) for one in samples]
        self._writing(lambda base: base.executemany("INSERT OR REPLACE INTO raw VALUES (?, ?, ?, ?)", rows))

    def tidy(self, now_s: float) -> None:
        """Condense minutes that are over, and forget what is too old. Once a minute is often enough.

        Raises:
            sqlite3.Error: see `add`.
        """

        def work(base: sqlite3.Connection) -> None:
            (latest,) = base.execute("SELECT COALESCE(MAX(at_s), 0) FROM minute WHERE at_s <= ?", (now_s,)).fetchone()
            until = now_s // MINUTE_S * MINUTE_S
            base.execute(_CONDENSE, {"minute": MINUTE_S, "since": latest, "until": until})
            base.execute("DELETE FROM raw WHERE at_s < ?", (now_s - RAW_KEPT_S,))
            base.execute("DELETE FROM minute WHERE at_s < ?", (now_s - MINUTES_KEPT_S,))

        self._writing(work)

    def series(self, now_s: float, since_s: float, quantities: Sequence[str] = QUANTITIES) -> tuple[Series, ...]:
        """What was measured from `since_s` on: readings of the last hour, before that the means of minutes.

        Raises:
            sqlite3.Error: the file cannot be read.
        """
        raw_since = (now_s - RAW_KEPT_S) // MINUTE_S * MINUTE_S + MINUTE_S
        with self._lock:
            rows = self._base.execute(_READ, {"since": since_s, "raw_since": raw_since}).fetchall()
        found: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for quantity, about, at_s, value in rows:
            if quantity in quantities:
                found.setdefault((quantity, about), []).append((at_s, value))
        return tuple(
            Series(quantity=quantity, about=about, points=tuple(points))  # type: ignore[arg-type]
            for (quantity, about), points in found.items()
        )

    def renew(self, why: Exception) -> None:
        """The file turned out to be broken: set it aside and begin anew.

        Raises:
            OSError: that cannot be done either.
            sqlite3.Error: likewise.
        """
        with self._lock:
            with contextlib.suppress(sqlite3.Error):
                self._base.close()
            self._set_aside(str(why))
            self._base = self._connect()

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            self._base.close()

    def _writing(self, work: object) -> None:
        with self._lock, self._base:  # sqlite3's own `with`: committed, or rolled back if it raises
            work(self._base)  # type: ignore[operator]

    # -- the file ----------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.OperationalError:
            raise  # locked, not allowed, no room: the content may be good
        except sqlite3.DatabaseError as exc:
            self._set_aside(str(exc))
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        if self.path is None:
            where = ":memory:"
        else:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))  # SQLite's other files take over its mode
            self.path.chmod(0o600)
            where = str(self.path)
        base = sqlite3.connect(where, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
        try:
            (state,) = base.execute("PRAGMA quick_check(1)").fetchone()
            (version,) = base.execute("PRAGMA user_version").fetchone()
            if state != "ok":
                raise sqlite3.DatabaseError(state)
            if version not in (0, VERSION):
                raise sqlite3.DatabaseError(f"it is of version {version}, and this program writes {VERSION}")
            base.execute("PRAGMA journal_mode = WAL")
            base.execute("PRAGMA synchronous = NORMAL")  # in WAL nothing breaks by it; a power cut may cost seconds
            base.executescript(_SCHEMA)
            base.execute(f"PRAGMA user_version = {VERSION}")
        except BaseException:
            base.close()
            raise
        return base

    def _set_aside(self, why: str) -> None:
        if self.path is None:
            return
        aside = self.path.with_name(f"{self.path.name}.broken")
        for ending in ("-wal", "-shm"):
            self.path.with_name(self.path.name + ending).unlink(missing_ok=True)
        self.path.replace(aside)
        self.notice = (
            f"the history of measurements {self.path} could not be read ({why}). It is now {aside.name} beside it, and "
            "a new one was begun. Delete it if you do not need it."
        )
