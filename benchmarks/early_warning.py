"""How good are the forecasts? Share of incidents foreseen 30 s ahead, false alarms an hour; made-up and recorded runs.

An incident is what becomes an alert by the thresholds that nodes have. It was foreseen if a forecast of it was shown
30 s before the reading crossed the threshold. A forecast that is shown while no incident comes, and none within a
minute after it was taken back, is a false alarm, however long it was shown. Readings are replayed through what a node
runs (`telemetry.foresight`, `core.alerts`), by their own times: the same figures on every machine.

`python -m benchmarks.early_warning --record NODE.sqlite3 NAME` adds the last hour of a node's own history to the runs.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmarks.measure import RESULTS
from exo_lab.core import alerts
from exo_lab.core.telemetry import Sample
from exo_lab.core.watching import RULES, Watching
from exo_lab.telemetry.foresight import LOOK_S, Foresight

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from exo_lab.core.telemetry import Quantity

RECORDED = Path(__file__).parent / "recorded"
AHEAD_S = 30.0
GRACE_S = 60.0  # after a forecast was taken back
RUN_S = 1800.0
SEEDS = 20  # of each kind; constants were chosen by seeds from `TUNED_FROM` on, and by no others
REPORTED_FROM, TUNED_FROM = 100, 10_000
EVERY_S: dict[Quantity, float] = {"memory": 3.0, "temperature": 10.0, "latency": 1.0, "compute": 5.0}


class Run(NamedTuple):
    """Readings of one thing. `foreseeable`: something of an incident can be seen before it comes."""

    kind: str
    quantity: Quantity
    samples: list[Sample]
    foreseeable: bool = True
    watching: Watching = Watching()


class Score(NamedTuple):
    """Of one run. `leads_s`: of each foreseen incident, how long before it the forecast was shown without a gap."""

    incidents: int
    foreseen: int
    leads_s: list[float]
    inside: int  # incidents that came within the interval that was shown 30 s ahead
    false_alarms: int
    hours: float


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


# -- replaying -------------------------------------------------------------------------------------------------


def incidents_of(run: Run) -> list[tuple[float, float]]:
    """When readings went above the threshold, and when that was over, for all that became alerts."""
    board, found, open_at = alerts.Board(node="node"), [], None
    for sample in run.samples:
        board = alerts.observe(board, run.watching, sample)
        if board.alerts and open_at is None:
            open_at = board.alerts[0].since_s
        elif not board.alerts and open_at is not None:
            found.append((open_at, sample.at_s))
            open_at = None
    return found if open_at is None else [*found, (open_at, run.samples[-1].at_s)]


class Shown(NamedTuple):
    """A forecast from when it was shown first until it was taken back; each look with what it said."""

    looks: list[tuple[float, float, float]]  # (when, soonest crossing, latest crossing)


def shown_in(run: Run) -> list[Shown]:
    """All forecasts that a user would have seen."""
    foresight, episodes, current = Foresight("node", run.watching), [], None
    for sample in run.samples:
        foresight.add([sample])
        seen = foresight.look(sample.at_s)
        if not seen:
            current = None
            continue
        one = seen[0]
        latest = math.inf if one.latest_s is None else one.made_at_s + one.latest_s
        if current is None:
            current = Shown([])
            episodes.append(current)
        current.looks.append((sample.at_s, one.made_at_s + one.soonest_s, latest))
    return episodes


def score(run: Run) -> Score:
    """Hold what was shown against what came."""
    incidents, episodes = incidents_of(run), shown_in(run)
    foreseen, inside, leads_s = 0, 0, []
    for began, _ in incidents:
        covering = [one for one in episodes if one.looks[0][0] <= began - AHEAD_S <= one.looks[-1][0] + LOOK_S]
        if not covering:
            continue
        foreseen += 1
        leads_s.append(began - covering[-1].looks[0][0])
        said = [look for look in covering[-1].looks if look[0] <= began - AHEAD_S][-1]
        inside += said[1] <= began <= said[2]
    false_alarms = sum(
        not any(one.looks[0][0] <= began <= one.looks[-1][0] + GRACE_S for began, _ in incidents) for one in episodes
    )
    hours = (run.samples[-1].at_s - run.samples[0].at_s) / 3600
    return Score(len(incidents), foreseen, leads_s, inside, false_alarms, hours)


# -- the table -------------------------------------------------------------------------------------------------


def summary(kind: str, scores: Iterable[Score]) -> dict[str, Any]:
    """One line of the table."""
    all_ = list(scores)
    incidents, foreseen = sum(one.incidents for one in all_), sum(one.foreseen for one in all_)
    leads = [lead for one in all_ for lead in one.leads_s]
    hours, false_alarms = sum(one.hours for one in all_), sum(one.false_alarms for one in all_)
    return {
        "kind": kind,
        "hours": round(hours, 2),
        "incidents": incidents,
        "foreseen": foreseen,
        "share_foreseen": round(foreseen / incidents, 3) if incidents else None,
        "median_lead_s": round(statistics.median(leads)) if leads else None,
        "within_interval": round(sum(one.inside for one in all_) / foreseen, 3) if foreseen else None,
        "false_alarms": false_alarms,
        "false_alarms_per_hour": round(false_alarms / hours, 3) if hours else None,
    }


def evaluate(first_seed: int = REPORTED_FROM, seeds: int = SEEDS) -> list[dict[str, Any]]:
    """Every kind by itself, then all made-up runs, those of them that can be foreseen, and recorded ones."""
    lines: list[dict[str, Any]] = []
    every: list[Score] = []
    foreseeable: list[Score] = []
    for number, make in enumerate(KINDS):
        runs = [make(np.random.default_rng([number, first_seed + seed])) for seed in range(seeds)]
        scores = [score(run) for run in runs]
        lines.append(summary(runs[0].kind, scores))
        every += scores
        foreseeable += scores if runs[0].foreseeable else []
    lines.append(summary("all made-up runs", every))
    lines.append(summary("without steps and walks", foreseeable))
    real = [(run.kind, score(run)) for run in recorded()]
    lines += [summary(kind, [one]) for kind, one in real]
    return [*lines, summary("all recorded runs", [one for _, one in real])] if real else lines


def table(lines: list[dict[str, Any]]) -> str:
    """For docs and terminals, in Markdown."""
    heads = ("runs", "hours", "incidents", "foreseen >= 30 s", "median lead", "within interval", "false alarms / h")
    rows = [
        (
            one["kind"],
            f"{one['hours']:.1f}",
            str(one["incidents"]),
            "" if one["share_foreseen"] is None else f"{one['foreseen']} ({one['share_foreseen']:.0%})",
            "" if one["median_lead_s"] is None else f"{one['median_lead_s']} s",
            "" if one["within_interval"] is None else f"{one['within_interval']:.0%}",
            f"{one['false_alarms_per_hour']:.2f}",
        )
        for one in lines
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, ("---",) * len(heads), *rows))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="of each kind")
    parser.add_argument("--tuning", action="store_true", help="the seeds by which constants were chosen; not kept")
    parser.add_argument("--record", nargs=2, metavar=("STORE", "NAME"))
    args = parser.parse_args()
    if args.record:
        print(record(Path(args.record[0]), args.record[1]))
        return 0
    lines = evaluate(TUNED_FROM if args.tuning else REPORTED_FROM, args.seeds)
    print(table(lines))
    if not args.tuning and args.seeds == SEEDS:
        (RESULTS / "early_warning.json").write_text(json.dumps({"ahead_s": AHEAD_S, "runs": lines}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
