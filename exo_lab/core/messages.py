"""Everything that nodes say to each other, as two closed unions. One definition gives the wire and the types.

Control messages travel request -> one or more replies (asyncio side); data messages travel one way along the
ring (data thread) and may carry one `Tensor`. Nothing here opens a socket.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from exo_lab.core.device import Device
from exo_lab.core.events import Events, GetEvents
from exo_lab.core.handover import Adopted, Cache, HandOver
from exo_lab.core.pace import Pace
from exo_lab.core.plan import Plan
from exo_lab.core.probe import Probed, ProbeLinks
from exo_lab.core.session import SessionSpec, StageTiming
from exo_lab.core.telemetry import Series, Vitals
from exo_lab.core.topology import Topology
from exo_lab.core.weights_messages import WeightsMessage

PROTOCOL_VERSION = 1

FinishReason = Literal["stop", "length", "cancelled", "error"]


class NodeCard(msgspec.Struct, frozen=True, kw_only=True):
    """How a node introduces itself. `signature` is Ed25519 over the card encoded with an empty signature.

    `device.id` is derived from `public_key`, so nobody can take another's id. `version` rises with every
    change of the card. Addresses are ZeroMQ endpoints, e.g. `tcp://127.0.0.1:43211`. `heartbeat_s`: it is to be
    pinged that seldom, to save its battery; 0: as everybody.
    """

    device: Device
    control: str
    data: str
    public_key: bytes = b""
    signature: bytes = b""
    version: int = 0
    protocol: int = PROTOCOL_VERSION
    software: str = ""
    pid: int = 0
    host: str = ""
    heartbeat_s: float = 0.0


class ModelRef(msgspec.Struct, frozen=True, kw_only=True):
    """Which weights: a name that every node resolves for itself, and the digest that what it finds must have."""

    name: str
    digest: str


# -- control ---------------------------------------------------------------------------------------------


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Introduce myself; answered by the other's `Hello`."""

    card: NodeCard


class Ping(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Are you there? Answered by `Pong`. `payload` is echoed for bandwidth probes (at most 1 MiB)."""

    sequence: int
    payload: bytes = b""


class Pong(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """I am. `load` is CPU load in [0, 1]; `memory_available_bytes` is fresh; `card_version` tells of changes."""

    sequence: int
    payload: bytes = b""
    load: float = 0.0
    memory_available_bytes: int = 0
    card_version: int = 0
    plans: tuple[tuple[str, int, str], ...] = ()  # (model, epoch, proposer) that this node has active
    paces: tuple[Pace, ...] = ()  # what it measured of the models that it held
    busy: bool = False  # it loads a model: its next answer may take longer
    vitals: Vitals = Vitals()


class Leave(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """I am going, on purpose."""

    node: str


class Collect(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What do you and your neighbours know? Nodes in `visited` are not asked again; depth counts down to 0."""

    visited: tuple[str, ...]
    max_depth: int = 4


class Collected(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The answer to `Collect`."""

    topology: Topology
    visited: tuple[str, ...]


class LoadShard(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Load stage `stage` of `plan`; answered by `Progress`* then `Done`."""

    plan: Plan
    stage: int
    model: ModelRef


class Activate(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Every stage is loaded: from now on this is the model's plan.

    Without `switch` that is still to come: only take what is loaded into use, so that steps of the plan can come.
    """

    plan: Plan
    model: ModelRef
    switch: bool = True


class Unload(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Forget a plan and free its weights. With `epoch` None: every plan of the model."""

    model: str
    epoch: int | None = None
    proposer: str = ""


class GetPlans(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Which plans are active? Answered by `Plans`. A node that joins asks this."""


class Plans(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The active plans of a node."""

    plans: tuple[Plan, ...]
    models: tuple[ModelRef, ...]


class GetStats(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """How are you? Answered by `Stats`."""


class Stats(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A node's counters at this moment."""

    sessions: int = 0
    kv_bytes: int = 0
    kept_bytes: int = 0  # of prompts before, for others that begin alike
    weight_bytes: int = 0
    rss_bytes: int = 0
    counters: dict[str, int] = {}


class GetHistory(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What did you measure from `since_s` on (seconds since the epoch)? Answered by `History`."""

    since_s: float
    quantities: tuple[str, ...]


class History(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A node's measurements, thinned out where they are many."""

    series: tuple[Series, ...]


class Acknowledge(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Somebody has seen an alert of yours."""

    alert: str


class Progress(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """`done` of `total` bytes (total 0: unknown), with a word on what is being done."""

    done: int
    total: int
    what: str = ""


class Done(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """It worked. `bytes` of weights are now in memory; it took `seconds`."""

    bytes: int = 0
    seconds: float = 0.0
    detail: str = ""


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """It did not work: the error's class name and text, see `errors.from_wire`."""

    error: str
    message: str
    node: str = ""


ControlMessage = (
    Hello | Ping | Pong | Leave | Collect | Collected | LoadShard | Activate | Unload
    | GetPlans | Plans | GetStats | Stats | GetHistory | History | Acknowledge
    | ProbeLinks | Probed | GetEvents | Events | Progress | Done | Refused | WeightsMessage
)  # fmt: skip


# -- data ------------------------------------------------------------------------------------------------


class Step(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Run the next positions of a request through stage `stage`. Carries a tensor.

    The tensor is int32 tokens (n,) for stage 0, else hidden states (n, hidden). `position` is that of the
    first. `final` is false for the chunks of a prompt before its last one: they produce no token. The tokens of the
    last positions may be `guesses`: what of them counts is known when the last stage has seen them. `prefix` names what
    the prompt holds up to the end of this chunk (see `core.prefix`); without a tensor, the step is for a stage to take
    its positions from what it kept under that name.
    """

    request: str
    model: str
    epoch: int
    proposer: str
    stage: int
    position: int
    final: bool = True
    guesses: tuple[int, ...] = ()
    prefix: bytes = b""
    spec: SessionSpec | None = None
    timings: tuple[StageTiming, ...] = ()


class Token(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The last stage chose `token` for `position`. Goes to the requester.

    `logprob` is natural log of the model's probability before any filter; `alternatives` are
    (token, logprob), best first, as many as `SamplingParams.logprobs`. `reused`: positions that were not computed for
    this request, told with its first token. `more`: the next token is there too, of the same step.
    """

    request: str
    position: int
    token: int
    logprob: float
    finish: FinishReason | None = None
    alternatives: tuple[tuple[int, float], ...] = ()
    timings: tuple[StageTiming, ...] = ()
    reused: int = 0
    more: bool = False


class Cancel(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Forget this request everywhere. Safe to send twice, or for a request never heard of."""

    request: str


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A stage could not go on with a request. Goes to the requester.

    `blamed` is the node that could not do its part, as `node`, which tells it, sees it; "": `node` itself.
    """

    request: str
    error: str
    message: str
    node: str
    blamed: str = ""


class Lacks(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A stage does not keep what those before it do, but for `positions`. Goes to the requester, which begins again."""

    request: str
    positions: int
    node: str


class Echo(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Send this back: how a data thread measures the way to another. May carry a tensor, which does not come back.

    `stamp` tells the asker which one it was. `prompt`, on the way back: it did not have to wait for a step that was
    being computed. Of no request: `request` is empty.
    """

    node: str  # who asks
    stamp: int
    back: bool = False
    prompt: bool = True
    request: str = ""


DataMessage = Step | Token | Cancel | HandOver | Cache | Adopted | Failed | Lacks | Echo
