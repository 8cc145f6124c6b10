"""How long `import exo_lab` and `%load_ext exo_lab` take, each in fresh processes: what every kernel start pays.

Of `%load_ext` the time within a running IPython shell counts: a kernel has IPython loaded before it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from benchmarks.measure import interleave, median, report

REPEATS = 9
# The process's own clock, from before the import to after it: starting Python is not ours.
IMPORT = "import time; began = time.perf_counter(); import exo_lab; print(time.perf_counter() - began)"
EXTENSION = """
import time
from IPython.testing.globalipapp import start_ipython
shell = start_ipython()
began = time.perf_counter()
shell.run_line_magic("load_ext", "exo_lab")
print(time.perf_counter() - began)
"""
GOALS = {"import exo_lab": 0.3, "%load_ext exo_lab": 0.5}


def seconds(code: str) -> float:
    """What a fresh process says that it took."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    repeats = parser.parse_args().repeats
    codes = {"import exo_lab": IMPORT, "%load_ext exo_lab": EXTENSION}
    took = interleave({name: lambda code=code: seconds(code) for name, code in codes.items()}, repeats)
    rows = [
        [name, f"{median(took[name]) * 1e3:.0f}", f"{goal * 1e3:.0f}", "met" if median(took[name]) < goal else "missed"]
        for name, goal in GOALS.items()
    ]
    title = f"fresh processes, medians of {repeats}"
    report("imports", title, ["what", "ms", "goal: under", ""], rows, {"repeats": repeats, "seconds": took})


if __name__ == "__main__":
    main()
