"""Every lesson runs from top to bottom on the real model, its hidden solutions too, and is kept without outputs."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

LESSONS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
PLACE = "# your cells here"
SOLUTION = re.compile(r"^```ipython( raises-exception)?\n(.*?)^```", re.MULTILINE | re.DOTALL)


def solved(notebook: nbformat.NotebookNode) -> tuple[nbformat.NotebookNode, int]:
    """The lesson with the solutions of each exercise where a reader would write, and how many exercises there are."""
    cells, exercises, hidden = [], 0, ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            hidden = cell.source
        if cell.source != PLACE:
            cells.append(cell)
            continue
        exercises += 1
        found = SOLUTION.findall(hidden)
        assert found, f"exercise {exercises} has no hidden solution that runs"
        for raises, source in found:
            tags = {"tags": ["raises-exception"]} if raises else {}
            cells.append(nbformat.v4.new_code_cell(source, metadata=tags))
    return nbformat.v4.new_notebook(cells=cells, metadata=notebook.metadata), exercises


def test_there_are_lessons():
    assert LESSONS


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_is_kept_without_outputs(path):
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.kernels
@pytest.mark.real_model
@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_and_its_solutions_run_from_top_to_bottom(path, real_model, tmp_path):
    from nbclient import NotebookClient

    notebook, exercises = solved(nbformat.read(path, as_version=4))
    assert exercises >= 2
    client = NotebookClient(
        notebook, timeout=180, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    for cell in notebook.cells:
        if "raises-exception" in cell.metadata.get("tags", ()):
            assert any(output.output_type == "error" for output in cell.outputs), cell.source
    printed = "".join(
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []) if "text" in output
    )
    if path.stem.startswith("01"):
        assert "The same tokens, every one." in printed
