"""The end of an answer: whatever breaks then, what came is drawn to its end, and its own error comes first."""

from __future__ import annotations

from typing import Any

import pytest

from exo_lab.core.errors import ConfigError, NodeLost, NotConnected
from exo_lab.core.record import decode
from exo_lab.front.streaming import stream
from tests.front.fakes import FakeCluster


class Screen:
    """Keeps what was drawn; `offer` draws nothing, as one that drew a moment ago."""

    def __init__(self) -> None:
        self.last: Any = None

    def offer(self, make) -> None:
        pass

    def finish(self, view) -> None:
        self.last = view


def fails(error: BaseException) -> Any:
    def fail(*_):
        raise error

    return fail


def generation(error: NodeLost | None = None):
    cluster = FakeCluster()
    cluster.load("smollm2-135m")
    cluster.script.error = error
    return cluster.generate("Hi")


@pytest.mark.parametrize("what", ["warnings", "metadata", "save"])
@pytest.mark.parametrize("trouble", [ConfigError("the disk is full"), KeyboardInterrupt(), RuntimeError("a bug")])
def test_an_answer_is_drawn_to_its_end_whatever_breaks_behind_it(what, trouble):
    screen = Screen()
    with pytest.raises(type(trouble)):
        stream(generation(), screen, **{what: fails(trouble)})
    assert screen.last.state == "stop"
    assert screen.last.answer == "The capital of France is Paris."


@pytest.mark.parametrize("what", ["warnings", "metadata", "save"])
def test_the_error_of_an_answer_comes_first_and_tells_of_the_other(what):
    screen = Screen()
    with pytest.raises(NodeLost) as raised:
        stream(generation(NodeLost("kernel-2 went away")), screen, **{what: fails(ConfigError("the disk is full"))})
    assert raised.value.__notes__ == ["the disk is full"]
    assert screen.last.state == "error"


def test_an_answer_is_on_the_screen_before_it_is_saved():
    screen, seen = Screen(), []
    stream(generation(), screen, save=lambda: seen.append(screen.last.answer))
    assert seen == ["The capital of France is Paris."]


def test_a_node_that_cannot_be_asked_for_alerts_spoils_no_answer(run, cluster, monkeypatch):
    monkeypatch.setattr(cluster, "status", fails(NotConnected("the control thread does not answer")))
    ran = run("%%exo\nHi")
    assert ran.error is None
    assert "Paris" in ran.text()
    assert "alerts could not be asked: the control thread does not answer" in ran.text()


def test_a_record_that_could_not_be_written_is_said_before_anything_is_asked(run, cluster, tmp_path):
    ran = run(f"%%exo --record {tmp_path}/none/run.json\nHi")
    assert isinstance(ran.error, ConfigError)
    assert "none/run.json cannot be written" in ran.stdout
    assert cluster.requests == []


def test_a_failed_answer_with_a_full_disk_says_both_and_keeps_its_text(run, cluster, tmp_path, monkeypatch):
    cluster.script.error = NodeLost("kernel-2 went away")
    monkeypatch.setattr("exo_lab.front.verbs_records.write_file", fails(ConfigError("the disk is full")))
    ran = run(f"%%exo --record {tmp_path / 'run.json'}\nHi")
    assert isinstance(ran.error, NodeLost)
    assert "kernel-2 went away" in ran.stdout
    assert "the disk is full" in ran.stdout
    assert "failed" in ran.text()
    assert "Paris" in ran.text()


def test_a_failed_answer_is_recorded_all_the_same(run, cluster, tmp_path):
    cluster.script.error = NodeLost("kernel-2 went away")
    assert isinstance(run(f"%%exo --record {tmp_path / 'run.json'}\nHi").error, NodeLost)
    assert decode((tmp_path / "run.json").read_bytes()).text == "The capital of France is Paris."
