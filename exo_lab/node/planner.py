"""Making a plan and having it loaded everywhere. No master: the node that was asked does it, the others agree."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, cast

import msgspec

from exo_lab.core.errors import BadPlan, ConfigError, ExoError, NodeLost, StaleEpoch
from exo_lab.core.messages import Activate, Done, LoadShard, ModelRef, Progress, Unload
from exo_lab.node.holds import key_of
from exo_lab.node.pace import measured_of
from exo_lab.planning.memory import held_bytes, with_free_memory

if TYPE_CHECKING:
    from exo_lab.core.device import Device
    from exo_lab.core.model import ModelConfig
    from exo_lab.core.pace import Measured
    from exo_lab.core.plan import Plan
    from exo_lab.core.topology import Topology
    from exo_lab.node.node import Node

ACTIVATE_TIMEOUT_S = 10.0
UNLOAD_TIMEOUT_S = 2.0  # freeing is quick, and after a failed load one of those that are told may be the one that died

WATCH_EVERY_S = 0.05

PlanProgress = Callable[[str, int, int, str], None]  # (node name, bytes done, bytes in all, what)


def select(devices: Sequence[Device], wanted: Sequence[str] | None) -> tuple[Device, ...]:
    """The devices with these names or ids, in that order; all of them without a choice.

    Raises:
        ConfigError: a name that nobody has, that several have, or that is given twice.
    """
    if wanted is None:
        return tuple(devices)
    chosen: list[Device] = []
    for name in wanted:
        matches = [device for device in devices if name in (device.id, device.name)]
        if len(matches) != 1:
            there = ", ".join(sorted(device.name for device in devices))
            problem = "no node" if not matches else f"{len(matches)} nodes"
            raise ConfigError(f"{problem} named {name!r}; the cluster has {there}. Use an id from `%exo nodes`.")
        if matches[0] in chosen:
            raise ConfigError(f"node {name!r} is listed twice")
        chosen.append(matches[0])
    return tuple(chosen)


def measurements(node: Node, digest: str, dtype: str, engine: str) -> tuple[tuple[str, Measured], ...]:
    """What this node and its living peers measured of a model, by device id; who never held it is not there."""
    said = {peer.id: peer.paces for peer in node.members.alive()}
    said[node.id] = node.paces.all
    found = {device: measured_of(paces, digest, dtype, engine) for device, paces in said.items()}
    return tuple((device, measured) for device, measured in sorted(found.items()) if measured is not None)


def with_free_memory_now(node: Node, known: Topology, config: ModelConfig, *, given_back: bool = True) -> Topology:
    """The topology with the memory that is free now, and (`given_back`) what a loaded plan of the model would free."""
    free = {peer.id: peer.memory_available_bytes for peer in node.members.alive()}
    free[node.id] = node.memory_available_bytes()
    loaded = node.plans.get(config.name)
    held = {} if loaded is None or not given_back else held_bytes(loaded, config, known)
    return with_free_memory(known, {one: size for one, size in free.items() if size is not None}, held)


def next_epoch(node: Node) -> int:
    """An epoch above every one that this node has heard of. It is the caller's: nobody here gets it again."""
    return node.book.reserve_epoch(epoch for peer in node.members.peers.values() for _, epoch, _ in peer.plans)


async def load(
    node: Node,
    plan: Plan,
    model: ModelRef,
    *,
    progress: PlanProgress | None = None,
    timeout_s: float = 600.0,
    blamed: list[str] | None = None,
    others: bool = True,
    instead_of: Plan | None = None,
) -> Plan:
    """Have every stage loaded and in use, then switch every node to the plan. All or nothing.

    Of one model this node loads one plan after the other. `timeout_s` bounds the silence between two progress reports
    of a stage; a node that is lost ends it at once. Cancellation unloads what was loaded. `blamed` takes the ids of
    nodes that could not load. Without `others`, nodes that hold no layer are not waited for: they learn of the plan
    from pongs. `instead_of` is the plan that this one is to replace; if it is not the model's plan any more when all
    is ready, nothing changes.

    Returns:
        The plan with its epoch. A node that is lost while all are switching is as one that is lost a moment later.

    Raises:
        StaleEpoch: `instead_of` was replaced or unloaded meanwhile.
        ExoError: a stage could not load; names the node. What the others had loaded is freed again.
    """

    def waiting() -> None:
        if progress is not None:
            progress(node.device.name, 0, 0, "waiting for another change of this model")

    async with node.changes.alone(plan.model, waiting):
        _check_current(node, instead_of)
        plan = await _load_all(node, plan, model, progress, timeout_s, blamed, instead_of)
        await _switch(node, plan, model, others=others)
    return plan


def _check_current(node: Node, replaced: Plan | None) -> None:
    current = None if replaced is None else node.plans.get(replaced.model)
    if replaced is not None and (current is None or key_of(current) != key_of(replaced)):
        now = "was unloaded" if current is None else "has another plan by now"
        raise StaleEpoch(f"{replaced.model} {now}, so its plan was not changed. Look at it and ask again.")


