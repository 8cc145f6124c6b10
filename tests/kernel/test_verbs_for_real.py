"""The verbs of those who run a cluster, as they type them: in a shell and in cells, on three real nodes."""

from __future__ import annotations

import getpass
import html
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from exo_lab.transport.keys import ClusterKeys, new_token
from tests.kernel.driver import WITHIN_S, Notebook
from tests.waiting import eventually

pytestmark = [pytest.mark.kernels, pytest.mark.real_model, pytest.mark.slow, pytest.mark.timeout(240)]

NODES = ("kernel-1", "kernel-2", "notebook")
TOKEN = new_token()
PASSWORD = "hunter2-in-the-environment"


def environment(**changes: str) -> dict[str, str]:
    return {**os.environ, "EXO_LAB_TOKEN": TOKEN, "MY_PASSWORD": PASSWORD, **changes}


def shell(*arguments: str, **changes: str) -> str:
    """What `exo-lab ...` prints."""
    done = subprocess.run(
        [sys.executable, "-m", "exo_lab.front.cli", *arguments],
        capture_output=True, text=True, timeout=WITHIN_S, check=False, env=environment(**changes),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def notebook(real_model):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXO_LAB_TOKEN", TOKEN)
        made = Notebook()
        try:
            for line in (
                *("%load_ext exo_lab", "%exo connect --name notebook", "%exo up 2 --threads 1"),
                "%exo load smollm2-135m --devices notebook,kernel-1,kernel-2",
                "%%exo --max-tokens 8\nName a river.",
            ):
                text, status = made.run(line)
                assert status == "ok", text
            yield made
        finally:
            made.close()


@pytest.fixture
def story(notebook):
    """A long answer is being computed while the test runs; it is interrupted after it."""
    request = notebook.start("%%exo --max-tokens 4000\nWrite a very long story about the sea.")
    messages = notebook.messages(request)
    assert any(m["msg_type"] == "display_data" for m in messages)
    yield
    notebook.manager.interrupt_kernel()
    list(messages)
    assert notebook.reply(request)["status"] == "error"


# -- topology show -------------------------------------------------------------------------------------------


def test_topology_in_a_shell_as_a_tree_json_and_a_drawing(notebook, tmp_path):
    tree = shell("topology", "show")
    assert "3 nodes, 3 links" in tree
    assert all(name in tree for name in NODES)
    assert "shell-" not in tree
    assert "holds emb" in tree
    told = json.loads(shell("topology", "show", "--json"))
    assert sorted(member["device"]["name"] for member in told["members"]) == sorted(NODES)
    assert sorted(member["holds"][0]["stage"] for member in told["members"]) == [0, 1, 2]
    assert "drawing" in shell("topology", "show", "--svg", str(tmp_path / "t.svg"))
    assert (tmp_path / "t.svg").read_text().count("<text") > 6


def test_topology_in_a_cell(notebook):
    text, status = notebook.run("%exo topology show")
    assert status == "ok"
    assert "3 nodes, 3 links" in text
    assert "holds emb" in text


# -- network test --------------------------------------------------------------------------------------------


def test_every_way_between_the_nodes_is_tested_from_a_shell(notebook):
    report = json.loads(shell("network", "test", "--json"))
    assert len(report["probes"]) == 6
    assert report["refused"] == []
    for probe in report["probes"]:
        assert 0 < probe["p50_s"] <= probe["p99_s"]
        assert len(probe["transfers"]) == 5
        assert probe["lost"] == 0
    (effect,) = report["effects"]
    assert effect["model"] == "smollm2-135m"
    assert effect["after_per_s"] > 0


def test_a_cell_tests_one_node_and_says_what_it_means(notebook):
    text, status = notebook.run("%exo network test --target kernel-1")
    assert status == "ok", text
    assert "4 ways between 3 nodes" in text
    assert "tok/s with what was measured" in text


def test_a_test_does_not_disturb_an_answer_unless_it_is_asked_to(notebook, story):
    assert "--while-busy" in shell("network", "test", "--target", "kernel-1")
    report = json.loads(shell("network", "test", "--target", "kernel-1", "--while-busy", "--json"))
    assert report["refused"] == []
    assert len(report["probes"]) == 4


# -- monitor -------------------------------------------------------------------------------------------------


def test_monitor_in_a_pipe_prints_lines_and_records_tokens_of_other_peoples_answers(notebook, story, tmp_path):
    path = tmp_path / "m.jsonl"
    lines = shell("monitor", "--interval", "500ms", "--for", "3s", "--record", str(path)).splitlines()
    frames = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == len(frames) + 1
    assert all(name in lines[0] for name in NODES)
    assert any((frame["tokens_per_s"] or 0) > 0 for frame in frames)
    assert "tok/s" in lines[-2]


def test_monitor_on_a_terminal_is_one_page_and_ctrl_c_ends_it_cleanly(notebook, tmp_path):
    path = tmp_path / "m.csv"
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "exo_lab.front.cli", "monitor", "--interval", "250ms", "--record", str(path)]
    # What runs in the background of a shell ignores Ctrl-C, and so would what it starts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stdout=follower, stderr=follower, env=environment(COLUMNS="100", TERM="xterm"))
    signal.signal(signal.SIGINT, before)
    os.close(follower)
    shown = bytearray()

    def listen() -> None:
        while True:
            try:
                shown.extend(os.read(leader, 65536) or b"")
            except OSError:  # the other side is closed
                return

    ear = threading.Thread(target=listen, daemon=True)
    ear.start()
    try:
        assert eventually(lambda: shown.count(b"kernel-2") >= 6, WITHIN_S)
        process.send_signal(signal.SIGINT)
        assert process.wait(WITHIN_S) == 0
    finally:
        process.kill()
        process.wait()
        ear.join(5)
        os.close(leader)
    text = shown.decode(errors="replace")
    assert "Traceback" not in text
    assert "\x1b[?25h" in text  # the cursor is there again
    assert "Ctrl+C ends it" in text
    assert path.read_text().startswith("at_s,tokens_per_s,id,name,state")
    assert len(path.read_text().splitlines()) > 6


