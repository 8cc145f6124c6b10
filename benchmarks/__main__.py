"""Run every benchmark, one after the other, each in a process of its own; then the goals beside what was measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# `faults` tests rather than measures, and takes a quarter of an hour: `python -m benchmarks.faults`.
SHARED = ("__init__", "__main__", "measure", "goals", "random_model", "incidents", "faults")


def main() -> int:
    """The number of benchmarks that failed."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in SHARED)
    failed = [
        name
        for name in [*names, "goals"]
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode
    ]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
