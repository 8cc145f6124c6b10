"""What runs inside a started kernel: it becomes a node and is put on a leash. `kernels` calls it with a JSON text."""

from __future__ import annotations

import msgspec

from exo_lab.core.emulated_link import EmulatedLink
from exo_lab.launch.leash import Holder, hold

CUDA_VISIBLE = "CUDA_VISIBLE_DEVICES"


class WorkerOrder(msgspec.Struct, frozen=True, kw_only=True):
    """How a started kernel is to become a node. Without a `holder` (on another machine) there is no leash.

    `gpu` is the one that it sees, as `CUDA_VISIBLE_DEVICES` names it; empty: whatever this process sees.
    """

    name: str
    bind: str = "127.0.0.1"
    peers: tuple[str, ...] = ()
    memory_bytes: int = 0
    slowdown: float = 1.0
    link: EmulatedLink | None = None
    threads: int = 0
    engine: str = "auto"
    gpu: str = ""
    holder: Holder | None = None
    also: tuple[Holder, ...] = ()


class WorkerReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a started kernel became. `process` says something on the machine that it runs on only."""

    id: str
    name: str
    control: str
    process: Holder


def become(order: str) -> str:
    """Make this process a node as the JSON text says; a `WorkerReport` as JSON."""
    import os

    from exo_lab.cluster import connect

    wanted = msgspec.json.decode(order, type=WorkerOrder)
    if wanted.gpu:  # before anything of CUDA is loaded
        os.environ[CUDA_VISIBLE] = wanted.gpu
    cluster = connect(
        wanted.name,
        bind=wanted.bind,
        peers=wanted.peers or None,
        memory=wanted.memory_bytes,
        slow=wanted.slowdown,
        emulate_link=wanted.link,
        threads=wanted.threads,
        engine=wanted.engine,
    )
    if wanted.holder is not None:
        hold(wanted.holder, before_end=cluster.close, also=wanted.also)
    report = WorkerReport(
        id=cluster.id, name=cluster.name, control=cluster.node.card.control, process=Holder.of(os.getpid())
    )
    return msgspec.json.encode(report).decode()
