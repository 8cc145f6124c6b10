"""The doctor, for a process that may be no node yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.cluster.connect import current
from exo_lab.node.thread import ControlThread

if TYPE_CHECKING:
    from exo_lab.node.doctor import Finding

TIMEOUT_S = 30.0


def checkup() -> tuple[Finding, ...]:
    """Why nodes find each other or do not: of this process's node, or of the machine alone if it is none.

    Takes a few seconds at most, changes nothing, joins nothing.
    """
    from exo_lab.node.doctor import doctor

    cluster = current()
    if cluster is not None:
        return cluster.doctor()
    thread = ControlThread("exo-checkup")
    try:
        return thread.run(doctor(None, "127.0.0.1"), TIMEOUT_S)
    finally:
        thread.close()
