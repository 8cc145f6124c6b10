"""Loading the extension is light: what is heavy is imported when a verb needs it."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "zmq", "ipyparallel", "bokeh", "numpy", "cryptography", "zeroconf", "tokenizers")
LOAD = """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
before = set(sys.modules)
{code}
print(" ".join(sorted({{name.partition(".")[0] for name in set(sys.modules) - before}})))
shell.history_manager.end_session()
"""


def loaded_by(code: str, tmp_path) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", LOAD.format(code=code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"PATH": "", "HOME": str(tmp_path), "IPYTHONDIR": str(tmp_path / "ipython"), "PYTHONPATH": "."},
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("code", ["import exo_lab", "shell.run_line_magic('load_ext', 'exo_lab')"])
def test_nothing_heavy_is_imported(code, tmp_path):
    names = loaded_by(code, tmp_path)
    assert "exo_lab" in names
    assert not names & set(HEAVY)


def test_help_and_unloading_need_nothing_heavy_either(tmp_path):
    code = (
        "shell.run_line_magic('load_ext', 'exo_lab'); shell.run_line_magic('exo', 'help'); "
        "shell.run_line_magic('unload_ext', 'exo_lab')"
    )
    assert not loaded_by(code, tmp_path) & set(HEAVY)
