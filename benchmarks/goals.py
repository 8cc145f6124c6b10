"""The goals of speed and memory beside what the other benchmarks measured last: reads their JSON, measures nothing.

Each ratio is the median of the ratios within one run, round by round; rings of one and of two nodes, whose plans stay
loaded for their own rounds, are compared by their medians. A goal whose benchmark has not run, or ran without
llama.cpp, says so.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.measure import RESULTS, median, ratio

if TYPE_CHECKING:
    from collections.abc import Callable


class Goal(NamedTuple):
    """`figure(results of one benchmark)` is to be at least `goal`, or at most."""

    what: str
    benchmark: str
    figure: Callable[[dict[str, Any]], float]
    goal: float
    at_least: bool = True


def _rate(what: str, ours: str, theirs: str) -> Callable[[dict[str, Any]], float]:
    return lambda data: ratio(data["rates"][what][ours], data["rates"][what][theirs])


def _beside_rpc(what: str) -> Callable[[dict[str, Any]], float]:
    return lambda data: ratio(data["rpc"][f"exo {what}"], data["rpc"][f"llama.cpp RPC {what}"])


def _hop(data: dict[str, Any]) -> float:
    """What a token takes beyond computing in a ring of two, less what it takes on one node, where nothing hops."""
    one, two = (median(data["rings"][nodes]["hop_beyond_computing_s"]) for nodes in ("1", "2"))
    return (2 * two - one) / 2 / median(data["half_ping_pong_s"]["curve"])


def _seconds(what: str) -> Callable[[dict[str, Any]], float]:
    return lambda data: median(data["seconds"][what])


def _first_token(data: dict[str, Any]) -> float:
    one, two = (data["rings"][nodes]["prefill_tokens_per_s"]["1024"] for nodes in ("1", "2"))
    return median(one) / median(two)


def _together(data: dict[str, Any]) -> float:
    rates = data["rings"]["2"]
    return ratio(rates["4"], rates["1"])


def _memory(data: dict[str, Any]) -> float:
    """The worst of the quantised shares that hold half of the layers or more."""
    worst = 0.0
    for case in data["cases"]:
        probes = case["probes"]
        if case["dtype"] == "quantised" and 2 * (case["end"] - case["start"]) >= probes[0]["n_layers"]:
            worst = max(worst, median([probe["peak_bytes"] / probe["file_bytes"] for probe in probes]))
    return worst


GOALS = (
    Goal(
        "decode, 1 node x 2 threads / llama.cpp",
        "engine",
        _rate("decode", "exo quantised x 2", "llama.cpp x 2"),
        1.3,
    ),
    Goal("decode, ring of 2 x 1 / llama.cpp RPC", "ring", _beside_rpc("decode"), 1.5),
    Goal("prefill 256, ring of 2 x 1 / llama.cpp RPC", "ring", _beside_rpc("prefill 256"), 5.0),
    Goal("prefill 1024, ring of 2 x 1 / llama.cpp RPC", "ring", _beside_rpc("prefill 1024"), 5.0),
    Goal(
        "decode, 2 threads / Transformers bf16",
        "engine",
        _rate("decode", "exo quantised x 2", "Transformers bf16 x 2"),
        5.0,
    ),
    Goal("a hop beyond computing / half a CURVE ping-pong", "ring", _hop, 1.5, at_least=False),
    Goal("import exo_lab, seconds", "imports", _seconds("import exo_lab"), 0.3, at_least=False),
    Goal("%load_ext exo_lab, seconds", "imports", _seconds("%load_ext exo_lab"), 0.5, at_least=False),
    Goal("4 requests at once / 1, ring of 2", "concurrent", _together, 1.8),
    Goal("first token of 1024, ring of 2 / 1 node", "ring", _first_token, 0.6, at_least=False),
    Goal("peak memory / bytes in the file, half the layers or more", "memory", _memory, 1.3, at_least=False),
)


def verdict(goal: Goal) -> tuple[str, str]:
    """What was measured, and whether that meets the goal."""
    path = RESULTS / f"{goal.benchmark}.json"
    if not path.exists():
        return "", f"not measured: python -m benchmarks.{goal.benchmark}"
    try:
        value = goal.figure(json.loads(path.read_text(encoding="utf-8")))
    except (KeyError, TypeError):
        return "", f"not in the last run{': no llama.cpp was there' if 'llama.cpp' in goal.what else ''}"
    met = value >= goal.goal if goal.at_least else value <= goal.goal
    return f"{value:.2f}", "met" if met else "missed"


def main() -> None:
    """Print the table."""
    table = Table(title="goals, from the last run of each benchmark", title_justify="left")
    for column in ("figure", "goal", "measured", ""):
        table.add_column(column, justify="left" if column in ("figure", "") else "right")
    for goal in GOALS:
        sign = ">=" if goal.at_least else "<="
        table.add_row(goal.what, f"{sign} {goal.goal:g}", *verdict(goal))
    Console().print(table)


if __name__ == "__main__":
    main()
