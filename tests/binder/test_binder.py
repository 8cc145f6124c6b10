"""What Binder does with binder/, done here: a fresh environment, postBuild, start, and the first lesson in it.

repo2docker would take Python and node from conda; this takes those of the machine, and checks that they are the pinned
ones.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml

from tests.servers import jupyter

ROOT = Path(__file__).parents[2]
LESSON = "notebooks/01-your-first-cluster.ipynb"
pytestmark = [pytest.mark.slow]


def pinned() -> dict[str, str]:
    """Versions that environment.yml asks for, by name; empty where it takes any."""
    wanted = yaml.safe_load((ROOT / "binder" / "environment.yml").read_text())["dependencies"]
    return {name: version for name, _, version in (one.partition("=") for one in wanted)}


def test_the_environment_pins_what_the_package_is_built_with():
    assert pinned().keys() == {"python", "nodejs", "pip"}
    assert pinned()["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    assert node.startswith(f"v{pinned()['nodejs']}.")


@pytest.fixture(scope="module")
def image(tmp_path_factory, real_model):
    """A clone of what is tracked, and the environment in which postBuild has run: (folder, variables)."""
    home = tmp_path_factory.mktemp("binder")
    folder = home / "exo_lab"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, tracked.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    environment = home / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True, timeout=120)
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "JUPYTER", "EXO_LAB"))},
        "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "VIRTUAL_ENV": str(environment),
        "EXO_LAB_TORCH_INDEX": "",  # only the package index of this machine can be reached
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "EXO_LAB_REGISTRY": str(home / "nodes"),
    }
    made = subprocess.run(
        [str(folder / "binder" / "postBuild")], env=variables, capture_output=True, text=True, timeout=600
    )
    assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-2000:]
    return folder, variables


@pytest.mark.timeout(900)
@pytest.mark.real_model
def test_jupyter_opens_the_first_lesson(image):
    folder, variables = image
    with jupyter("jupyter lab", folder, variables, start=(str(folder / "binder" / "start"),)) as (base, token):
        answer = urllib.request.urlopen(f"{base}?token={token}", timeout=10)
        assert answer.url.split("?")[0] == f"{base}lab/tree/{LESSON}"
        contents = urllib.request.urlopen(f"{base}api/contents/{LESSON}?token={token}", timeout=10)
        assert json.load(contents)["type"] == "notebook"


@pytest.mark.timeout(900)
@pytest.mark.kernels
@pytest.mark.real_model
def test_the_first_lesson_runs_in_it_with_three_nodes(image):
    folder, variables = image
    done = subprocess.run(
        [str(folder / "binder" / "start"), "jupyter", "execute", "--inplace", LESSON],
        cwd=folder, env=variables, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    text = (folder / LESSON).read_text()
    assert "smollm2-135m over 3 nodes: loaded" in text
    assert "The same tokens, every one." in text
