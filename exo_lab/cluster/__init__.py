"""What a user holds: `connect()` makes this process a node, `Cluster` is what it sees and can do."""

from __future__ import annotations

from exo_lab.cluster.asking import DEFAULT_MODEL
from exo_lab.cluster.checkup import checkup
from exo_lab.cluster.cluster import Cluster
from exo_lab.cluster.connect import connect, current, require
from exo_lab.cluster.models import DEFAULT_STRATEGY
from exo_lab.generation import Generation

__all__ = ["DEFAULT_MODEL", "DEFAULT_STRATEGY", "Cluster", "Generation", "checkup", "connect", "current", "require"]
