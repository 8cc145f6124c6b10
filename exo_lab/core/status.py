"""What a person is shown: frozen pictures of a cluster and of a generation at one moment.

`cluster.py` makes them, `front/views.py` draws them. A figure that was not measured is None and is not shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from exo_lab.core.device import Device
from exo_lab.core.messages import FinishReason, StageTiming
from exo_lab.core.model import ModelConfig
from exo_lab.core.plan import Plan
from exo_lab.core.telemetry import Alert, Forecast
from exo_lab.core.topology import LinkKind

if TYPE_CHECKING:
    from collections.abc import Iterable

Liveness = Literal["alive", "suspect", "lost"]


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One node as seen from here. `latency_s` is one way, half of a round trip; `seen_s_ago` since it last spoke.

    `link` is the kind of link that joins it with this node; None for this node itself.
    """

    device: Device
    liveness: Liveness = "alive"
    is_self: bool = False
    address: str = ""
    latency_s: float | None = None
    link: LinkKind | None = None
    seen_s_ago: float | None = None
    load: float | None = None  # CPU load in [0, 1]
    memory_available_bytes: int | None = None
    compute: float | None = None  # FLOPs computed of those that it could, in [0, 1], over its last few seconds
    temperature_c: float | None = None  # of its hottest sensor
    low_power: bool = False  # it is pinged seldom, so its loss would be noticed later
    how_found: str = ""  # "loopback registry", "peers.toml", ...


def residents(nodes: Iterable[NodeStatus]) -> tuple[NodeStatus, ...]:
    """The nodes without those that only visit, whether they are still there or not."""
    return tuple(node for node in nodes if not node.device.visits)


class LinkMoment(msgspec.Struct, frozen=True, kw_only=True):
    """What a link was at a time. `at_s`: since the epoch (UTC); latency one way; None where it was not measured yet."""

    at_s: float
    latency_s: float
    bandwidth_bytes_per_s: float | None = None


class LoadedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model that is ready to answer, with the plan that every node agreed on."""

    config: ModelConfig
    plan: Plan


class ClusterStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Everything `%exo status` shows, at `at_s` (seconds since the epoch). `refused` counts what was turned away."""

    name: str
    node_id: str
    at_s: float = 0.0
    bind: str = "127.0.0.1"
    nodes: tuple[NodeStatus, ...] = ()
    models: tuple[LoadedModel, ...] = ()
    sessions: int = 0
    kept_bytes: int = 0  # of prompts before, here, for others that begin alike
    reused_tokens: int = 0  # of prompts, taken from that
    refused: dict[str, int] = {}
    problems: tuple[str, ...] = ()  # sentences: what is wrong and what to do
    alerts: tuple[Alert, ...] = ()  # of every node, oldest first
    forecasts: tuple[Forecast, ...] = ()  # of every node, the nearest first


class TokenEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One token of an answer. `text` is what it added to the text (may be empty while a character is incomplete).

    `at_s` is seconds since the request was sent. `alternatives` are (text, logprob), best first.
    """

    index: int
    token: int
    text: str
    logprob: float
    at_s: float
    alternatives: tuple[tuple[str, float], ...] = ()
    timings: tuple[StageTiming, ...] = ()


class GenerationStats(msgspec.Struct, frozen=True, kw_only=True):
    """Measured figures of one generation.

    `ttft_s`: time to first token, from the call. `tokens_per_s`: decode rate, (tokens - 1) / (last - first);
    None with fewer than two tokens. `prefill_tokens_per_s`: prompt tokens that were computed / ttft.
    `stage_compute_s`: seconds computed per stage over the whole request.
    """

    request: str
    model: str
    plan: Plan
    prompt_tokens: int
    prompt_tokens_reused: int = 0  # that were not computed, but kept of requests before
    tokens: int
    ttft_s: float | None = None
    total_s: float = 0.0
    tokens_per_s: float | None = None
    prefill_tokens_per_s: float | None = None
    stage_compute_s: tuple[tuple[str, float], ...] = ()  # (node id, seconds)
    finish: FinishReason | None = None
    notices: tuple[str, ...] = ()  # sentences for the user: a node was lost, ...


class PlanPreview(msgspec.Struct, frozen=True, kw_only=True):
    """A plan that was made and not loaded. `devices` are those of the cluster, used or not."""

    config: ModelConfig
    plan: Plan
    devices: tuple[Device, ...] = ()
