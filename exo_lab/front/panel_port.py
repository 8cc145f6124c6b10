"""What the panel needs of a cluster, and nothing more; `panel_cluster` fills it with the real one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_lab.core.plan import Plan
    from exo_lab.core.status import ClusterStatus
    from exo_lab.core.topology import Link
    from exo_lab.front import panel_messages as m


class PanelCluster(Protocol):
    """What the panel needs of a cluster. Every method may be called from any thread and raises ExoError."""

    strategies: tuple[str, ...]
    default_strategy: str
    predicts: bool

    def status(self) -> ClusterStatus:
        """Everything at this moment."""
        ...

    def links(self) -> tuple[Link, ...]:
        """The known links between nodes."""
        ...

    def on_change(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Call the listener, which does not block, on every change; returns what ends it."""
        ...

    def predict(self, change: m.PlanChange) -> m.Prediction:
        """What a change would do. Fast: a person's finger waits for it."""
        ...

    def apply(self, change: m.PlanChange, progress: Callable[[str, int, int, str], None]) -> Plan:
        """Make a change on every node; returns the plan with its epoch. May take long."""
        ...

    def cancel(self, request: str | None) -> int:
        """End one generation, or all; how many were running."""
        ...

    def acknowledge(self, alert: str) -> None:
        """Somebody has seen an alert."""
        ...
