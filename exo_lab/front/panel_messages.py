"""What the JupyterLab side and the kernel say to each other, as two closed unions. Pure; opens nothing.

`labextension/src/types.ts` is generated from here and from `core`, so that there is one definition. A message is JSON:
the struct's fields and its tag in `type`. The front end sends a `PanelRequest` and gets exactly one `PanelAnswer` with
the same `id`; a `PanelEvent` comes unasked. A front end asks something at least every `RENEW_S`: who is silent for
`SILENT_S` is let go, because a page that is reloaded says no goodbye. A figure that nobody knows is null and is not
shown.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from exo_lab.core.plan import Plan
from exo_lab.core.status import ClusterStatus, GenerationStats, TokenEvent
from exo_lab.core.topology import Link

PANEL_PROTOCOL = 2
TARGET = "exo_lab.panel"  # the comm target that the kernel registers and the front end opens
VIEW_MIME = "application/vnd.exo-lab.view+json"  # a view in an output, see `OutputView`
CHARTS_MIME = "application/vnd.exo-lab.charts+json"  # live charts, see `LiveCharts`
REQUEST_BYTES = 64 * 1024  # no request is larger
RENEW_S = 20
SILENT_S = 60

Short = Annotated[str, msgspec.Meta(max_length=200)]
Count = Annotated[int, msgspec.Meta(ge=0, le=100_000)]
RequestId = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """Tagged by `type`."""


class _Request(_Message, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`id` is repeated in the answer."""

    id: RequestId


# -- from the front end ------------------------------------------------------------------------------------


class PlanChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change of a loaded model's plan, made by hand or by a strategy.

    `epoch` is that of the plan which the person saw; a kernel that has a newer one refuses. `devices` are ids in ring
    order. `layers` are layers per device, 0 for one that is left out; null lets `strategy` decide. Memory is asked for
    `context_tokens`, or for the context that the model was loaded for where that is more.
    """

    model: Short
    epoch: Annotated[int, msgspec.Meta(ge=0)]
    devices: Annotated[tuple[Short, ...], msgspec.Meta(min_length=1, max_length=1000)]
    layers: Annotated[tuple[Count, ...], msgspec.Meta(max_length=1000)] | None = None
    strategy: Short = ""
    context_tokens: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] = 2048


class WhatIf(_Request, frozen=True, kw_only=True, tag="what-if"):
    """What would this change do? Answered by `Predicted`; nothing moves."""

    change: PlanChange


class Apply(_Request, frozen=True, kw_only=True, tag="apply"):
    """Make this change. Answered by `Applied` when every node has switched; `LoadProgress` comes meanwhile."""

    change: PlanChange


class StopGeneration(_Request, frozen=True, kw_only=True, tag="stop"):
    """End a generation on every node; all of them with `request` null. Answered by `Stopped`."""

    request: Short | None = None


class Refresh(_Request, frozen=True, kw_only=True, tag="refresh"):
    """Say again how things are. Answered by `StatusEvent`, as an event, and `Acknowledged`."""


class AcknowledgeAlert(_Request, frozen=True, kw_only=True, tag="acknowledge-alert"):
    """Somebody has seen this alert. Answered by `Acknowledged` when its node knows."""

    alert: Short


PanelRequest = WhatIf | Apply | StopGeneration | Refresh | AcknowledgeAlert


# -- answers -----------------------------------------------------------------------------------------------


class DevicePrediction(msgspec.Struct, frozen=True, kw_only=True):
    """One device under a plan. `memory_needed_bytes`: weights, KV cache for the context, and working space."""

    device: str
    layers: int
    memory_needed_bytes: int | None = None
    memory_available_bytes: int | None = None
    stage_s: float | None = None  # computing one token


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """What the cost model says of a plan. With `fits` false, `reason` says what is short by how much.

    `origin` says where the coefficients come from: "measured", "chip table", "assumed", or a mix in words.
    """

    devices: tuple[DevicePrediction, ...]
    fits: bool = True
    reason: str = ""
    tokens_per_s: float | None = None
    ttft_s: float | None = None
    prompt_tokens: int | None = None  # the prompt that `ttft_s` is for
    context_tokens: int | None = None  # of prompt and answer, for which memory was asked
    strategy: str = "manual"
    origin: str = ""
    notes: tuple[str, ...] = ()


class Predicted(_Message, frozen=True, kw_only=True, tag="predicted"):
    """Answers `WhatIf`."""

    id: str
    prediction: Prediction


class Applied(_Message, frozen=True, kw_only=True, tag="applied"):
    """Answers `Apply`: the plan that every node now has, with its epoch."""

    id: str
    plan: Plan


class Stopped(_Message, frozen=True, kw_only=True, tag="stopped"):
    """Answers `StopGeneration`: how many generations were running and are told to end."""

    id: str
    count: int


class Acknowledged(_Message, frozen=True, kw_only=True, tag="acknowledged"):
    """Answers `Refresh` and `AcknowledgeAlert`."""

    id: str


class Problem(_Message, frozen=True, kw_only=True, tag="problem"):
    """It did not work: the error's class name and its text. `id` is null when the request had none that can be read."""

    id: str | None
    error: str
    message: str


