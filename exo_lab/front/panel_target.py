"""This kernel's panel: made and taken back with the extension, and there for every front end that opens its comm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exo_lab.front import panel_messages as m
from exo_lab.front.cells import Cells
from exo_lab.front.comm import in_kernel
from exo_lab.front.panel import Panel
from exo_lab.hearing import listen

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_lab.front.panel_port import PanelCluster

_panel: Panel | None = None
_ends: list[Callable[[], None]] = []  # of what came with it


def register(current: Callable[[], PanelCluster | None], shell: Any) -> Panel | None:
    """Register the comm target in this kernel, and hear of its answers. Idempotent; None outside a kernel."""
    global _panel
    from comm import get_comm_manager

    if not in_kernel():
        return None
    if _panel is None:
        cells = Cells(shell)
        _panel = Panel(current, lambda: cells.running)
        _ends.extend((cells.close, listen(_panel)))
        get_comm_manager().register_target(m.TARGET, _panel.opened)
    return _panel


def unregister() -> None:
    """Take the comm target back and let go of every front end. Idempotent."""
    global _panel
    from comm import get_comm_manager

    if _panel is None:
        return
    get_comm_manager().unregister_target(m.TARGET, _panel.opened)
    while _ends:
        _ends.pop()()
    _panel.close()
    _panel = None
