"""Small files that only their owner may read: secrets and keys. Made whole or not at all."""

from __future__ import annotations

import logging
import os
import stat
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from exo_lab.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

log = logging.getLogger(__name__)

MAX_BYTES = 4096


def load_or_create_private(path: Path, make: Callable[[], str]) -> str:
    """The text of a private file, made with what `make` returns if there is none.

    Of several processes that make it at once, one wins and all return its text. A file that others can read is
    closed to them (mode 0600), with a warning.

    Raises:
        ConfigError: the file cannot be read, written, or closed to others.
    """
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _create(path, make())
        _close_to_others(path)
        with path.open(encoding="ascii") as file:
            return file.read(MAX_BYTES)
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path} cannot be used: {exc}. Check who owns it and its folder, or delete it.") from exc


def replace_private(path: Path, text: str) -> None:
    """Put another text in the place of a private file, or make it. Whatever goes wrong, the old one is there whole.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _beside(path, text) as temporary:
            temporary.replace(path)
    except (OSError, UnicodeEncodeError) as exc:
        raise ConfigError(f"{path} cannot be replaced: {exc}. Check who owns it and its folder.") from exc


@contextmanager
def _beside(path: Path, text: str) -> Generator[Path]:
    """A file with that text next to it, which is on the disk; gone at the end unless it was moved away."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mkstemp makes it 0600
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _create(path: Path, text: str) -> None:
    with _beside(path, text) as temporary:
        try:
            path.hardlink_to(temporary)  # unlike rename, it does not replace what another process made meanwhile
        except FileExistsError:
            return
        except OSError:
            # A file system without hard links: the last one to rename wins, and readers still see a whole file.
            temporary.replace(path)


def _close_to_others(path: Path) -> None:
    if os.name == "nt":
        return  # access is by the folder's list there, and mode bits mean nothing
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        path.chmod(0o600)
        log.warning(
            "%s could be read by others (mode %o); it is closed now. If others use this computer, make a new one.",
            path,
            mode,
        )
