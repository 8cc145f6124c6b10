"""What a user holds of measurements: alerts of every node, a history, a function of the user's own."""

from __future__ import annotations

import gc
import queue
import threading
import time
import weakref

import pytest

from exo_lab.cluster import Cluster
from exo_lab.core.errors import ConfigError, NodeLost
from exo_lab.core.watching import Rule, Watching
from exo_lab.node.parts import NodeOptions
from exo_lab.transport.keys import new_token

WITHIN_S = 20.0
# Whatever memory is used is too much, at once.
LOUD = Watching(memory_s=0.2, network_s=0.2, rules=(Rule(quantity="memory", threshold=1e-9, clear=1e-10),))
QUIET = Watching(memory_s=0.2, network_s=0.2, rules=())


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """A node that complains, and one that hears of it; real sockets on loopback."""
    monkeypatch.setenv("EXO_LAB_HISTORY", str(tmp_path / "history"))
    token = new_token()
    with (
        Cluster(NodeOptions(name="loud", engine="numpy", watching=LOUD), token) as loud,
        Cluster(NodeOptions(name="quiet", engine="numpy", watching=QUIET), token) as quiet,
    ):
        loud.wait_for(2, WITHIN_S)
        quiet.wait_for(2, WITHIN_S)
        yield loud, quiet


def until(condition, what: str):
    deadline = time.monotonic() + WITHIN_S
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        threading.Event().wait(0.02)
    return found


def test_an_alert_reaches_every_node_and_the_users_function_and_can_be_acknowledged(pair):
    loud, quiet = pair
    calls: queue.Queue = queue.Queue()
    end = quiet.on_alert(calls.put)
    raised = calls.get(timeout=WITHIN_S)
    assert (raised.node, raised.quantity, raised.state) == (loud.id, "memory", "raised")
    assert [alert.id for alert in quiet.alerts()] == [raised.id]
    assert [alert.id for alert in until(lambda: quiet.status().alerts, "status has it")] == [raised.id]
    quiet.acknowledge(raised.id)
    assert [alert.state for alert in quiet.alerts()] == ["acknowledged"]
    assert calls.get(timeout=WITHIN_S).state == "acknowledged"
    assert [alert.state for alert in loud.alerts()] == ["acknowledged"]
    loud.close()
    assert calls.get(timeout=WITHIN_S).state == "lost"
    end()
    end()
    assert calls.empty()


def test_leaving_the_cluster_ends_the_users_function_with_its_thread(tmp_path, monkeypatch):
    monkeypatch.setenv("EXO_LAB_HISTORY", str(tmp_path))
    before, calls, closed = set(threading.enumerate()), queue.Queue(), []
    for _ in range(2):
        with Cluster(NodeOptions(name="loud", engine="numpy", watching=LOUD), new_token()) as made:
            made.on_alert(calls.put)
            made.on_alert(print)()  # ended before
            assert calls.get(timeout=WITHIN_S).state == "raised"
            assert [one.name for one in threading.enumerate()].count("exo-alerts") == 1
            closed.append(weakref.ref(made.node))
        assert [one for one in set(threading.enumerate()) - before if one.name == "exo-alerts"] == []
    assert calls.empty()
    del made
    gc.collect()
    assert [one() for one in closed] == [None, None]


def test_what_the_users_function_raises_is_told_and_it_is_called_again(pair):
    _, quiet = pair
    seen: queue.Queue = queue.Queue()

    def broken(alert):
        seen.put(alert.state)
        raise ValueError("the lamp is out")

    quiet.on_alert(broken)
    assert seen.get(timeout=WITHIN_S) == "raised"
    until(lambda: any("the lamp is out" in problem for problem in quiet.status().problems), "the error is told")
    quiet.acknowledge(quiet.alerts()[0].id)
    assert seen.get(timeout=WITHIN_S) == "acknowledged"


def test_a_slow_function_holds_up_nobody(pair):
    loud, quiet = pair
    entered, go_on = threading.Event(), threading.Event()

    def slow(alert):
        entered.set()
        assert go_on.wait(WITHIN_S)

    quiet.on_alert(slow)
    assert entered.wait(WITHIN_S)
    heard = quiet.node.members.peers[loud.id].heard_at
    until(lambda: quiet.node.members.peers[loud.id].heard_at > heard, "pings go on")
    go_on.set()


def test_there_must_be_such_an_alert(pair):
    _, quiet = pair
    with pytest.raises(ConfigError, match="there is no alert 'x-1'"):
        quiet.acknowledge("x-1")


def test_a_history_can_be_asked_of_any_node_and_is_in_a_file_of_its_own(pair, tmp_path):
    loud, quiet = pair
    for node in (None, loud.id):
        series = until(lambda node=node: quiet.history(node, 60.0, ("memory",)), "memory was measured")
        assert [one.quantity for one in series] == ["memory"]
        assert all(0 <= value <= 1 for _, value in series[0].points)
    latency = until(lambda: quiet.history(None, 60.0, ("latency",)), "links were measured")
    assert [one.about for one in latency] == [loud.id]
    assert sorted(file.name for file in (tmp_path / "history").glob("*.sqlite3")) == ["loud.sqlite3", "quiet.sqlite3"]
    with pytest.raises(NodeLost):
        quiet.history("0" * 12)


def test_what_was_measured_is_there_after_the_node_came_back(tmp_path, monkeypatch):
    monkeypatch.setenv("EXO_LAB_HISTORY", str(tmp_path))
    counts = []
    for _ in range(2):
        with Cluster(NodeOptions(name="again", engine="numpy", watching=QUIET), new_token()) as made:
            until(lambda made=made: made.history(None, 60.0, ("memory",)), "memory was measured")
            counts.append(len(made.history(None, 60.0, ("memory",))[0].points))
    assert counts[1] > counts[0]


def test_a_node_that_measures_nothing_keeps_no_file(tmp_path, monkeypatch):
    from exo_lab.core.watching import OFF

    monkeypatch.setenv("EXO_LAB_HISTORY", str(tmp_path / "none"))
    with Cluster(NodeOptions(name="visitor", engine="numpy", watching=OFF), new_token()) as made:
        assert made.history() == ()
    assert not (tmp_path / "none").exists()
