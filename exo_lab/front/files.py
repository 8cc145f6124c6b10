"""Files that a user named: written whole or not at all, with an error that says what to do."""

from __future__ import annotations

from pathlib import Path

from exo_lab.core.errors import ConfigError


def write_file(path: str, text: str) -> Path:
    """Write it, replacing what was there; where it is now.

    Raises:
        ConfigError: it cannot be written.
    """
    place = Path(path).expanduser()
    try:
        place.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise ConfigError(f"{place} cannot be written: {exc}. Name a file in a folder that you own.") from exc
    return place
