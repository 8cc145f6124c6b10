"""When will a reading that grows reach its threshold? A robust trend of the last minutes, with an interval.

The slope is the median of the slopes between all pairs of readings (Theil 1950, Sen 1968: up to 29 % of outliers do not
move it), its interval Sen's, by Kendall's variance, widened where residuals follow each other. Growth that slows down
is continued as a damped trend (Gardner and McKenzie 1985): what levels off below the threshold is no warning. A reading
that has turned around before, again and again, is no warning until it is higher than it turned then.

numpy only. Pure: it has no clock, and asks nobody.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from exo_lab.core.telemetry import Forecast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.core.telemetry import Quantity, Sample
    from exo_lab.core.watching import Rule

WINDOWS_S = (120.0, 300.0)  # of readings that the trend is of; the second where the first is lost in noise
KEPT_S = 900.0  # of readings in which earlier turns are looked for
HORIZON_S = 180.0  # what is further away is not foreseen
READINGS = 16  # that a window has, if they come so seldom that it must be longer for that
FEWEST = 8  # readings that make a trend
MOST = 60  # readings of a window that are used: pairs grow with their square
CONFIDENCE = 0.9
GROWTH = 4.0  # a trend grows by so many times the noise within its window
STEADY = 0.85  # of its older half's slope: what its newer half must have to be no damped trend
HIGHER = 0.1  # of its rise: so far above earlier turns a reading must be to be taken for higher
# What levels off by its nature (Newton's law of cooling): of its slope no more than this is left after half a window.
LEVELS_OFF: dict[Quantity, float] = {"temperature": 0.75}

_Z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)


class Trend(NamedTuple):
    """`level`: of the line at its last reading; slopes in units a second; `noise`: standard deviation around it."""

    level: float
    slope: float
    low: float
    high: float
    noise: float


def trend(at_s: np.ndarray, values: np.ndarray) -> Trend:
    """The trend of readings (n,) at times (n,), which rise. At least four of them."""
    first, second = np.triu_indices(len(at_s), 1)
    slopes = np.sort((values[second] - values[first]) / (at_s[second] - at_s[first]))
    slope = float(np.median(slopes))
    residuals = values - slope * (at_s - at_s[-1])
    level = float(np.median(residuals))
    residuals = residuals - level
    noise = 1.4826 * float(np.median(np.abs(residuals)))
    return Trend(level, slope, *_interval(slopes, len(at_s), _independent(residuals)), noise)


def _interval(slopes: np.ndarray, count: int, independent: float) -> tuple[float, float]:
    """Sen's interval of the median of sorted slopes; `independent`: readings that count as such, at most `count`."""
    reach = _Z * math.sqrt(count * (count - 1) * (2 * count + 5) / 18 * count / independent)
    low = math.floor((len(slopes) - reach) / 2)
    high = math.ceil((len(slopes) + reach) / 2)
    return float(slopes[max(low, 0)]), float(slopes[min(high, len(slopes) - 1)])


def _independent(residuals: np.ndarray) -> float:
    """As how many independent readings these count, by the correlation of each with the next."""
    count, power = len(residuals), float(residuals @ residuals)
    if power <= 0:
        return count
    following = min(max(float(residuals[1:] @ residuals[:-1]) / power, 0.0), 0.95)
    return max(3.0, count * (1 - following) / (1 + following))


def _lead_s(gap: float, slope: float, keeps: float, half_s: float) -> float:
    """Seconds until growth fills a gap; `keeps`: how much of its slope is left after each `half_s`. May be infinite."""
    if gap <= 0:
        return 0.0
    if slope <= 0:
        return math.inf
    if keeps >= 1:
        return gap / slope
    rate = -math.log(keeps) / half_s if keeps > 0 else math.inf
    left = 1 - gap * rate / slope  # growth until t: slope / rate x (1 - exp(-rate t))
    return -math.log(left) / rate if left > 0 and math.isfinite(rate) else math.inf


