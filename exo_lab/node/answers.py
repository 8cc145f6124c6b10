"""What a node answers to the others' control messages. Lives on the control loop; computes nothing."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from exo_lab.core import messages as msg
from exo_lab.core.errors import BadPlan, FrameError, ModelNotFound, NodeError, TransportError
from exo_lab.core.events import Events, GetEvents
from exo_lab.core.probe import ProbeLinks
from exo_lab.core.weights_messages import CheckWeights, FindWeights, ReadWeights
from exo_lab.node.collect import collect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from exo_lab.node.node import Node

MAX_PAYLOAD_BYTES = 1 << 20


async def answer(node: Node, message: msg.ControlMessage) -> AsyncIterator[msg.ControlMessage]:
    """The replies to a message. Cancelled when the asker goes away.

    Raises:
        ExoError: it cannot be done; the asker is told.
    """
    match message:
        case msg.Hello(card=card):
            if node.stopped:
                raise TransportError(f"node {node.id} is leaving the cluster")
            node.peers.hear(card, "said hello")
            yield msg.Hello(card=node.card)
        case msg.Ping(sequence=sequence, payload=payload):
            yield _pong(node, sequence, payload)
        case msg.Leave(node=peer):
            node.peers.left(peer)
            yield msg.Done()
        case msg.Collect(visited=visited, max_depth=max_depth):
            hop_s = node.timing.collect_s
            yield await collect(node.peers, node.parts.control, visited, max_depth, hop_timeout_s=hop_s)
        case msg.LoadShard():
            if node.device.visits:
                raise BadPlan(f"{node.device.name} is here for the length of a command and holds no layers")
            async with contextlib.aclosing(node.book.load(message)) as replies:
                async for reply in replies:
                    yield reply
        case msg.Activate(plan=plan, model=model, switch=switch):
            node.book.activate(plan, model, switch=switch)
            yield msg.Done()
        case msg.Unload(model=model, epoch=epoch, proposer=proposer):
            node.book.forget(model, epoch, proposer)
            yield msg.Done()
        case msg.GetPlans():
            plans = node.plans
            yield msg.Plans(plans=tuple(plans.values()), models=tuple(node.models[name] for name in plans))
        case msg.GetStats():
            yield node.stats()
        case msg.GetHistory(since_s=since_s, quantities=quantities):
            yield msg.History(series=await node.sensing.history(since_s, quantities))
        case msg.Acknowledge(alert=alert):
            if not node.sensing.acknowledge(alert):
                raise NodeError(f"{node.device.name} has no alert {alert} any more. See `%exo alerts`.")
            yield msg.Done()
        case GetEvents():
            yield Events(events=node.journal.events)
        case ProbeLinks():
            async with contextlib.aclosing(node.prober.probe(message)) as replies:
                async for reply in replies:
                    yield reply
        case FindWeights() | ReadWeights() | CheckWeights():
            if node.lender is None:
                raise ModelNotFound(f"node {node.id} gives no weights to others")
            yield await node.lender.answer(message)
        case _:
            raise TransportError(f"{type(message).__name__} is an answer, not a question")


def _pong(node: Node, sequence: int, payload: bytes) -> msg.Pong:
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise FrameError(f"a ping of {len(payload)} bytes; at most {MAX_PAYLOAD_BYTES} are echoed")
    return msg.Pong(
        sequence=sequence,
        payload=payload,
        load=node.load.value,
        memory_available_bytes=node.memory_available_bytes(),
        card_version=node.card.version,
        plans=node.book.offered,
        paces=node.paces.all,
        busy=node.book.loading,
        vitals=node.sensing.vitals,
    )
