"""A shell with the extension loaded onto a fake cluster."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from IPython.testing.globalipapp import start_ipython
from IPython.utils.capture import capture_output

import exo_lab
from tests.front.fakes import FakeBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import CapturedIO

    from tests.front.fakes import FakeCluster


@pytest.fixture(scope="session")
def _shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InteractiveShell]:
    import os

    before = dict(os.environ)
    os.environ["IPYTHONDIR"] = str(tmp_path_factory.mktemp("ipython"))
    hook, excepthook = sys.displayhook, sys.excepthook
    shell = start_ipython()
    from IPython.core.interactiveshell import InteractiveShell

    shell = shell or InteractiveShell.instance()
    yield shell
    shell.history_manager.end_session()
    sys.displayhook, sys.excepthook = hook, excepthook
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def shell(_shell: InteractiveShell, backend: FakeBackend) -> Iterator[InteractiveShell]:
    exo_lab.load_ipython_extension(_shell)
    magics = _shell.magics_manager.registry["ExoMagics"]
    magics._backend = backend
    magics.display = "notebook"
    yield _shell
    exo_lab.unload_ipython_extension(_shell)
    for name in [name for name in _shell.user_ns if name in ("answer", "city", "rows", "view")]:
        del _shell.user_ns[name]


@pytest.fixture
def cluster(shell: InteractiveShell, backend: FakeBackend) -> FakeCluster:
    """A connected cluster with a loaded model."""
    made = backend.connect("laptop")
    made.load("smollm2-135m")
    return made


class Ran:
    """What running a cell gave: the result, what was printed, and every output with its updates."""

    def __init__(self, result, captured: CapturedIO) -> None:
        self.error = result.error_in_exec or result.error_before_exec
        self.value = result.result
        self.stdout, self.stderr = captured.stdout, captured.stderr
        self.outputs = captured._outputs

    def html(self, index: int = -1) -> str:
        return self.outputs[index]["data"]["text/html"]

    def text(self, index: int = -1) -> str:
        return self.outputs[index]["data"]["text/plain"]


@pytest.fixture
def run(shell: InteractiveShell) -> Callable[[str], Ran]:
    def run(cell: str) -> Ran:
        with capture_output() as captured:
            result = shell.run_cell(cell)
        return Ran(result, captured)

    return run


@pytest.fixture
def private_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of its own, and no token in the environment."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.delenv("EXO_LAB_TOKEN", raising=False)
    return tmp_path
