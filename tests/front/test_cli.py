"""`exo-lab` in a shell: what goes where, and with which exit status."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading

import msgspec
import pytest

import exo_lab
from exo_lab.core.errors import ConfigError, NodeError, NodeLost
from exo_lab.core.topology import Sighting, topology
from exo_lab.front.cli import in_shell_words, main
from exo_lab.front.cli_node import visiting
from exo_lab.front.options import verbs
from exo_lab.front.secret import fingerprint
from exo_lab.transport.keys import load_or_create_token, new_token
from tests.front import scenes
from tests.front.fakes import FakeBackend, FakeCluster


class ShellCluster(FakeCluster):
    """A fake that a visiting shell joins: the others have a model loaded."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.loaded.append(scenes.loaded())

    def nodes(self):
        me, *others = super().nodes()
        here = msgspec.structs.replace(me.device, name=self.name, visits=self.options.get("visits", False))
        return (msgspec.structs.replace(me, device=here), *others)

    def topology(self):
        return topology(Sighting(device=node.device) for node in self.nodes())

    def wait_for(self, count, timeout_s=30.0):
        super().wait_for(count, timeout_s)
        if count > len(self.nodes()):
            raise NodeError("nobody else")
        return self.nodes()


class ShellBackend(FakeBackend):
    def connect(self, name=None, **options):
        self.made.append(ShellCluster(name=name, **options))
        return self.made[-1]


@pytest.fixture
def backend() -> ShellBackend:
    return ShellBackend()


def lines(text: str) -> list[str]:
    return text.strip().splitlines()


def test_version_and_help_need_no_cluster(backend, capsys):
    assert main(["--version"], backend) == 0
    assert exo_lab.__version__ in capsys.readouterr().out
    assert main([], backend) == 0
    shown = capsys.readouterr().out
    assert all(verb.name in shown for verb in verbs("shell"))
    assert backend.made == []


@pytest.mark.parametrize("argv", [["frobnicate"], ["load", "--layers", "x"], ["ask"], ["node", "--memory", "96"]])
def test_a_wrong_command_line_is_one_line_on_standard_error_and_status_2(backend, capsys, argv):
    assert main(argv, backend) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(lines(shown.err)) == 1
    assert "--help" in shown.err


@pytest.mark.parametrize(("verb", "said"), [("status", "kernel-1"), ("nodes", "kernel-2"), ("plan", "a proposal")])
def test_looking_joins_for_as_long_as_it_takes(backend, capsys, verb, said):
    assert main([verb], backend) == 0
    shown = capsys.readouterr()
    assert said in shown.out
    assert "shell-" not in shown.out
    assert shown.err == ""
    (made,) = backend.made
    assert made.closed
    assert made.name == f"shell-{os.getpid()}"
    assert made.options["visits"] is True


def test_an_answer_goes_to_standard_output_and_its_figures_to_standard_error(backend, capsys):
    assert main(["ask", "Hi", "there", "--max-tokens", "99", "--raw"], backend) == 0
    shown = capsys.readouterr()
    assert shown.out == "The capital of France is Paris.\n"
    assert "tok/s" in shown.err
    asked = backend.made[0].options_of("generate")
    assert (asked["prompt"], asked["max_tokens"], asked["raw"]) == ("Hi there", 99, True)


def test_a_prompt_can_come_from_standard_input(backend, capsys, monkeypatch):
    import io

    monkeypatch.setattr(sys, "stdin", io.StringIO("from a file\n"))
    assert main(["ask", "-"], backend) == 0
    assert backend.made[0].options_of("generate")["prompt"] == "from a file\n"


WITHOUT_A_CLUSTER = {"models", "token", "demo"}
NEEDED = {"move": ["0:4", "kernel-1"], "network": ["test"], "ask": ["Hi"], "replay": ["run.json"]}


@pytest.mark.parametrize("verb", sorted({one.name for one in verbs("shell")} - WITHOUT_A_CLUSTER))
def test_every_other_verb_joins_and_looks_for_nodes_where_it_is_told_to(backend, capsys, verb):
    asked = {}

    def connect(*_, **options):
        asked.update(options)
        raise NodeError("it has joined")

    backend.connect = connect
    where = ["--lan", "--peers", "tcp://10.0.0.2:1", "--discovery", "udp,mdns"]
    assert main([verb, *NEEDED.get(verb, ()), *where], backend) == 1
    assert "it has joined" in capsys.readouterr().err
    assert (asked["lan"], asked["peers"], asked["discovery"]) == (True, ("tcp://10.0.0.2:1",), ("udp", "mdns"))
    assert asked.get("visits", False) is (verb != "node")


def test_layers_are_moved_from_a_shell(backend, capsys):
    assert main(["move", "10-14", "kernel-2", "--wait", "0.1"], backend) == 0
    assert backend.made[0].options_of("move") == {"layers": "10-14", "node": "kernel-2", "model": None}
    shown = capsys.readouterr().out
    assert "kernel-2" in shown
    assert "shell-" not in shown


@pytest.mark.parametrize("verb", ["load", "plan"])
def test_nodes_and_their_order_are_left_to_the_strategy_as_in_a_cell(backend, capsys, verb):
    asked = {"load": "load", "plan": "explain"}[verb]
    assert main([verb, "--dtype", "float32", "--strategy", "optimal"], backend) == 0
    options = backend.made[0].options_of(asked)
    assert (options["model"], options["dtype"], options["strategy"]) == ("smollm2-135m", "float32", "optimal")
    assert "devices" not in options
    assert "shell-" not in capsys.readouterr().out
    assert main([verb, "--devices", "kernel-1"], backend) == 0
    assert backend.made[1].options_of(asked)["devices"] == ("kernel-1",)


