"""What every benchmark shares: medians, a table, JSON with the facts of the machine. Knows nothing of models."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RESULTS = Path(__file__).parent / "results"
REPEATS = 5
LIBRARIES = ("torch", "numpy", "pyzmq", "transformers", "llama-cpp-python", "gguf")


def repeat(measure: Callable[[], float], times: int = REPEATS, warm_up: int = 1) -> list[float]:
    """`measure()` so many times, after so many that do not count."""
    for _ in range(warm_up):
        measure()
    return [measure() for _ in range(times)]


def interleave(cases: dict[str, Callable[[], float]], times: int = REPEATS, warm_up: int = 1) -> dict[str, list[float]]:
    """Every case in turn, round after round: what disturbs the machine for a while disturbs all of them alike."""
    for _ in range(warm_up):
        for measure in cases.values():
            measure()
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(times):
        for name, measure in cases.items():
            found[name].append(measure())
    return found


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """Median of the ratios, round by round."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    versions: dict[str, str] = {}
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "versions": versions,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def report(name: str, title: str, header: Sequence[str], rows: Sequence[Sequence[str]], data: dict[str, Any]) -> None:
    """Print a table and write `results/<name>.json`."""
    table = Table(title=title, title_justify="left")
    for column in header:
        table.add_column(column, justify="left" if column == header[0] else "right", no_wrap=column == header[0])
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    RESULTS.mkdir(exist_ok=True)
    when = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    text = json.dumps({"when": when, "machine": machine(), **data}, indent=1)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