async def _load_all(
    node: Node,
    plan: Plan,
    model: ModelRef,
    progress: PlanProgress | None,
    timeout_s: float,
    blamed: list[str] | None,
    instead_of: Plan | None,
) -> Plan:
    """All stages, and this node switches; or none of it. The plan with its epoch."""
    plan = msgspec.structs.replace(plan, epoch=next_epoch(node), proposer=node.id)
    names = {device.id: device.name for device in node.topology.devices}
    for device in plan.devices:
        if device not in names:
            raise BadPlan(f"node {device} of the plan is not in the cluster")
    try:
        async with asyncio.TaskGroup() as watched:
            watch = watched.create_task(_watch(node, plan, names))
            async with asyncio.TaskGroup() as group:
                for stage in range(len(plan.devices)):
                    work = _load_stage(node, plan, stage, model, names, progress, timeout_s)
                    group.create_task(_blaming(work, plan.devices[stage], blamed))
            await _take_into_use(node, plan, model)
            watch.cancel()
        _check_current(node, instead_of)
        node.activate(plan, model)
    except BaseException as failure:
        # Cancelled, too: a cancelled task may still await, and what was loaded must not be left behind.
        await _free(node, plan)
        if isinstance(failure, BaseExceptionGroup):
            raise _first(cast("BaseExceptionGroup[BaseException]", failure)) from failure
        raise
    return plan


async def _watch(node: Node, plan: Plan, names: dict[str, str]) -> None:
    """Ends with NodeLost as soon as a node of the plan is gone: nobody should wait for its answer."""
    while True:
        there = reachable(node)
        for device in plan.devices:
            if device not in there:
                raise NodeLost(f"{names[device]} went away while the model was being loaded")
        await asyncio.sleep(WATCH_EVERY_S)


async def _blaming(work: Coroutine[Any, Any, None], device: str, blamed: list[str] | None) -> None:
    try:
        await work
    except ExoError:
        if blamed is not None:
            blamed.append(device)
        raise


async def _load_stage(
    node: Node,
    plan: Plan,
    stage: int,
    model: ModelRef,
    names: dict[str, str],
    progress: PlanProgress | None,
    timeout_s: float,
) -> None:
    device = plan.devices[stage]
    order = LoadShard(plan=plan, stage=stage, model=model)
    stream = node.parts.control.stream(node.control_address(device), order, timeout_s=timeout_s)
    async with contextlib.aclosing(stream) as replies:
        async for reply in replies:
            match reply:
                case Progress(done=done, total=total, what=what) if progress:
                    progress(names[device], done, total, what)
                case Done(bytes=size, detail=detail):
                    if progress:
                        progress(names[device], size, size, f"ready ({detail})")
                    return
                case _:
                    continue
    raise NodeLost(f"{names[device]} stopped answering while it was loading its layers")


async def _take_into_use(node: Node, plan: Plan, model: ModelRef) -> None:
    """Every stage, before any node switches: none may start a generation that a stage cannot take part in."""
    node.book.activate(plan, model, switch=False)
    message, ask = Activate(plan=plan, model=model, switch=False), node.parts.control.request
    async with asyncio.TaskGroup() as group:
        for device in plan.devices:
            if device != node.id:
                group.create_task(ask(node.control_address(device), message, timeout_s=ACTIVATE_TIMEOUT_S))


async def _switch(node: Node, plan: Plan, model: ModelRef, *, others: bool) -> None:
    """The stages, and who holds no layer; who does not hear of it now learns of the plan from the next pong."""
    told = [peer for peer in node.members.alive() if others or plan.stage_of(peer.id) is not None]

    async def tell(address: str, name: str) -> None:
        try:
            message = Activate(plan=plan, model=model)
            await node.parts.control.request(address, message, timeout_s=ACTIVATE_TIMEOUT_S)
        except ExoError as exc:
            node.problems.note(f"activate {name}", f"{name} has not switched to the new plan yet: {exc}")
        else:
            node.problems.settle(f"activate {name}")

    await asyncio.gather(*(tell(peer.control, peer.card.device.name) for peer in told))


async def unload(node: Node, model: str) -> None:
    """Have every node forget a model."""
    await _tell_all(node, Unload(model=model), [peer.control for peer in node.members.alive()])
    node.forget(model, None, "")


async def _free(node: Node, plan: Plan) -> None:
    addresses = [node.control_address(device) for device in plan.devices if device in reachable(node)]
    await _tell_all(node, Unload(model=plan.model, epoch=plan.epoch, proposer=plan.proposer), addresses)


def reachable(node: Node) -> set[str]:
    """Ids of this node and of every peer that is not lost."""
    return {node.id, *(peer.id for peer in node.members.alive())}


def residents(node: Node) -> set[str]:
    """Ids of those of them that may hold layers: who only visits may not."""
    return {device.id for device in node.topology.residents.devices}


async def _tell_all(node: Node, message: Unload, addresses: Sequence[str]) -> None:
    async def tell(address: str) -> None:
        try:
            await node.parts.control.request(address, message, timeout_s=UNLOAD_TIMEOUT_S)
        except ExoError as exc:
            node.problems.note(f"unload at {address}", f"{address} was told to unload and did not answer: {exc}")
        else:
            node.problems.settle(f"unload at {address}")

    await asyncio.gather(*(tell(address) for address in addresses))


def _first(failure: BaseException) -> BaseException:
    """The first error of a group of groups."""
    while isinstance(failure, BaseExceptionGroup):
        failure = cast("BaseExceptionGroup[BaseException]", failure).exceptions[0]
    return failure
