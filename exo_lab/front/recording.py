"""Looks at a cluster in a file, one after the other: JSON lines, or CSV where the name ends so. Valid at any moment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from exo_lab.front.files import writing
from exo_lab.front.frame import csv_rows
from exo_lab.front.units import show_count

if TYPE_CHECKING:
    from exo_lab.front.frame import Frame


class Recording:
    """A file that is written to until `close`. A context manager.

    Raises:
        ConfigError: it cannot be made, or not be written any more.
    """

    def __init__(self, path: str) -> None:
        self.count = 0
        with writing(path):
            self.path = Path(path).expanduser()
            self._csv = self.path.suffix.lower() == ".csv"
            self._file = self.path.open("w", encoding="utf-8")
            self._file.write(csv_rows(None) if self._csv else "")
            self._file.flush()

    def add(self, one: Frame) -> None:
        """One look; it is in the file when this returns."""
        line = csv_rows(one) if self._csv else msgspec.json.encode(one).decode() + "\n"
        with writing(self.path):
            self._file.write(line)
            self._file.flush()
        self.count += 1

    def close(self) -> None:
        """No more. Idempotent."""
        self._file.close()

    def said(self) -> str:
        """What there is, in words."""
        return f"{show_count(self.count, 'look')} in {self.path}"

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
