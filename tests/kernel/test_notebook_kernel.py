"""A real Jupyter kernel, driven as a notebook drives it: the magics, Interrupt, and what a restart leaves behind."""

from __future__ import annotations

import time
from importlib.metadata import version

import psutil
import pytest

from tests.kernel.driver import WITHIN_S, Notebook, PanelLine
from tests.waiting import eventually

pytestmark = [pytest.mark.kernels, pytest.mark.real_model, pytest.mark.slow, pytest.mark.timeout(240)]

PIDS = """[report.process.pid for made in __import__("exo_lab").cluster.current()._kernels._sets
           for _, report in made.nodes.values()]"""
SESSIONS = """(lambda c: sum(c._thread.run(c.node.parts.control.request(
    node.address, __import__("exo_lab.core.messages", fromlist=["GetStats"]).GetStats(), timeout_s=5.0), 5.0).sessions
    for node in c.nodes()))(__import__("exo_lab").cluster.current())"""


@pytest.fixture(scope="module")
def notebook(real_model):
    made = Notebook()
    for line in ("%load_ext exo_lab", "%exo connect --name notebook", "%exo up 2 --threads 1"):
        text, status = made.run(line)
        assert status == "ok", text
    text, status = made.run("%exo load smollm2-135m --devices kernel-1,kernel-2")
    assert status == "ok", text
    yield made
    made.close()


def test_a_cell_streams_an_answer_and_keeps_it(notebook):
    request = notebook.start("%%exo --max-tokens 24 -o answer\nWhat is the capital of France?")
    updates = [m for m in notebook.messages(request) if m["msg_type"] in ("display_data", "update_display_data")]
    assert notebook.reply(request)["status"] == "ok"
    assert len(updates) >= 2  # it grew while it was computed
    assert any("Paris" in m["content"]["data"].get("text/plain", "") for m in updates)
    assert all("text/html" in m["content"]["data"] for m in updates)
    assert "Paris" in notebook.value("answer.text")


def test_names_in_braces_are_filled_in_and_raw_completes(notebook):
    notebook.run("city = 'France'")
    text, status = notebook.run("%%exo --raw --max-tokens 8 -o done\nThe capital of {city} is")
    assert status == "ok", text
    assert notebook.value("done.prompt").strip() == "The capital of France is"
    text, status = notebook.run("%%exo --max-tokens 8\nHello {nobody}")
    assert status == "error"
    assert "nobody" in text


def test_status_nodes_and_plan_are_shown_as_table_and_as_text(notebook):
    for verb in ("status", "nodes", "plan --devices kernel-1,kernel-2"):
        request = notebook.start(f"%exo {verb}")
        shown = [m["content"]["data"] for m in notebook.messages(request) if "data" in m["content"]]
        assert any("text/html" in data and "kernel-1" in data["text/plain"] for data in shown), verb
        assert notebook.reply(request)["status"] == "ok"


def test_interrupt_cancels_on_every_node_and_keeps_the_text(notebook):
    notebook.run("poem = None")
    request = notebook.start("%%exo --max-tokens 4000 -o poem\nWrite a very long poem about the sea.")
    updates = 0
    for message in notebook.messages(request):
        updates += message["msg_type"] == "update_display_data"
        if updates == 5:
            break  # it is streaming
    started = time.monotonic()
    notebook.manager.interrupt_kernel()
    for _ in notebook.messages(request):
        pass
    ended_s = time.monotonic() - started
    assert notebook.reply(request)["status"] in ("error", "ok")
    # The aim is half a second; a shared machine may stretch it, so the test only bounds it and prints the figure.
    print(f"interrupt to end of cell: {ended_s:.2f} s")
    assert ended_s < 5.0
    assert eventually(lambda: notebook.value(SESSIONS) == 0, within_s=5.0)
    assert notebook.value("poem.finish") == "cancelled"
    assert notebook.value("len(poem.text)") > 0
    pids = notebook.value(PIDS)
    assert len(pids) == 2
    assert all(map(psutil.pid_exists, pids))  # Interrupt did not reach them
    text, status = notebook.run("%%exo --max-tokens 8\nHello")
    assert status == "ok", text


def test_stop_reaches_a_kernel_in_the_middle_of_a_cell(notebook):
    """As the panel does it: a comm on a subshell, which answers while the main shell computes."""
    line = PanelLine(notebook)
    assert line.hear("status")["status"]["models"]
    request = notebook.start("%%exo --max-tokens 4000 -o story\nWrite a very long story about the sea.")
    assert line.hear("tokens")
    line.send("comm_msg", {"type": "stop", "id": "1", "request": None})
    assert line.hear("stopped") == {"type": "stopped", "id": "1", "count": 1}
    assert notebook.reply(request)["status"] == "ok"
    assert notebook.value("story.finish") == "cancelled"
    line.send("comm_close", {})


def test_the_kernel_runs_the_ipykernel_that_the_tests_see(notebook):
    assert notebook.value("__import__('ipykernel').__version__") == version("ipykernel")


def test_an_error_is_clear_and_fails_the_cell(notebook):
    text, status = notebook.run("%exo load no-such-model")
    assert status == "error"
    assert "no-such-model" in text
    assert "Traceback" not in text
    assert len(text.splitlines()) < 15


def test_a_kernel_restart_leaves_nothing_behind(notebook):
    pids = notebook.value(PIDS)
    assert pids
    notebook.manager.restart_kernel(now=True)
    notebook.client.wait_for_ready(timeout=WITHIN_S)
    assert eventually(lambda: not any(map(psutil.pid_exists, pids)))
    text, _ = notebook.run("%load_ext exo_lab\n%exo status")
    assert "connect" in text