def blocks(samples: Sequence[Sample], most: int) -> tuple[np.ndarray, np.ndarray]:
    """At most so many times and values, each the middle of a block of readings: one that stands out is gone."""
    size = -(-len(samples) // most)
    spare = len(samples) % size  # the oldest: the latest block is whole
    at_s = np.array([one.at_s for one in samples])[spare:].reshape(-1, size)
    values = np.array([one.value for one in samples])[spare:].reshape(-1, size)
    return at_s.mean(axis=1), np.median(values, axis=1)


def turned_at(values: Sequence[float] | np.ndarray, rise: float) -> list[float]:
    """The highest of each ascent of at least `rise` that was followed by a descent of at least half of that."""
    found: list[float] = []
    low = high = values[0]
    for value in values:
        high = max(high, value)
        if high - low >= rise and high - value >= rise / 2:
            found.append(float(high))
            low = high = value
        elif value < low:
            low = high = value
    return found


def foresee(node: str, rule: Rule, samples: Sequence[Sample]) -> Forecast | None:
    """What the readings of one thing, oldest first, foretell; None if nothing.

    Args:
        node: whose readings they are.
        rule: with the threshold.
        samples: of the last `KEPT_S`.
    """
    if len(samples) < FEWEST:
        return None
    latest = samples[-FEWEST:]
    if min(one.value for one in latest[-3:]) > rule.threshold:
        return None  # it is there already
    fewest_s = READINGS * (latest[-1].at_s - latest[0].at_s) / (FEWEST - 1)
    found = (_within(max(window_s, fewest_s), node, rule, samples) for window_s in WINDOWS_S)
    return next((one for one in found if one is not None), None)


def _within(length_s: float, node: str, rule: Rule, samples: Sequence[Sample]) -> Forecast | None:
    """What the trend of the latest `length_s` foretells."""
    now = samples[-1]
    recent = [one for one in samples if one.at_s >= now.at_s - length_s]
    if len(recent) < FEWEST:
        return None
    at_s, values = blocks(recent, MOST)
    whole, half = trend(at_s, values), len(at_s) // 2
    window_s = float(at_s[-1] - at_s[0])
    if whole.low <= 0 or whole.slope * window_s < GROWTH * whole.noise or whole.level > rule.threshold:
        return None
    older, newer = trend(at_s[:half], values[:half]), trend(at_s[half:], values[half:])
    if newer.slope <= 0:
        return None
    keeps = min(1.0, newer.slope / older.slope) if older.slope > 0 else 1.0
    levels_off = LEVELS_OFF.get(now.quantity, 1.0)
    keeps = min(keeps, levels_off)
    if keeps >= STEADY:
        keeps, line = 1.0, whole if newer.low <= whole.slope <= newer.high else newer
        slope = line.slope
    else:
        line, slope = newer, newer.slope * math.sqrt(keeps)  # its slope is that of its middle
    if float(np.median(values[-3:])) < (line.level + float(values.min())) / 2:
        return None  # it has turned around just now
    # It stays above the threshold once the line is above it by the noise.
    gap = rule.threshold + line.noise - line.level
    lead_s = _lead_s(gap, slope, keeps, window_s / 2)
    if lead_s > HORIZON_S or _turns(samples, rule, line.level, values):
        return None
    soonest_s = _lead_s(gap - 2 * line.noise, max(line.high, slope), 1.0, window_s / 2)
    latest_s = _lead_s(gap + 2 * line.noise, min(line.low, slope), keeps * levels_off, window_s / 2)
    return Forecast(
        node=node,
        quantity=now.quantity,
        about=now.about,
        value=now.value,
        threshold=rule.threshold,
        made_at_s=now.at_s,
        lead_s=lead_s,
        soonest_s=min(soonest_s, lead_s),
        latest_s=max(latest_s, lead_s) if latest_s <= 2 * HORIZON_S else None,
        confidence=CONFIDENCE,
    )


def _turns(samples: Sequence[Sample], rule: Rule, level: float, values: np.ndarray) -> bool:
    """Has it risen like this and turned around before, so that it will turn below the threshold again?"""
    past = np.array([one.value for one in samples])
    past = np.median(np.lib.stride_tricks.sliding_window_view(past, 3), axis=1)  # one that stands out is no turn
    noise = 1.4826 * float(np.median(np.abs(np.diff(values))))
    rise = level - float(values.min())
    tops = turned_at(past, max(rise / 2, GROWTH * noise))
    if not tops:
        return False
    climbs = max(0.0, (tops[-1] - tops[0]) / max(1, len(tops) - 1))
    next_top = max(tops) + climbs
    return next_top < rule.threshold and level <= next_top + 2 * noise + HIGHER * rise
