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
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmarks.incidents import KINDS, Run, record, recorded
from benchmarks.measure import RESULTS
from exo_lab.core import alerts
from exo_lab.telemetry.foresight import LOOK_S, Foresight

if TYPE_CHECKING:
    from collections.abc import Iterable


AHEAD_S = 30.0
GRACE_S = 60.0  # after a forecast was taken back
SEEDS = 20  # of each kind; constants were chosen by seeds from `TUNED_FROM` on, and by no others
REPORTED_FROM, TUNED_FROM = 100, 10_000


class Score(NamedTuple):
    """Of one run. `leads_s`: of each foreseen incident, how long before it the forecast was shown without a gap."""

    incidents: int
    foreseen: int
    leads_s: list[float]
    inside: int  # incidents that came within the interval that was shown 30 s ahead
    false_alarms: int
    hours: float


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