def test_monitor_in_a_cell_opens_the_charts_and_records(notebook, tmp_path):
    path = tmp_path / "m.jsonl"
    request = notebook.start(f"%exo monitor --interval 250ms --for 1s --record {path}")
    shown = [m for m in notebook.messages(request) if m["msg_type"] in ("display_data", "execute_result")]
    assert notebook.reply(request)["status"] == "ok"
    assert any("CPU load" in m["content"]["data"].get("text/html", "") for m in shown)
    assert eventually(lambda: path.read_text().count("\n") >= 2)
    assert "kernel-1" in path.read_text()
    ended = "__import__('exo_lab.front.widgets', fromlist=['x']).live_telemetry.watching(exo.current()).running"
    notebook.run("import exo_lab.cluster as exo, exo_lab.front.widgets.live_telemetry")
    assert eventually(lambda: not notebook.value(ended))


# -- diagnose ------------------------------------------------------------------------------------------------


def secrets_of(notebook: Notebook) -> list[str]:
    """What must not be in a report: the token and the keys made of it, a node's own key, the user, the environment."""
    private = "__import__('exo_lab').cluster.current().node.parts.identity._private.private_bytes_raw().hex()"
    keys = msgspec.structs.asdict(ClusterKeys.from_token(TOKEN)).values()
    texts = [key.decode() if isinstance(key, bytes) else str(key) for key in keys]
    found = [TOKEN, PASSWORD, str(Path.home()), notebook.value(private), *texts]
    assert all(len(word) >= 5 for word in found)
    return found


@pytest.fixture(scope="module")
def report(notebook, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    said = shell("diagnose", "--network", "--output", str(path))
    assert "3 nodes, all alive" in said
    return path


def test_a_report_has_every_part_and_no_secret(notebook, report):
    text = report.read_text()
    for part in ("smollm2-135m over 3 nodes", "Memory used", "Network test", "Doctor", "predicted", "torch", *NODES):
        assert part in text, part
    for secret in secrets_of(notebook):
        assert secret not in html.unescape(text)
    assert not re.search(rf"[^:]\b{re.escape(getpass.getuser())}\b", text)  # ":root" is a word of style sheets
    assert "http" not in text.replace("http-equiv", "")
    assert len(text) < 1_000_000


def test_a_report_from_a_cell_has_the_charts_that_it_drew(notebook, tmp_path):
    notebook.run("%exo monitor --interval 250ms")
    notebook.run("%%exo --max-tokens 48\nName three rivers.")
    text, status = notebook.run(f"%exo diagnose --output {tmp_path / 'cell.html'}")
    assert status == "ok", text
    assert "3 nodes, all alive" in text
    assert "Tokens (tok/s)" in (tmp_path / "cell.html").read_text()  # of the answer


@pytest.mark.skipif(shutil.which("chromium") is None, reason="missing: chromium")
@pytest.mark.parametrize("scheme", [0, 1])  # dark, light
def test_a_report_opens_in_a_browser_without_a_network(report, tmp_path, scheme):
    picture = tmp_path / "report.png"
    command = [
        *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"),
        *("--proxy-server=127.0.0.1:9", f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1060,1600"),
        *(f"--blink-settings=preferredColorScheme={scheme}", "--enable-logging=stderr", "--virtual-time-budget=2000"),
        *(f"--screenshot={picture}", report.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert done.returncode == 0, done.stderr
    assert "Refused to" not in done.stderr  # by the page's own policy
    assert picture.stat().st_size > 50_000


def test_where_nobody_is_in_reach_the_report_is_of_this_machine_and_its_doctor(tmp_path):
    path = tmp_path / "alone.html"
    said = shell("diagnose", "--output", str(path), "--wait", "0.5", EXO_LAB_TOKEN=new_token())
    assert "0 nodes" in said
    text = path.read_text()
    assert "No other node was in reach" in text
    assert "Doctor" in text
    assert "This machine" in text


def test_a_node_that_is_down_is_in_the_report_as_such(notebook, tmp_path):
    text, status = notebook.run("%exo fail kernel-2")
    assert status == "ok", text
    path = tmp_path / "down.html"
    lost = re.compile(r"kernel-2 +○ lost")
    assert eventually(lambda: lost.search(notebook.run("%exo nodes")[0]))
    text, status = notebook.run(f"%exo diagnose --output {path}")
    assert status == "ok", text
    assert "1 of them not alive" in text
    assert "kernel-2 was lost" in path.read_text()
    assert "3 nodes" not in shell("topology", "show").splitlines()[0]