PanelAnswer = Predicted | Applied | Stopped | Acknowledged | Problem


# -- events ------------------------------------------------------------------------------------------------


class StatusEvent(_Message, frozen=True, kw_only=True, tag="status"):
    """How things are. `status` is null while the kernel is no node; the rest is then empty."""

    protocol: int = PANEL_PROTOCOL
    software: str = ""
    status: ClusterStatus | None = None
    links: tuple[Link, ...] = ()
    strategies: tuple[str, ...] = ()
    default_strategy: str = ""
    predicts: bool = False  # is there a cost model to answer `WhatIf` with figures?


class GenerationStart(_Message, frozen=True, kw_only=True, tag="generation-start"):
    """A generation began on a plan; `devices` are its stages in order."""

    request: str
    model: str
    epoch: int
    devices: tuple[str, ...]
    prompt_tokens: int = 0


class GenerationMoved(_Message, frozen=True, kw_only=True, tag="generation-moved"):
    """A generation goes on over another plan: a stage was lost, or layers were moved. `index`: of its next token."""

    request: str
    epoch: int
    devices: tuple[str, ...]
    index: int


class TokensEvent(_Message, frozen=True, kw_only=True, tag="tokens"):
    """Tokens that came since the last such event, in order."""

    request: str
    tokens: tuple[TokenEvent, ...]


class GenerationEnd(_Message, frozen=True, kw_only=True, tag="generation-end"):
    """It is over, with its measured figures."""

    stats: GenerationStats


class LoadProgress(_Message, frozen=True, kw_only=True, tag="load-progress"):
    """A node loads its layers: `done` of `total` bytes (0: unknown). `node` is its name."""

    node: str
    done: int
    total: int
    what: str = ""


class Goodbye(msgspec.Struct, frozen=True, kw_only=True):
    """What the kernel's closing of the comm says. Who was only `silent` may open another at once."""

    reason: Literal["unloaded", "silent"]


PanelEvent = StatusEvent | GenerationStart | GenerationMoved | TokensEvent | GenerationEnd | LoadProgress


# -- in an output ------------------------------------------------------------------------------------------


class PastAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer whose heatmap is in an output: its latest tokens, with timings, and its figures."""

    tokens: tuple[TokenEvent, ...]
    stats: GenerationStats


class OutputView(msgspec.Struct, frozen=True, kw_only=True):
    """A view in a cell's output: what to show, and a picture of that moment for when there is no kernel.

    With the extension and a living kernel the view is live; with the extension alone it shows `snapshot`; without
    either, the reader sees the SVG or HTML beside it in the same output. A heatmap has an `answer`; it goes on to the
    kernel's later answers if it is to `follow`.
    """

    view: Literal["topology", "placement", "generation", "heatmap"]
    snapshot: StatusEvent
    answer: PastAnswer | None = None
    follow: bool = False


class LiveCharts(msgspec.Struct, frozen=True, kw_only=True):
    """Live charts in a cell's output, beside the widget that draws them: the version of the BokehJS that it needs."""

    bokeh: str
