"""`make` on a fresh machine: a Python that is too old is named before anything is made of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OLD = f"""#!/bin/sh
shift
exec {sys.executable} -c 'import sys; sys.version_info = (3, 9, 2); exec(sys.argv[1])' "$@"
"""


@pytest.mark.skipif(shutil.which("make") is None, reason="missing: make")
def test_a_python_that_is_too_old_is_named_before_an_environment_is_made_of_it(tmp_path):
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    old = tmp_path / "python-old"
    old.write_text(OLD)
    old.chmod(0o755)
    made = subprocess.run(
        ["make", "install", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert made.returncode != 0
    assert "needs Python 3.11 or newer" in made.stderr
    assert "is 3.9" in made.stderr
    assert "PYTHON=python3.12" in made.stderr
    assert not (tmp_path / ".venv").exists()
