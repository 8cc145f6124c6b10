"""A notebook as it is saved, read where nothing of ours is: no kernel, no extension, no widget manager, no network.

Executed in a kernel as JupyterLab and as VS Code start it, made HTML by nbconvert, seen in Chromium, light and dark.
"""

from __future__ import annotations

import json
import os

import pytest

from tests.labextension.browser import MISSING, node

pytestmark = [
    pytest.mark.kernels,
    pytest.mark.real_model,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(bool(MISSING), reason=f"missing: {', '.join(MISSING)}"),
]

SETUP = "%load_ext exo_lab\n%exo connect --name notebook\n%exo up 1\n%exo load smollm2-135m"
VIEWS = (
    "%exo topology",
    "%exo placement",
    "%%exo --max-tokens 12 --logprobs 2\nWhat is the capital of France?",
    "from exo_lab.front.widgets import answer\nanswer()",
    "%exo telemetry",
    "%exo heatmap",
    "%exo status",
    "%exo plan",
)
STILL = {"jupyter": "In JupyterLab with exo_lab it is live", "vscode": "VS Code does not show the live view"}
PICTURED = ("topology", "placement", "answer", "telemetry", "heatmap")


@pytest.fixture(scope="module", params=["jupyter", "vscode"])
def saved(request, real_model):
    """(where it was executed, the notebook)."""
    import nbformat
    from nbclient import NotebookClient

    cells = [nbformat.v4.new_code_cell(source) for source in (SETUP, *VIEWS)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    environment = {**os.environ, **({"VSCODE_PID": "1"} if request.param == "vscode" else {})}
    NotebookClient(notebook, timeout=120, kernel_name="python3", store_widget_state=False).execute(env=environment)
    return request.param, notebook


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_view_is_a_picture_that_says_so(saved, theme, tmp_path):
    from nbconvert import HTMLExporter

    where, notebook = saved
    page, _ = HTMLExporter(theme=theme).from_notebook_node(notebook)
    file = tmp_path / f"{where}-{theme}.html"
    file.write_text(page)
    seen = json.loads(node("ui-tests/saved.mjs", str(file), os.environ.get("EXO_LAB_PICTURES", str(tmp_path))))
    shown = [one for one in seen["outputs"] if one["text"].strip()]
    assert all(one["height"] > 20 for one in shown)
    texts = "\n".join(one["text"] for one in shown)
    assert texts.count(STILL[where]) == len(PICTURED)
    for word in ("Paris", "notebook", "kernel-1", "CPU load", "between the stages"):
        assert word in texts, word
    assert sum(one["drawn"] for one in shown) >= 5
    assert seen["violations"] == []
