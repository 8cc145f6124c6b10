"""How long a model takes on a device, as measured there: what nodes tell each other and plans are priced with."""

from __future__ import annotations

import msgspec


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of one model on one device, in seconds; None where it was not.

    `layer_s`: one layer, one position (mean over layers), with an empty cache; `attend_s`: what each cached position
    adds to that. `prefill_layer_s`: one layer, one position of a prompt. `overhead_s`: one step beyond its layers.
    `embedding_s`, `head_s`: what the first and last stage do besides, for one position. An emulated device's slowdown
    is in these figures already.
    """

    layer_s: float | None = None
    attend_s: float | None = None
    prefill_layer_s: float | None = None
    overhead_s: float | None = None
    embedding_s: float | None = None
    head_s: float | None = None


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """A node's measurements of one model: `digest` of its weights, `dtype` and `engine` as the plan asked for them."""

    digest: str
    dtype: str
    engine: str
    measured: Measured
