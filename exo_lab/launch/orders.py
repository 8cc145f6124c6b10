"""What each kernel that is to be started must become: options checked and spelt out. Starts nothing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from exo_lab.core.emulated_link import parse_link
from exo_lab.core.errors import ConfigError
from exo_lab.launch.gpus import gpus_for
from exo_lab.launch.leash import Holder
from exo_lab.launch.worker import WorkerOrder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.cluster.cluster import Cluster
    from exo_lab.core.status import NodeStatus

MAX_KERNELS = 64


def worker_orders(
    cluster: Cluster,
    count: int,
    *,
    memory: Sequence[int] | None,
    slow: Sequence[float] | None,
    emulate_link: str | None,
    names: Sequence[str],
    threads: int | None,
    engine: str,
    local: bool,
    started: int = 0,
) -> list[WorkerOrder]:
    """One order a kernel; the arguments are those of `Kernels.start`. `local`: on this machine. `started`: before.

    Raises:
        ConfigError: an option is wrong.
    """
    if not 1 <= count <= MAX_KERNELS:
        raise ConfigError(f"up takes 1 to {MAX_KERNELS} kernels, got {count}")
    for what, values in (("memory", memory), ("slow", slow), ("names", names)):
        if values is not None and len(values) != count:
            raise ConfigError(f"{what} has {len(values)} values for {count} kernels; give one for each")
    if memory is not None and min(memory) < 1:
        raise ConfigError("memory must be at least one byte")
    if slow is not None and min(slow) < 1:
        raise ConfigError(f"slow must be 1 or more, got {min(slow):g}; a device cannot be emulated faster than it is")
    _check_names(cluster, names)
    if not local and cluster.options.bind.startswith("127."):
        raise ConfigError(
            f"kernels on other machines cannot reach this node, which listens on {cluster.options.bind} only. "
            "Connect with %exo connect --lan first."
        )
    gpus = gpus_for(cluster.node.device, count, started) if local and engine != "numpy" else [""] * count
    share = max(1, (os.cpu_count() or 1) // count)
    return [
        WorkerOrder(
            name=names[i],
            bind="127.0.0.1" if local else "0.0.0.0",
            peers=(cluster.node.card.control,),
            memory_bytes=memory[i] if memory else 0,
            slowdown=slow[i] if slow else 1.0,
            link=None if emulate_link is None else parse_link(emulate_link),
            threads=threads if threads is not None else share if local else 0,
            engine=engine,
            gpu=gpus[i],
            holder=Holder.of(os.getpid()) if local else None,
        )
        for i in range(count)
    ]


def _check_names(cluster: Cluster, names: Sequence[str]) -> None:
    """ConfigError where a name is not free; it says who has it, and what can be done."""
    taken = {node.device.name: node for node in cluster.nodes() if node.liveness != "lost"}
    for name in names:
        if list(names).count(name) > 1:
            raise ConfigError(f"the name {name!r} is given twice; give each kernel its own with --names")
        if name in taken:
            raise ConfigError(
                f"the name {name!r} is taken by {_who(cluster, taken[name])}. Give others with --names, or end that "
                "one where it was started: %exo down, or shut its notebook's kernel down. To have a cluster apart from "
                "it: %exo disconnect, then %exo connect --apart."
            )


def _who(cluster: Cluster, holder: NodeStatus) -> str:
    """Such as "process 4711 of this machine (tcp://127.0.0.1:40123)"."""
    if holder.is_self:
        return "this kernel itself"
    peer, mine = cluster.node.members.peers.get(holder.device.id), cluster.node.card
    if peer is None or not peer.card.pid or peer.card.host != mine.host:
        return f"the node at {holder.address}"
    return f"process {peer.card.pid} of this machine ({holder.address})"
