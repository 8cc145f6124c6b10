"""Measurements, side by side in one run: `python -m benchmarks` runs all of them, `python -m benchmarks.ring` one."""