@pytest.mark.parametrize("verb", ["fit", "simulate"])
def test_what_is_computed_on_paper_is_of_the_nodes_that_stay(backend, capsys, monkeypatch, verb):
    assert main([verb, "Llama 3.2 1B", "--context", "512"], backend) == 0
    shown = capsys.readouterr().out
    assert "kernel-1" in shown
    assert "shell-" not in shown
    alone = topology([Sighting(device=scenes.device(99, "shell-1", visits=True))])
    monkeypatch.setattr(ShellCluster, "topology", lambda self: alone)
    assert main([verb, "Llama 3.2 1B", "--wait", "0"], backend) == 1
    assert "exo-lab node" in capsys.readouterr().err
    assert backend.made[1].closed


def test_an_error_is_one_line_on_standard_error_status_1_and_the_shell_leaves_the_cluster(backend, capsys, monkeypatch):
    def fail(self, prompt, **options):
        raise NodeLost("kernel-2\nwent \x1b[31maway. See %exo nodes, or %exo up")

    monkeypatch.setattr(ShellCluster, "generate", fail)
    assert main(["ask", "Hi"], backend) == 1
    shown = capsys.readouterr()
    assert len(lines(shown.err)) == 1
    assert "NodeLost: kernel-2 went" in shown.err
    assert "\x1b" not in shown.err
    assert "exo-lab nodes, or %exo up" in shown.err
    assert backend.made[0].closed


def test_a_failed_answer_that_could_not_be_recorded_says_both_on_that_line(backend, capsys, monkeypatch, tmp_path):
    made = ShellCluster.generate

    def fail(self, prompt, **options):
        self.script.error = NodeLost("kernel-2 went away")
        return made(self, prompt, **options)

    def full(*_):
        raise ConfigError("the disk is full")

    monkeypatch.setattr(ShellCluster, "generate", fail)
    monkeypatch.setattr("exo_lab.front.verbs_records.write_file", full)
    assert main(["ask", "Hi", "--record", str(tmp_path / "run.json")], backend) == 1
    shown = capsys.readouterr()
    assert shown.out == "The capital of France is Paris.\n"
    assert lines(shown.err)[-1] == "exo-lab: NodeLost: kernel-2 went away; the disk is full"


def test_interrupt_ends_with_status_130(backend, capsys, monkeypatch):
    def press(self, prompt, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(ShellCluster, "generate", press)
    assert main(["ask", "Hi"], backend) == 130
    assert lines(capsys.readouterr().err) == ["exo-lab: interrupted"]
    assert backend.made[0].closed


def test_hints_name_the_command_that_the_shell_has():
    assert in_shell_words("%exo load x, %exo up 3, %exo nodes.") == "exo-lab load x, %exo up 3, exo-lab nodes."


def test_a_visitor_waits_for_a_model_only_as_long_as_it_was_told(backend):
    class Empty(ShellCluster):
        def models(self):
            return ()

    backend.connect = lambda name, **options: backend.made.append(Empty(name=name)) or backend.made[-1]
    with visiting(backend, 0.05, wants_model=True) as cluster:
        assert cluster.listeners == []
    assert cluster.closed


def test_a_node_says_how_to_join_and_leaves_in_order_when_told_to(backend, capsys):
    threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
    before = signal.getsignal(signal.SIGTERM)
    assert main(["node", "--name", "shed", "--memory", "1GB", "--peers", "tcp://a:1"], backend) == 0
    (made,) = backend.made
    assert made.closed
    assert made.options["memory"] == 10**9
    assert made.options["peers"] == ("tcp://a:1",)
    assert "--lan" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.usefixtures("private_home")
def test_token_keeps_the_secret_to_itself_unless_it_is_asked_for(backend, capsys):
    assert main(["token"], backend) == 0
    token = load_or_create_token()
    shown = capsys.readouterr().out
    assert fingerprint(token) in shown
    assert token not in shown
    assert main(["token", "--show"], backend) == 0
    assert token in capsys.readouterr().out


def test_models_lists_what_can_be_had(backend, capsys):
    assert main(["models"], backend) == 0
    assert "smollm2-135m" in capsys.readouterr().out


@pytest.mark.kernels
def test_two_real_nodes_meet_and_end_in_order(tmp_path):
    environment = {
        **os.environ,
        "EXO_LAB_TOKEN": new_token(),
        "JUPYTER_DATA_DIR": str(tmp_path / "data"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "PYTHONPATH": ".",
    }
    command = [sys.executable, "-m", "exo_lab.front.cli"]
    node = subprocess.Popen(
        [*command, "node", "--name", "shed", "--threads", "1"], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        first = node.stdout.readline()
        assert re.search(r"Node shed \([0-9a-f]+\) listens on tcp://127\.0\.0\.1:\d+", first)
        seen = subprocess.run(
            [*command, "nodes", "--wait", "3"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert seen.returncode == 0, seen.stderr
        assert "shed" in seen.stdout
        assert "1 node: 1 alive" in seen.stdout
        node.send_signal(signal.SIGINT)
        rest, _ = node.communicate(timeout=20)
        assert node.returncode == 0
        assert "leaving" in rest
    finally:
        node.kill()
        node.wait()
