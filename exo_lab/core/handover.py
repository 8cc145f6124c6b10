"""What nodes say to each other when layers move and take KV caches along: data messages, see `core.messages`. Pure."""

from __future__ import annotations

import msgspec

from exo_lab.core.plan import Plan
from exo_lab.core.session import SessionSpec


class HandOver(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Forget attempt `ended`, and send its first cached positions to those who hold the layers in `plan`."""

    request: str  # the attempt that goes on with them
    ended: str
    plan: Plan
    positions: int
    spec: SessionSpec


class Cache(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The KV cache of one layer of a request that has moved, for its new stage; the tensor is as in `KvExport`."""

    request: str
    model: str
    epoch: int
    proposer: str
    layer: int
    spec: SessionSpec


class Adopted(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A stage has the whole cache of a request that has moved. Goes to the requester."""

    request: str
    node: str
