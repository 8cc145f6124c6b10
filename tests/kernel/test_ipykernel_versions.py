"""Tests of the kernel, and of a person in a browser, under every ipykernel that we say works, installed or not.

Each other version is laid over the installed packages by PYTHONPATH; nothing is installed or replaced.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

pytestmark = [pytest.mark.kernels, pytest.mark.real_model, pytest.mark.slow, pytest.mark.timeout(300)]

SUPPORTED = ("7.3.0", "7.4.0")
ROOT = Path(__file__).parents[2]
TESTS = (
    "tests/kernel/test_notebook_kernel.py",
    "tests/labextension/test_in_a_browser.py::test_a_person_connects_asks_stops_moves_layers_and_comes_back",
)
WITHIN_S = 240


def run(*arguments: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("other", [one for one in SUPPORTED if one != version("ipykernel")])
def test_the_kernels_tests_pass_under_another_ipykernel(other, tmp_path, real_model):
    overlay = tmp_path / "overlay"
    plain = dict(os.environ)
    run("-m", "pip", "install", "--quiet", "--no-deps", f"--target={overlay}", f"ipykernel=={other}", environment=plain)
    laid_over = {**plain, "PYTHONPATH": os.pathsep.join((str(overlay), str(ROOT)))}
    seen = "import importlib.metadata as m; print(m.version('ipykernel'))"
    assert run("-c", seen, environment=laid_over).strip() == other
    print(run("-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS, environment=laid_over))
