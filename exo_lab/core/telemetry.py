"""What nodes measure of themselves over time, and what follows from it: samples, alerts, forecasts. Pure values.

Times are seconds since the epoch (UTC). `about` says what of a node is meant: a peer's id for a link's figures, a place
("cpu", "cuda:0") for temperature and load, empty for the node as a whole.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import msgspec

# compute, memory, load: shares in [0, 1]; latency: seconds one way; bandwidth: bytes/s; temperature: degrees Celsius.
Quantity = Literal["compute", "memory", "latency", "bandwidth", "temperature", "load"]
QUANTITIES: tuple[str, ...] = get_args(Quantity)
AlertState = Literal["raised", "acknowledged", "cleared", "lost"]

MAX_TOLD = 64  # samples, alerts, forecasts that one node is believed at a time
MAX_NAME = 64  # characters of an id


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """One reading. What could not be read is no sample: a sensor that is missing is absent, and not 0."""

    at_s: float
    quantity: Quantity
    value: float
    about: str = ""


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """Readings of one thing, oldest first: (seconds since the epoch, value). Older ones are means of a minute."""

    quantity: Quantity
    about: str = ""
    points: tuple[tuple[float, float], ...] = ()


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """Something has been above its threshold for long enough. `node` is the id of who noticed it, of itself.

    `since_s` is when it went above, `value` the latest reading. `id` is what one acknowledges it by. `state` is
    "cleared" once it is over, and "lost" where nobody can tell: a node that it is of, or about, is not there any more.
    """

    id: str
    node: str
    quantity: Quantity
    about: str = ""
    value: float
    threshold: float
    since_s: float
    state: AlertState = "raised"


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """A prediction: a reading that grows reaches its threshold `lead_s` after `made_at_s`, if it goes on like this.

    With probability `confidence` between `soonest_s` and `latest_s` (None: later than the forecast looks).
    """

    node: str
    quantity: Quantity
    about: str = ""
    value: float
    threshold: float
    made_at_s: float
    lead_s: float
    soonest_s: float
    latest_s: float | None = None
    confidence: float = 0.9


class Vitals(msgspec.Struct, frozen=True, kw_only=True):
    """How a node is, as it tells its peers: the latest reading of each thing but links, its alerts, its forecasts."""

    samples: tuple[Sample, ...] = ()
    alerts: tuple[Alert, ...] = ()
    forecasts: tuple[Forecast, ...] = ()

    def value(self, quantity: Quantity, about: str | None = None) -> float | None:
        """The latest reading: of one place, or the highest of all places. None if nothing was read."""
        found = [one.value for one in self.samples if one.quantity == quantity and about in (None, one.about)]
        return max(found, default=None)


def warnings_of(vitals: Vitals) -> frozenset[tuple[str, ...]]:
    """Alerts with their states, and of what there are forecasts: without figures, which change all the time."""
    foreseen = {(one.quantity, one.about) for one in vitals.forecasts}
    return frozenset({*foreseen, *((one.id, one.state, one.quantity) for one in vitals.alerts)})


def thinned(series: Series, most: int) -> Series:
    """At most so many points, evenly taken, the latest among them."""
    points = series.points
    if len(points) <= most:
        return series
    kept = tuple(points[(one + 1) * len(points) // most - 1] for one in range(most))
    return msgspec.structs.replace(series, points=kept)


def believed(vitals: Vitals, node: str) -> Vitals:
    """What a peer tells, as far as it can be: finite figures, ids of bounded length, of itself and nobody else."""
    alerts = [
        msgspec.structs.replace(one, node=node)
        for one in vitals.alerts[:MAX_TOLD]
        if _named(one.id, one.about) and _finite(one.value, one.threshold, one.since_s)
    ]
    forecasts = [
        msgspec.structs.replace(one, node=node)
        for one in vitals.forecasts[:MAX_TOLD]
        if _named(one.about)
        and _finite(one.value, one.threshold, one.made_at_s, one.lead_s, one.soonest_s, one.latest_s or 0.0)
    ]
    samples = [one for one in vitals.samples[:MAX_TOLD] if _named(one.about) and _finite(one.at_s, one.value)]
    return Vitals(samples=tuple(samples), alerts=tuple(alerts), forecasts=tuple(forecasts))


def _named(*names: str) -> bool:
    return all(len(name) <= MAX_NAME for name in names)


def _finite(*figures: float) -> bool:
    return all(math.isfinite(figure) for figure in figures)
