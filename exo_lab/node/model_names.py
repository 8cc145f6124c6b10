"""Which models a peer may have this node open. The user of this machine may open anything; others may not.

The rule: a peer names a model as people do, by a known name or a hub id; a path counts only

* on a node that listens on loopback alone, where every member runs on this machine with this user's own secret,
* if it lies in one of this node's model folders (its cache, the hub's cache, those in `EXO_LAB_MODELS`), links
  resolved, or
* if this node's own user asked for it.

Whatever the name, a shard is loaded only if the digest of what was found is the plan's. Opens no file itself.
"""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from exo_lab.core.errors import ModelNotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

FOLDERS_VARIABLE = "EXO_LAB_MODELS"
MAX_NAME_CHARACTERS = 1024
_PLAIN = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*(:[\w.-]+(/[\w.-]+)*)?)?")


def model_folders(bind: str) -> tuple[Path, ...] | None:
    """The folders from which peers may name files, for a node that listens on `bind`; None: any."""
    if _is_loopback(bind):
        return None
    from exo_lab.models.locate import cache_folder

    given = os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep)
    hub = Path(os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME") or "~/.cache/huggingface") / "hub")
    return (cache_folder(), hub.expanduser(), *(Path(folder).expanduser() for folder in given if folder))


class ModelNames:
    """What names a node takes from its peers. Any thread.

    Args:
        node: its id, for errors.
        folders: from where peers may name files, see `model_folders`.
    """

    def __init__(self, node: str, folders: Sequence[Path] | None) -> None:
        self._node, self._folders = node, folders
        self._own: set[str] = set()

    def allow(self, name: str) -> None:
        """This machine's own user wants that model: it is opened whatever its name."""
        self._own.add(name)

    def permitted(self, name: str) -> str:
        """The name, if it may be opened here. ModelNotFound as `check_name`."""
        return name if name in self._own else check_name(name, self._folders, self._node)

    def to_look_up(self, name: str) -> str:
        """The name, if it may be looked up here, else an empty one: what is meant may be known by its digest."""
        try:
            return self.permitted(name)
        except ModelNotFound:
            return ""


def check_name(name: str, folders: Sequence[Path] | None, node: str) -> str:
    """The name, if a peer may name it.

    Args:
        name: what the peer said.
        folders: see `model_folders`.
        node: this node, for the error.

    Raises:
        ModelNotFound: it may not. The text says nothing about what is or is not on this machine.
    """
    if not name or len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
        raise ModelNotFound(f"node {node} was given a model name that is none")
    if folders is None or (_is_plain(name) and not _is_there(name)) or _lies_in(name, folders):
        return name
    raise ModelNotFound(
        f"node {node} opens no path that another node names, unless it lies in one of its model folders. On that "
        f"machine, put the model into such a folder and name the folder in {FOLDERS_VARIABLE}, or use a hub id."
    )


def _is_plain(name: str) -> bool:
    """A known name or a hub id by its looks: `name`, `org/repo`, `org/repo:file.gguf`, and no step upward in it."""
    return _PLAIN.fullmatch(name) is not None and ".." not in name


def _is_there(name: str) -> bool:
    """Is a name that looks plain also a file or folder where this node runs? Then it is a path."""
    try:
        return Path(name).exists()
    except OSError:
        return True


def _lies_in(name: str, folders: Sequence[Path]) -> bool:
    path = Path(name)
    # Network paths of Windows are not even looked at: looking would send credentials.
    if not path.is_absolute() or name.startswith(("\\\\", "//")):
        return False
    try:
        real = path.resolve()
        return any(real.is_relative_to(folder.resolve()) for folder in folders)
    except (OSError, RuntimeError):  # a loop of links
        return False


def _is_loopback(bind: str) -> bool:
    if bind == "localhost":
        return True
    try:
        return ipaddress.ip_address(bind.strip("[]")).is_loopback
    except ValueError:
        return False
