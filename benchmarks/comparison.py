"""The published comparison of strategies (S2), computed anew: `python -m benchmarks.comparison`.

Prints the table, writes `results/comparison.json` and the plot `docs/images/comparison.svg`. Nothing is measured:
strategies, cost model and simulator are ours, cluster and workload are stated in `exo_lab/planning/comparison.py`, and
every figure is predicted. Only the source's own numbers are typed in, and shown as such. How the same strategies do on
real kernels is what `python -m benchmarks.strategies` measures.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.measure import report
from exo_lab.front.comparison_svg import comparison_svg
from exo_lab.front.svg import as_file
from exo_lab.planning.comparison import PUBLISHED, SETTING, Row, compare

PLOT = Path(__file__).parents[1] / "docs" / "images" / "comparison.svg"
HEADER = ("strategy", "layers", "at once", "memory", "stated", "done in", "stated")


def cells(row: Row) -> tuple[str, ...]:
    """A line of the table."""
    stated = PUBLISHED.get(row.strategy)
    return (
        row.strategy,
        " ".join(map(str, row.layers)),
        str(row.sessions),
        f"{row.memory_use:.1%}",
        f"{stated.memory_use:.0%}" if stated else "",
        f"{row.completion_s:.1f} s",
        f"{stated.completion_s:g} s" if stated else "",
    )


def main() -> int:
    """1 if `optimal` does not beat all others on completion time."""
    rows = compare()
    best, *others = reversed(rows)
    data = {
        "predicted": True,
        "setting": SETTING._asdict() | {"devices": [kind._asdict() for kind in SETTING.devices]},
        "published": {name: stated._asdict() for name, stated in PUBLISHED.items()},
        "rows": [
            {
                "strategy": row.strategy,
                "devices": row.plan.devices,
                "layers": row.layers,
                "objective": row.objective,
                "sessions": row.sessions,
                "memory_use": row.memory_use,
                "completion_s": row.completion_s,
                "token_s": row.prediction.token_s,
                "ttft_s": row.prediction.ttft_s,
                "utilisation": {device.device: device.utilisation for device in row.simulation.devices},
            }
            for row in rows
        ],
    }
    title = (
        f"predicted: {SETTING.model} {SETTING.quantisation} over {', '.join(kind.name for kind in SETTING.devices)}; "
        f"{SETTING.requests} requests of {SETTING.prompt_tokens} + {SETTING.answer_tokens} tokens"
    )
    report("comparison", title, HEADER, [cells(row) for row in rows], data)
    PLOT.write_text(as_file(comparison_svg(rows, PUBLISHED)) + "\n", encoding="utf-8")
    if best.completion_s >= min(row.completion_s for row in others):
        print("optimal is not the fastest", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
