"""The import direction of docs/architecture.md, kept by reading the source: imports go downward only."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "exo_lab"
LAYERS = {
    "core": 0,
    "planning": 0,
    "discovery": 1,
    "transport": 1,
    "engines": 1,
    "models": 1,
    "telemetry": 1,
    "node": 2,
    "generation": 3,
    "figures": 3,
    "hearing": 3,
    "launch": 3,
    "cluster": 3,
    "front": 4,
}
SIBLINGS = {"discovery", "transport", "engines", "models", "telemetry"}
PURE = {"core": {"core"}, "planning": {"core", "planning"}}
IMPURE = {"os", "socket", "subprocess", "time", "threading", "asyncio", "pathlib", "random", "zmq", "psutil", "torch"}
HEAVY = {"torch": "engines", "mlx": "engines", "tinygrad": "engines", "transformers": "models"}
MODULES = sorted(ROOT.rglob("*.py"))


def package_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path, *, run_time_only: bool = False) -> set[str]:
    """Every module that a file imports, at any depth; without those that only the type checker sees if asked."""
    tree = ast.parse(path.read_text())
    skipped: set[ast.AST] = set()
    if run_time_only:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                skipped.update(inner for child in node.body for inner in ast.walk(child))
    found: set[str] = set()
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute"
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names if node.module == "exo_lab")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_downward_only(path):
    own = package_of(path)
    if own in ("__init__", "__main__"):
        return  # the package itself re-exports names from above, lazily
    assert own in LAYERS, f"{own} has no layer; give it one here and in docs/architecture.md"
    ours = {
        name.split(".")[1] for name in imports(path) if name.startswith("exo_lab.") and name != "exo_lab.__version__"
    }
    for other in ours - {own, "data", "__version__"}:
        assert LAYERS[other] <= LAYERS[own], f"{path}: {own} must not import {other}, which is above it"
        assert not (own in SIBLINGS and other in SIBLINGS), f"{path}: {own} and {other} are siblings"
        if own in PURE:
            assert other in PURE[own], f"{path}: {own} is pure and imports nothing but {PURE[own]}"


@pytest.mark.parametrize(
    "path", [path for path in MODULES if package_of(path) in PURE], ids=lambda path: str(path.relative_to(ROOT))
)
def test_pure_packages_touch_no_clock_and_no_world(path):
    assert not {name.split(".")[0] for name in imports(path, run_time_only=True)} & IMPURE


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_heavy_libraries_are_imported_in_their_own_package_only(path):
    for heavy in HEAVY.keys() & {name.split(".")[0] for name in imports(path, run_time_only=True)}:
        lazily_elsewhere = heavy == "torch" and path.relative_to(ROOT).as_posix() == "telemetry/probe.py"
        assert package_of(path) == HEAVY[heavy] or lazily_elsewhere, f"{path} imports {heavy}"
