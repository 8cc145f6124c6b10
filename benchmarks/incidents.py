"""Runs with incidents and without: made up from seeds, of many kinds, and recorded by nodes."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from exo_lab.core.telemetry import Sample
from exo_lab.core.watching import RULES, Watching

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_lab.core.telemetry import Quantity

RECORDED = Path(__file__).parent / "recorded"
RUN_S = 1800.0
EVERY_S: dict[Quantity, float] = {"memory": 3.0, "temperature": 10.0, "latency": 1.0, "compute": 5.0}


class Run(NamedTuple):
    """Readings of one thing. `foreseeable`: something of an incident can be seen before it comes."""

    kind: str
    quantity: Quantity
    samples: list[Sample]
    foreseeable: bool = True
    watching: Watching = Watching()


# -- made-up runs ----------------------------------------------------------------------------------------------


def _samples(quantity: Quantity, values: np.ndarray) -> list[Sample]:
    every_s = EVERY_S[quantity]
    ceiling = 1.0 if quantity in ("memory", "compute") else math.inf
    return [Sample(1e9 + count * every_s, quantity, min(max(float(v), 0.0), ceiling)) for count, v in enumerate(values)]


def _times(quantity: Quantity) -> np.ndarray:
    return np.arange(0, RUN_S, EVERY_S[quantity])


def memory_ramp(rng: np.random.Generator) -> Run:
    """Rest, then growth at one rate until the memory is full: a KV cache that grows token by token."""
    t = _times("memory")
    start, begins, takes = rng.uniform(0.2, 0.6), rng.uniform(120, 500), rng.uniform(90, 1000)
    values = start + np.maximum(0, t - begins) * (0.88 - start) / takes
    return Run("memory: ramp", "memory", _samples("memory", values + rng.normal(0, rng.uniform(0.0005, 0.01), len(t))))


def memory_slow(rng: np.random.Generator) -> Run:
    """Growth that ends well below the threshold when the answer ends."""
    t = _times("memory")
    start, top, begins = rng.uniform(0.2, 0.5), rng.uniform(0.55, 0.75), rng.uniform(100, 600)
    values = start + np.clip((t - begins) / rng.uniform(100, 600), 0, 1) * (top - start)
    return Run("memory: ramp that ends", "memory", _samples("memory", values + rng.normal(0, 0.003, len(t))))


def memory_steps(rng: np.random.Generator) -> Run:
    """Models are loaded and freed: nothing announces it."""
    t = _times("memory")
    values = np.full(len(t), 0.3)
    for at in rng.uniform(100, RUN_S - 100, 4):
        values[t >= at] = rng.uniform(0.2, 0.97)
    samples = _samples("memory", values + rng.normal(0, 0.002, len(t)))
    return Run("memory: steps", "memory", samples, foreseeable=False)


def memory_sawtooth(rng: np.random.Generator) -> Run:
    """Answer after answer, each frees what it took; the top stays below the threshold."""
    t = _times("memory")
    low, top, period = rng.uniform(0.3, 0.5), rng.uniform(0.6, 0.82), rng.uniform(60, 400)
    values = low + (top - low) * ((t + rng.uniform(0, period)) % period) / period
    return Run("memory: sawtooth", "memory", _samples("memory", values + rng.normal(0, 0.003, len(t))))


def memory_leak(rng: np.random.Generator) -> Run:
    """The same with a leak: every tooth ends higher, until one crosses the threshold."""
    t = _times("memory")
    period, tooth = rng.uniform(60, 200), rng.uniform(0.05, 0.15)
    values = 0.4 + t / RUN_S * rng.uniform(0.45, 0.6) + tooth * (t % period) / period
    return Run("memory: sawtooth that climbs", "memory", _samples("memory", values + rng.normal(0, 0.003, len(t))))


def heat_high(rng: np.random.Generator) -> Run:
    """Work begins, and the chip goes to a temperature above the threshold."""
    return _heat(rng, "temperature: too hot", rng.uniform(86, 100))


def heat_low(rng: np.random.Generator) -> Run:
    """Work begins, and the chip levels off below the threshold."""
    return _heat(rng, "temperature: levels off", rng.uniform(62, 77))


def _heat(rng: np.random.Generator, kind: str, end_c: float) -> Run:
    t = _times("temperature")
    begins, tau_s, start_c = rng.uniform(120, 600), rng.uniform(60, 300), rng.uniform(40, 55)
    values = start_c + (end_c - start_c) * (1 - np.exp(-np.maximum(0, t - begins) / tau_s))
    samples = _samples("temperature", np.round(values + rng.normal(0, rng.uniform(0.1, 1.0), len(t))))
    return Run(kind, "temperature", samples)


def latency_ramp(rng: np.random.Generator) -> Run:
    """A queue builds up; single round trips take far longer."""
    t = _times("latency")
    start, begins, takes = rng.uniform(0.005, 0.04), rng.uniform(120, 500), rng.uniform(90, 900)
    values = start + np.maximum(0, t - begins) * (0.105 - start) / takes
    values = values * rng.lognormal(0, 0.05, len(t))
    values[rng.random(len(t)) < 0.02] *= rng.uniform(1.5, 4)
    return Run("latency: ramp", "latency", _samples("latency", values))


def latency_noise(rng: np.random.Generator) -> Run:
    """Heavy tails around one value."""
    t = _times("latency")
    values = rng.uniform(0.005, 0.06) * rng.lognormal(0, 0.15, len(t))
    values[rng.random(len(t)) < 0.02] *= 3
    return Run("latency: noise", "latency", _samples("latency", values))


def noise(rng: np.random.Generator) -> Run:
    """Around one value; each reading follows the one before it in half of the runs."""
    t = _times("memory")
    shocks, values = rng.normal(0, rng.uniform(0.002, 0.02), len(t)), np.zeros(len(t))
    follows = rng.choice([0.0, rng.uniform(0.8, 0.97)])
    for at in range(1, len(t)):
        values[at] = follows * values[at - 1] + shocks[at]
    return Run("memory: noise", "memory", _samples("memory", rng.uniform(0.3, 0.7) + values))


def walk(rng: np.random.Generator) -> Run:
    """A random walk: what comes next, nobody can say."""
    t = _times("memory")
    values = 0.5 + np.cumsum(rng.normal(0, 0.006, len(t)))
    return Run("memory: random walk", "memory", _samples("memory", values), foreseeable=False)


def season(rng: np.random.Generator) -> Run:
    """Load that comes and goes, below the threshold."""
    t = _times("compute")
    middle, swing, period = rng.uniform(0.3, 0.5), rng.uniform(0.1, 0.3), rng.uniform(120, 900)
    values = middle + swing * np.sin(2 * np.pi * (t / period + rng.random()))
    return Run("compute: seasonal", "compute", _samples("compute", values + rng.normal(0, 0.02, len(t))))


KINDS: tuple[Callable[[np.random.Generator], Run], ...] = (
    memory_ramp, memory_leak, heat_high, latency_ramp, memory_steps, walk,
    memory_slow, memory_sawtooth, heat_low, latency_noise, noise, season,
)  # fmt: skip


# -- recorded runs ---------------------------------------------------------------------------------------------


def recorded() -> list[Run]:
    """What nodes measured: every CSV in `recorded/`, of lines `at_s,quantity,about,value`; see its README."""
    runs: list[Run] = []
    for path in sorted(RECORDED.glob("*.csv")):
        series: dict[tuple[str, str], list[Sample]] = {}
        for line in path.read_text().splitlines()[1:]:
            at_s, quantity, about, value = line.split(",")
            sample = Sample(float(at_s), quantity, float(value), about)  # type: ignore[arg-type]
            series.setdefault((quantity, about), []).append(sample)
        for (_, about), samples in sorted(series.items()):
            if Watching().rule(samples[0].quantity) is not None:
                kind = f"recorded: {path.stem}, {samples[0].quantity} {about}".rstrip()
                runs.append(Run(kind, samples[0].quantity, samples))
    return runs


def record(store: Path, name: str) -> Path:
    """Keep the last hour of a node's history as a recorded run."""
    from exo_lab.telemetry.store import RAW_KEPT_S, Store

    base = Store(store)
    now_s = time.time()
    found = base.series(now_s, now_s - RAW_KEPT_S, tuple(rule.quantity for rule in RULES))
    base.close()
    peers = {
        about: f"peer-{count + 1}"
        for count, about in enumerate(sorted({one.about for one in found if one.quantity == "latency"}))
    }
    lines = ["at_s,quantity,about,value"]
    for one in found:
        about = peers[one.about] if one.quantity == "latency" else one.about
        lines += [f"{at_s:.2f},{one.quantity},{about},{value:.6g}" for at_s, value in one.points]
    RECORDED.mkdir(exist_ok=True)
    path = RECORDED / f"{name}.csv"
    path.write_text("\n".join(lines) + "\n")
    return path
