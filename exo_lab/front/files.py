"""Files that a user named: written whole or not at all, with an error that says what to do.

Whole means: into a new file beside it, which then takes its place. What is no plain file (a pipe, a terminal) has no
place to take, and is written to as it is.
"""

from __future__ import annotations

import shutil
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from exo_lab.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

# RuntimeError: a home folder of nobody. ValueError: text that is no UTF-8, a NUL in a name.
TROUBLE = (OSError, RuntimeError, ValueError)


def write_file(path: str, text: str) -> Path:
    """Write it, replacing what was there; where it is now.

    Raises:
        ConfigError: it cannot be written; what was there is as it was.
    """
    with writing(path):
        place = Path(path).expanduser()
        if place.exists() and not place.is_file():
            place.write_text(text, encoding="utf-8")
        else:
            _replace(place.resolve(), text)
        return place


def check_writable(path: str) -> None:
    """Find out before the work is done whether `write_file` could write there; nothing is left behind.

    Raises:
        ConfigError: it could not.
    """
    with writing(path):
        place = Path(path).expanduser()
        if place.is_dir():
            raise IsADirectoryError("it is a folder")
        if not place.exists() or place.is_file():
            beside = _beside(place.resolve())
            beside.touch(exist_ok=False)
            beside.unlink()


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """What goes wrong with this file, as a ConfigError that names it."""
    try:
        yield
    except TROUBLE as exc:
        raise ConfigError(f"{path} cannot be written: {exc}. Name a file in a folder that you own.") from exc


def _replace(place: Path, text: str) -> None:
    temporary = _beside(place)
    try:
        with temporary.open("x", encoding="utf-8") as file:  # mkstemp would close it to everybody but the owner
            file.write(text)
        if place.exists():
            shutil.copymode(place, temporary)
        temporary.replace(place)
    finally:
        temporary.unlink(missing_ok=True)


def _beside(place: Path) -> Path:
    return place.with_name(f".exo-{uuid.uuid4().hex}.tmp")
