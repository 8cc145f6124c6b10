"""The wheel installs where there is no node, and brings the extensions, the lessons and the shell's command along."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WITHIN_S = 300
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "node_modules", "__pycache__", ".*_cache", ".hypothesis", "results")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * WITHIN_S)]


@pytest.fixture(scope="module")
def venv(tmp_path_factory):
    """A fresh environment with the wheel, what the wheel needs from this one, and nothing but itself on its PATH."""
    home = tmp_path_factory.mktemp("wheel")
    # The front end was built when this environment was made; where it is there, building a wheel needs no node.
    shutil.copytree(ROOT, home / "source", ignore=LEFT_OUT)
    made = home / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(made)], check=True, timeout=WITHIN_S)
    python = str(made / "bin" / "python")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "JUPYTER"))},
        "PATH": str(made / "bin"),
        "HOME": str(home),
    }
    assert shutil.which("node", path=environment["PATH"]) is None

    def run(*command: str) -> str:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        done = subprocess.run(command, cwd=home, env=environment, timeout=WITHIN_S, check=False, **pipes)
        assert done.returncode == 0, done.stdout[-3000:]
        return done.stdout

    run(python, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(home), str(home / "source"))
    wheel = next(home.glob("exo_lab-*.whl"))
    run(python, "-m", "pip", "install", "--no-deps", str(wheel))
    here = made / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    # Its dependencies are those of this environment, behind its own packages.
    (here / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return made, python, run


def test_it_is_the_wheel_that_is_imported_and_it_has_a_command(venv):
    made, python, run = venv
    where = run(python, "-c", "import exo_lab; print(exo_lab.__file__)").strip()
    assert Path(where).is_relative_to(made)
    assert "topology" in run(str(made / "bin" / "exo-lab"), "--help")


def test_jupyterlab_and_the_server_have_its_extensions_enabled_and_ok(venv):
    _, python, run = venv
    listed = run(python, "-m", "jupyterlab.labextensions", "list").splitlines()
    front = next(line for line in listed if "exo-lab" in line)
    assert "enabled" in front
    assert "OK" in front
    back = run(python, "-m", "jupyter_server.extension.serverextension", "list").splitlines()
    ours = [line for line in back if "exo_lab" in line]
    assert any("enabled" in line for line in ours), back
    assert any("OK" in line for line in ours), back


def test_the_lessons_came_along(venv):
    _, python, run = venv
    code = "from exo_lab.front.server.looking import lessons; print(*(one.name for one in lessons().lessons))"
    assert run(python, "-c", code).split() == sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
