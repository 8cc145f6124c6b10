"""What other threads may want of the data thread: a closed union of orders, posted and never answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_lab.core.plan import Plan
    from exo_lab.node.holds import Hold, PlanKey
    from exo_lab.node.session import Request


class Install(NamedTuple):
    """Take over a loaded shard."""

    hold: Hold


class Retire(NamedTuple):
    """Free a shard; `now` ends its sessions too."""

    key: PlanKey
    now: bool = False


class Start(NamedTuple):
    """Begin a generation of ours."""

    request: Request


class Stop(NamedTuple):
    """End a generation of ours on every node."""

    request: Request


class Abandon(NamedTuple):
    """Free an attempt at a generation on every node of the plan it ran on; the generation goes on elsewhere."""

    plan: Plan
    wire: str


class Migrate(NamedTuple):
    """A generation of ours goes on with its present plan; its caches come from the attempt `wire` on `plan`."""

    request: Request
    plan: Plan
    wire: str


class RequesterLost(NamedTuple):
    """A node is gone: free what it asked for, close the way to it."""

    node: str
    address: str


class CameBack(NamedTuple):
    """A node is there that was not: what it was to forget while it was out of reach, it is told again."""

    node: str


class Measure(NamedTuple):
    """Send an echo to each of these nodes, unless somebody's answer is being computed."""

    nodes: tuple[str, ...]


class Probe(NamedTuple):
    """Send one echo of so many bytes; `came(seconds)` is called in the data thread when it is back, if it ever is."""

    node: str
    size_bytes: int
    came: Callable[[float], object]


class Shutdown(NamedTuple):
    """Wake up and leave the loop."""


Order = Install | Retire | Start | Stop | Abandon | Migrate | RequesterLost | CameBack | Measure | Probe | Shutdown
