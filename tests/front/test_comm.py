"""The panel's comm: every request gets one answer, what changes is pushed, Stop gets past a slow change."""

from __future__ import annotations

import contextvars
import json
import queue
import threading
import time
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exo_lab.core.errors import ConfigError, DoesNotFit, StaleEpoch
from exo_lab.core.messages import StageTiming
from exo_lab.core.plan import plan_from_counts
from exo_lab.core.status import ClusterStatus, GenerationStats, TokenEvent
from exo_lab.core.topology import link
from exo_lab.front import panel_messages as m
from exo_lab.front.cells import Cells
from exo_lab.front.panel import Panel
from exo_lab.front.panel_feed import KEPT_TOKENS, Feed

DEADLINE_S = 10
PLAN = plan_from_counts("tiny", ("a", "b"), (3, 2))
WHERE: contextvars.ContextVar[str] = contextvars.ContextVar("where", default="nowhere")


class FakeComm:
    """ipykernel's comm as the panel uses it; keeps what was sent, and in which context."""

    def __init__(self):
        self.sent: queue.Queue[dict] = queue.Queue()
        self.contexts: set[str] = set()
        self.broken = False
        self.goodbyes: queue.Queue[Any] = queue.Queue()

    def send(self, data):
        if self.broken:
            raise OSError("the socket is closed")
        self.contexts.add(WHERE.get())
        json.dumps(data, allow_nan=False)
        self.sent.put(data)

    def close(self, data=None):
        if self.broken:
            raise OSError("the socket is closed")
        self.contexts.add(WHERE.get())
        self.goodbyes.put(data)

    def on_msg(self, callback):
        self.receive = callback

    def on_close(self, callback):
        self.closed = callback

    def ask(self, data):
        self.receive({"content": {"data": data}})

    def wait_for(self, kind, **fields):
        """The next message of a kind with these fields; others are skipped."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            message = self.sent.get(timeout=max(0.0, deadline - time.monotonic()))
            if message["type"] == kind and all(message.get(key) == value for key, value in fields.items()):
                return message


class FakeCluster:
    strategies = ("uniform",)
    default_strategy = "uniform"
    predicts = True

    def __init__(self):
        self.listeners = []
        self.name = "first"
        self.may_apply = threading.Event()
        self.may_apply.set()
        self.applying = threading.Event()
        self.cancelled = []
        self.seen = []
        self.load = float("nan")

    def status(self):
        return ClusterStatus(name=self.name, node_id="a")

    def links(self):
        return (link("a", "b", kind="loopback", latency_s=0.0002),)

    def on_change(self, listener):
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def predict(self, change):
        if change.layers is not None and sum(change.layers) != 5:
            raise DoesNotFit("tiny has 5 layers")
        return m.Prediction(devices=(m.DevicePrediction(device="a", layers=5),), tokens_per_s=float("nan"))

    def apply(self, change, progress):
        progress("a", 1, 2, "layers")
        self.applying.set()
        assert self.may_apply.wait(DEADLINE_S)
        if change.epoch != 1:
            raise StaleEpoch("the plan has changed since: epoch 2")
        return msgspec.structs.replace(PLAN, epoch=2)

    def cancel(self, request):
        self.cancelled.append(request)
        return 1

    def acknowledge(self, alert):
        if alert != "a-1":
            raise ConfigError(f"there is no alert {alert!r}; there are none.")
        self.seen.append(alert)


@pytest.fixture
def cluster():
    return FakeCluster()


@pytest.fixture
def panel(cluster):
    made = Panel(lambda: cluster)
    yield made
    cluster.may_apply.set()
    made.close()


@pytest.fixture
def comm(panel):
    made = FakeComm()
    contextvars.copy_context().run(lambda: (WHERE.set("the comm's shell"), panel.opened(made, {})))
    return made


def token(index, **fields):
    timing = StageTiming("a", 0.001, 0.002)
    return TokenEvent(index=index, token=1, text="x", logprob=-0.5, at_s=0.1, timings=(timing,), **fields)


def stats(tokens, request="r", plan=PLAN, **fields):
    return GenerationStats(request=request, model="tiny", plan=plan, prompt_tokens=1, tokens=tokens, **fields)


def told(comm, until):
    """What comes of answers, in order, up to the message of that kind; statuses are passed over."""
    heard = []
    while not heard or heard[-1]["type"] != until:
        message = comm.sent.get(timeout=DEADLINE_S)
        heard += [message] if message["type"] != "status" else []
    return heard


def indices_of(messages):
    return [one["index"] for message in messages for one in message.get("tokens", ())]


def change(**fields):
    return {"model": "tiny", "epoch": 1, "devices": ["a", "b"], "layers": [3, 2], **fields}


def test_a_front_end_that_connects_is_told_how_things_are(comm):
    message = comm.wait_for("status")
    assert message["status"]["name"] == "first"
    assert message["links"][0]["kind"] == "loopback"
    assert message["protocol"] == m.PANEL_PROTOCOL


def test_a_kernel_that_is_no_node_says_so_and_then_that_it_has_become_one(cluster):
    now = [None]
    panel = Panel(lambda: now[0])
    comm = FakeComm()
    panel.opened(comm, {})
    assert comm.wait_for("status")["status"] is None
    now[0] = cluster
    panel.changed()
    while comm.wait_for("status")["status"] is None:
        pass
    panel.close()


def test_a_cluster_that_is_just_being_imported_is_shown_when_it_is_there(cluster):
    asked = []

    def current():
        asked.append(1)
        if len(asked) < 3:
            raise AttributeError("partially initialized module has no attribute 'current'")
        return cluster

    panel = Panel(current)
    comm = FakeComm()
    panel.opened(comm, {})
    assert comm.wait_for("status")["status"]["name"] == "first"
    panel.close()


def test_a_change_in_the_cluster_is_pushed(comm, cluster):
    comm.wait_for("status")
    while not cluster.listeners:
        comm.wait_for("status")
    cluster.name = "second"
    cluster.listeners[0]("nodes")
    while comm.wait_for("status")["status"]["name"] != "second":
        pass


def test_every_push_runs_in_the_context_of_the_comms_opening(comm, panel):
    comm.wait_for("status")
    panel.token("r", TokenEvent(index=0, token=1, text="x", logprob=-0.5, at_s=0.1))
    comm.wait_for("tokens")
    comm.ask({"type": "refresh", "id": "1"})
    comm.wait_for("acknowledged", id="1")
    assert comm.contexts == {"the comm's shell"}


def test_an_alert_is_acknowledged_and_one_that_is_over_is_a_problem(comm, cluster):
    comm.ask({"type": "acknowledge-alert", "id": "1", "alert": "a-1"})
    comm.wait_for("acknowledged", id="1")
    assert cluster.seen == ["a-1"]
    comm.ask({"type": "acknowledge-alert", "id": "2", "alert": "b-9"})
    assert "no alert 'b-9'" in comm.wait_for("problem", id="2")["message"]


def test_a_what_if_is_answered_with_its_id_and_without_nan(comm):
    comm.ask({"type": "what-if", "id": "17", "change": change()})
    answer = comm.wait_for("predicted", id="17")
    assert answer["prediction"]["devices"][0]["layers"] == 5
    assert answer["prediction"]["tokens_per_s"] is None


def test_a_change_that_does_not_fit_is_refused_in_the_clusters_words(comm):
    comm.ask({"type": "what-if", "id": "1", "change": change(layers=[9, 9])})
    answer = comm.wait_for("problem", id="1")
    assert answer["error"] == "DoesNotFit"
    assert answer["message"] == "tiny has 5 layers"


def test_apply_reports_progress_and_then_the_new_plan(comm):
    comm.wait_for("status")
    comm.ask({"type": "apply", "id": "1", "change": change()})
    seen = [comm.sent.get(timeout=DEADLINE_S) for _ in range(2)]
    while not any(message["type"] == "applied" for message in seen):
        seen.append(comm.sent.get(timeout=DEADLINE_S))
    applied = next(message for message in seen if message["type"] == "applied")
    assert applied["plan"]["epoch"] == 2
    while not any(message["type"] == "load-progress" for message in seen):
        seen.append(comm.sent.get(timeout=DEADLINE_S))


def test_a_change_of_a_plan_that_is_no_longer_current_is_refused(comm):
    comm.ask({"type": "apply", "id": "1", "change": change(epoch=7)})
    assert comm.wait_for("problem", id="1")["error"] == "StaleEpoch"


def test_stop_gets_through_while_a_plan_is_being_changed(comm, cluster):
    cluster.may_apply.clear()
    comm.ask({"type": "apply", "id": "1", "change": change()})
    assert cluster.applying.wait(DEADLINE_S)
    comm.ask({"type": "stop", "id": "2", "request": "r"})
    assert comm.wait_for("stopped", id="2")["count"] == 1
    assert cluster.cancelled == ["r"]
    comm.ask({"type": "apply", "id": "3", "change": change()})
    assert "another change" in comm.wait_for("problem", id="3")["message"]
    cluster.may_apply.set()
    comm.wait_for("applied", id="1")


def test_tokens_come_in_order_between_start_and_end(comm, panel):
    comm.wait_for("status")
    panel.started(stats(tokens=0))
    for index in range(50):
        panel.token("r", token(index))
    panel.ended(stats(tokens=50))
    heard = told(comm, until="generation-end")
    assert heard[0]["type"] == "generation-start"
    assert indices_of(heard) == list(range(50))


def test_a_front_end_that_arrives_during_an_answer_hears_it_from_its_beginning_and_nothing_twice(panel, comm):
    panel.started(stats(tokens=0))
    for index in range(3):
        panel.token("r", token(index))
    comm.wait_for("tokens")
    late = FakeComm()
    panel.opened(late, {})
    for index in range(3, 6):
        panel.token("r", token(index))
    panel.ended(stats(tokens=6))
    heard = told(late, until="generation-end")
    assert [message["type"] for message in heard].count("generation-start") == 1
    assert heard[0]["type"] == "generation-start"
    assert indices_of(heard) == list(range(6))
    assert indices_of(told(comm, until="generation-end")) == [3, 4, 5]


def test_a_front_end_that_arrives_after_an_answer_is_shown_it_although_nobody_looked_at_the_time(panel):
    panel.started(stats(tokens=0))
    panel.token("r", token(0))
    panel.token("another", token(7))
    panel.ended(stats(request="another", tokens=8))
    panel.ended(stats(tokens=1))
    late = FakeComm()
    panel.opened(late, {})
    assert [message["type"] for message in told(late, until="generation-end")] == [
        "generation-start",
        "tokens",
        "generation-end",
    ]


def test_an_answer_that_goes_on_over_another_plan_says_so_to_those_who_are_there_and_to_those_who_come(panel, comm):
    comm.wait_for("status")
    panel.started(stats(tokens=0))
    panel.token("r", token(0))
    panel.moved(stats(tokens=1, plan=msgspec.structs.replace(plan_from_counts("tiny", ("b",), (5,)), epoch=4)))
    panel.token("r", token(1))
    panel.ended(stats(tokens=2))
    moved = next(one for one in told(comm, until="generation-end") if one["type"] == "generation-moved")
    assert (moved["epoch"], moved["devices"], moved["index"]) == (4, ["b"], 1)
    late = FakeComm()
    panel.opened(late, {})
    assert moved in told(late, until="generation-end")


def test_of_an_endless_answer_the_end_is_kept():
    feed = Feed()
    feed.put(m.GenerationStart(request="r", model="tiny", epoch=1, devices=("a",)), wanted=False)
    for index in range(2 * KEPT_TOKENS):
        feed.put(m.TokensEvent(request="r", tokens=(token(index),)), wanted=False)
    waiting, (_, tokens) = feed.take()
    assert waiting == []
    assert [one.index for one in tokens.tokens] == list(range(KEPT_TOKENS, 2 * KEPT_TOKENS))


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        "stop",
        7,
        {},
        {"type": "stop"},
        {"type": "nonsense", "id": "1"},
        {"type": "what-if", "id": "1"},
        {"type": "what-if", "id": "1", "change": change(layers=[-1])},
        {"type": "what-if", "id": "1", "change": change(devices=[])},
        {"type": "what-if", "id": "1", "change": change(colour="red")},
        {"type": "stop", "id": "1", "request": "x" * 300},
        {"type": "stop", "id": "1", "request": "x" * 100_000},
        {"type": "stop", "id": {"a": 1}},
        {"type": "stop", "id": "x" * 5000},
    ],
)
def test_a_request_that_makes_no_sense_is_answered_and_not_raised(comm, data):
    comm.ask(data)
    answer = comm.wait_for("problem")
    assert answer["message"]
    assert answer["id"] in (None, "1")
    comm.ask({"type": "refresh", "id": "after"})
    comm.wait_for("acknowledged", id="after")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["what-if", "apply", "stop", "refresh", ""]),
    rest=st.dictionaries(st.text(max_size=8), ANYTHING),
)
def test_any_json_gets_exactly_one_answer(kind, rest):
    panel = Panel(lambda: None)
    comm = FakeComm()
    panel.opened(comm, {})
    comm.ask({**rest, "type": kind, "id": "1"})
    panel.close()
    answers = [message for message in list(comm.sent.queue) if message["type"] in ("problem", "acknowledged")]
    if kind == "apply":
        return  # answered on its own thread; malformed ones are covered by the cases above
    assert len(answers) == 1


def test_a_broken_front_end_is_dropped_and_the_others_go_on(panel, comm):
    broken = FakeComm()
    panel.opened(broken, {})
    broken.broken = True
    comm.wait_for("status")
    panel.changed()
    comm.wait_for("status")
    comm.ask({"type": "refresh", "id": "1"})
    comm.wait_for("acknowledged", id="1")


def test_nothing_runs_when_nobody_looks(panel, comm):
    comm.wait_for("status")
    pusher = next(thread for thread in threading.enumerate() if thread is panel._pusher)
    comm.closed({})
    pusher.join(DEADLINE_S)
    assert not pusher.is_alive()
    panel.token("r", TokenEvent(index=0, token=1, text="x", logprob=-0.5, at_s=0.1))
    assert panel._feed.take() == ([], [])


def test_closing_tells_every_front_end_on_its_own_shell_and_a_broken_one_does_not_keep_it_from_the_others(panel, comm):
    broken = FakeComm()
    panel.opened(broken, {})
    comm.wait_for("status")
    broken.broken = True
    panel.close()
    assert comm.goodbyes.get(timeout=DEADLINE_S) == {"reason": "unloaded"}
    assert comm.contexts == {"the comm's shell"}
    panel.close()
    assert comm.goodbyes.empty()


class Lease:
    """A panel whose clock stands still until it is moved, and which rounds end as soon as they are asked for."""

    def __init__(self):
        self.now, self.busy = 1000.0, False
        self.panel = Panel(lambda: None, lambda: self.busy, lambda: self.now)

    def passed(self, seconds):
        self.now += seconds
        self.panel._let_go_of_silent()

    def open(self):
        comm = FakeComm()
        self.panel.opened(comm, {})
        return comm


@pytest.fixture
def lease():
    made = Lease()
    yield made
    made.panel.close()


def test_a_front_end_that_asks_nothing_for_a_minute_is_let_go_and_the_others_are_not(lease):
    silent, alive = lease.open(), lease.open()
    for turn in range(2):
        lease.passed(m.SILENT_S - 1 if turn == 0 else 2)
        alive.ask({"type": "refresh", "id": str(turn)})
    assert silent.goodbyes.get(timeout=DEADLINE_S) == {"reason": "silent"}
    assert alive.goodbyes.empty()
    assert [line.comm for line in lease.panel._lines] == [alive]
    assert m.RENEW_S * 2 < m.SILENT_S  # one question may be lost


def test_the_thread_that_pushes_looks_for_silent_ones_itself(lease):
    silent = lease.open()
    lease.now += m.SILENT_S
    lease.panel.changed()
    assert silent.goodbyes.get(timeout=DEADLINE_S) == {"reason": "silent"}


def test_nobody_is_silent_while_a_cell_runs_since_nobody_can_be_heard_then(lease):
    comm = lease.open()
    lease.busy = True
    lease.passed(600)
    lease.busy = False
    lease.passed(m.SILENT_S - 1)
    assert comm.goodbyes.empty()
    lease.passed(1)
    assert comm.goodbyes.get(timeout=DEADLINE_S) == {"reason": "silent"}


def test_a_cell_counts_as_running_between_ipythons_two_events():
    from IPython.core.events import EventManager

    shell: Any = SimpleNamespace()
    shell.events = EventManager(shell, dict.fromkeys(("pre_run_cell", "post_run_cell"), Cells))
    cells = Cells(shell)
    assert not cells.running
    shell.events.trigger("pre_run_cell", None)
    assert cells.running
    shell.events.trigger("post_run_cell", None)
    assert not cells.running
    cells.close()
    cells.close()
    shell.events.trigger("pre_run_cell", None)
    assert not cells.running


def test_outside_a_kernel_nothing_is_registered():
    from exo_lab.front.panel_target import register
    from exo_lab.hearing import ears

    assert register(lambda: None, None) is None
    assert ears() == ()
