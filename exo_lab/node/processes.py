"""What this machine knows of another node's process, if that runs here too."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from exo_lab.core.messages import NodeCard
    from exo_lab.node.membership import Process


def process_of(card: NodeCard, mine: NodeCard) -> Process:
    """Does a node's process still run? "unknown" if it is out of sight (`host_id`), or shares this node's process."""
    if not card.pid or card.host != mine.host or card.pid == os.getpid():
        return "unknown"
    try:
        status = psutil.Process(card.pid).status()
    except psutil.NoSuchProcess:
        return "gone"
    except psutil.Error:
        return "unknown"
    if status in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
        return "gone"
    return "stopped" if status in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP) else "running"
