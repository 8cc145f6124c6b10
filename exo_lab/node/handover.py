"""The KV caches of requests whose layers move: given away by the old stages, put together by the new ones.

Owned by the data thread. Knows no sockets: it returns what is to be sent. Whatever goes wrong is told to the requester,
which then replays: a cache that does not arrive costs time and no token.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from exo_lab.core.errors import ExoError, FrameError, GenerationError, NodeError, NodeLost, PlanError, StaleEpoch
from exo_lab.core.messages import Adopted, Cache, HandOver
from exo_lab.engines.base import KvExport
from exo_lab.node.holds import PlanKey
from exo_lab.node.outgoing import ToAddress, ToNode, failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_lab.core.tensor import Tensor
    from exo_lab.node.holds import Hold
    from exo_lab.node.shelf import Shelf

log = logging.getLogger(__name__)

MAX_ARRIVING = 64  # requests whose caches are coming in
SILENCE_S = 60.0  # between two layers of one; the requester does not wait so long, and then frees it
DTYPES = ("float32", "bfloat16")

Outgoing = list[ToNode | ToAddress]


class _Arriving:
    """A cache that is coming in, layer by layer, for the node that asked."""

    def __init__(self, requester: str, now: float) -> None:
        self.requester, self.moved_at = requester, now
        self.layers: dict[int, Tensor] = {}


class Handovers:
    """See the module.

    Args:
        node: this node's id.
        shelf: its shards and sessions.
        drop: forgets the steps of a request that wait to be computed.
        clock: seconds, monotonic.
    """

    def __init__(
        self, node: str, shelf: Shelf, drop: Callable[[str], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._node, self._shelf, self._drop, self._clock = node, shelf, drop, clock
        self._arriving: dict[str, _Arriving] = {}

    def handle(self, message: HandOver | Cache, tensor: Tensor | None) -> Outgoing:
        """What is to be sent because of a message. Whatever goes wrong is told to the requester; nothing is raised."""
        try:
            return self._give(message) if isinstance(message, HandOver) else self._take(message, tensor)
        except Exception as exc:
            self.forget(message.request)
            self._shelf.end(message.request)
            if not isinstance(exc, ExoError):
                log.exception("node %s: a cache of %s could not be moved", self._node, message.request)
            replayable = not isinstance(exc, PlanError | GenerationError | StaleEpoch)  # these would come again
            return [failure(message.request, message.spec, NodeLost(str(exc)) if replayable else exc, self._node)]

    def forget(self, request: str) -> None:
        """It is not wanted any more."""
        self._arriving.pop(request, None)

    def end_of_node(self, node: str) -> None:
        """A node is gone, and with it what it asked for."""
        self._arriving = {request: one for request, one in self._arriving.items() if one.requester != node}

    def tend(self) -> None:
        """Forget what comes no more. Takes no time if nothing is coming in."""
        if self._arriving:
            limit = self._clock() - SILENCE_S
            self._arriving = {request: one for request, one in self._arriving.items() if one.moved_at >= limit}

    def _give(self, order: HandOver) -> Outgoing:
        self._drop(order.ended)
        session = self._shelf.session(order.ended)
        if session is None:
            raise NodeLost(f"node {self._node} has no cache of {order.ended} any more")
        kv = session.hold.engine.export_kv(order.ended)
        self._shelf.end(order.ended)
        owners = [
            device
            for device, shard in zip(order.plan.devices, order.plan.shards, strict=True)
            for _ in range(len(shard))
        ]
        if kv.start + len(kv.layers) > len(owners):
            raise FrameError(f"a plan of {len(owners)} layers for a cache that has more")
        found: Outgoing = []
        for layer, tensor in enumerate(kv.layers, kv.start):
            cache = Cache(
                request=order.request,
                model=order.plan.model,
                epoch=order.plan.epoch,
                proposer=order.plan.proposer,
                layer=layer,
                spec=order.spec,
            )
            found.append(ToNode(owners[layer], cache, _first(tensor, order.positions)))
        return found

    def _take(self, part: Cache, tensor: Tensor | None) -> Outgoing:
        if self._shelf.is_ended(part.request) or self._shelf.session(part.request) is not None:
            return []  # it came twice, or too late
        hold = self._shelf.hold(PlanKey(part.model, part.epoch, part.proposer))
        if hold is None:
            raise StaleEpoch(f"node {self._node} does not hold {part.model} epoch {part.epoch}; the plan has changed")
        layer = _checked(part, tensor, hold)
        arriving = self._arriving.get(part.request)
        if arriving is None:
            if len(self._arriving) >= MAX_ARRIVING:
                raise NodeError(f"node {self._node} takes over {MAX_ARRIVING} requests already; replay this one")
            arriving = self._arriving[part.request] = _Arriving(part.spec.requester, self._clock())
        arriving.moved_at = self._clock()
        arriving.layers[part.layer] = layer
        shard = hold.plan.shards[hold.stage]
        if len(arriving.layers) < len(shard):
            return []
        self.forget(part.request)
        positions = {one.shape[0] for one in arriving.layers.values()}
        if len(positions) != 1:
            raise FrameError(f"the layers of {part.request} came with {sorted(positions)} positions")
        session = self._shelf.open(part.request, part.spec, hold)
        layers = tuple(arriving.layers[number] for number in range(shard.start, shard.end))
        hold.engine.import_kv(part.request, KvExport(shard.start, layers))
        self._shelf.computed(session, positions.pop())
        return [ToAddress(part.spec.requester, part.spec.reply_to, Adopted(request=part.request, node=self._node))]


def _checked(part: Cache, tensor: Tensor | None, hold: Hold) -> Tensor:
    """The tensor of a layer, if it fits the model. FrameError if not."""
    config, shard = hold.config, hold.plan.shards[hold.stage]
    if not shard.start <= part.layer < shard.end:
        raise FrameError(f"the cache of layer {part.layer} came to who holds {shard.start} to {shard.end - 1}")
    inner = (2, config.n_kv_heads, config.head_dim)
    rows = tensor.shape[0] if tensor is not None and tensor.shape else 0
    if tensor is None or tensor.dtype not in DTYPES or tensor.shape[1:] != inner:
        raise FrameError(f"the cache of a layer is float32 or bfloat16 (positions, {', '.join(map(str, inner))})")
    if not 0 < rows < min(part.spec.total_tokens, config.context_length):
        raise FrameError(f"a cache of {rows} positions for a request of {part.spec.total_tokens}")
    return tensor


def _first(tensor: Tensor, rows: int) -> Tensor:
    """The first rows."""
    if not 0 < rows <= tensor.shape[0]:
        raise NodeError(f"a cache holds {tensor.shape[0]} positions, {rows} are needed")
    return tensor.rows(0, rows)
