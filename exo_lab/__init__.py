"""exo_lab: the notebook home of the AI cluster you already own.

`%load_ext exo_lab` in a notebook, or `import exo_lab; cluster = exo_lab.connect()` anywhere. Importing this
package loads nothing heavy: the names below are resolved when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from exo_lab.cluster import Cluster as Cluster
    from exo_lab.cluster import Generation as Generation
    from exo_lab.cluster import connect as connect
    from exo_lab.cluster import current as current
    from exo_lab.core.errors import ExoError as ExoError
    from exo_lab.core.sampling import SamplingParams as SamplingParams

_LAZY = {
    "Cluster": "exo_lab.cluster",
    "Generation": "exo_lab.cluster",
    "connect": "exo_lab.cluster",
    "current": "exo_lab.cluster",
    "ExoError": "exo_lab.core.errors",
    "SamplingParams": "exo_lab.core.sampling",
}

__all__ = ["Cluster", "ExoError", "Generation", "SamplingParams", "__version__", "connect", "current"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'exo_lab' has no attribute {name!r}")


def load_ipython_extension(ipython: Any) -> None:
    """`%load_ext exo_lab`: register the magics. Idempotent."""
    from exo_lab.front.magics import load

    load(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """`%unload_ext exo_lab`: leave the cluster and remove the magics."""
    from exo_lab.front.magics import unload

    unload(ipython)


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    """Where a Jupyter server finds our extension. Imports nothing of it."""
    return [{"module": "exo_lab.front.server"}]
