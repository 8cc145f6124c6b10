"""What Prometheus and an OpenTelemetry collector get of a cluster, over real HTTP."""

from __future__ import annotations

import builtins
import socket
import threading
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import pytest

from exo_lab.cluster import Cluster
from exo_lab.core.errors import ConfigError
from exo_lab.node.parts import NodeOptions
from tests.cluster.exports import Collector, Scrape, values

WITHIN_S = 30.0
SECRET_PROMPT = "the cat sat"
TOKENS = 12


@pytest.fixture(scope="module")
def pair(token, model):
    """Two nodes of one process over real sockets, one of them emulated, with a model cut over them."""
    left = Cluster(NodeOptions(name="left", engine="numpy"), token)
    right = Cluster(NodeOptions(name="right", engine="numpy", slowdown=1.5), token)
    with left, right:
        left.wait_for(2, WITHIN_S)
        right.wait_for(2, WITHIN_S)
        left.load(model, devices=["left", "right"], context=64)
        ends, waiting = time.monotonic() + WITHIN_S, threading.Event()
        while any(node.memory_available_bytes is None for node in left.nodes()):  # until the first ping was answered
            assert time.monotonic() < ends
            waiting.wait(0.02)
        yield left, right


@pytest.fixture
def left(pair):
    yield pair[0]
    pair[0].export(prometheus="off", otlp="off")


def ask(cluster: Cluster):
    return cluster.generate(SECRET_PROMPT, raw=True, max_tokens=TOKENS, speculate=0, prefix_cache=False).result()


def test_a_scrape_tells_of_every_node_and_counts_the_tokens_of_a_generation(left):
    url = left.export(prometheus=0).prometheus
    before = Scrape(url).total("exo_lab_tokens_total")
    answer = ask(left)
    scrape, model = Scrape(url), answer.stats.model
    assert scrape.total("exo_lab_tokens_total") - before == len(answer.tokens)
    assert scrape.values("exo_lab_generations_total", model=model, finish=answer.finish) == [1]
    assert scrape.total("exo_lab_time_to_first_token_seconds_count") == 1
    assert scrape.total("exo_lab_time_per_output_token_seconds_count") == len(answer.tokens) - 1
    for name, emulated in (("left", ""), ("right", "1.5")):
        assert scrape.values("exo_lab_node_up", name=name) == [1]
        assert scrape.total("exo_lab_node_memory_available_bytes", name=name) > 0
        assert scrape.total("exo_lab_stage_layers", name=name) > 0
        (count,) = [
            one for one in scrape.samples
            if one.name == "exo_lab_stage_seconds_count" and one.labels["name"] == name
            and one.labels["phase"] == "decode"
        ]  # fmt: skip
        assert count.value == len(answer.tokens) - 1
        assert emulated in count.labels["emulated"]
        assert bool(count.labels["emulated"]) == bool(emulated)
    spent = sum(timing.compute_s for event in answer.tokens for timing in event.timings)
    assert scrape.total("exo_lab_stage_seconds_sum") == pytest.approx(spent)


def test_what_was_not_measured_is_not_there(left):
    scrape = Scrape(left.export(prometheus=0).prometheus)
    known = [node for node in left.nodes() if node.temperature_c is not None]
    assert len(scrape.values("exo_lab_node_temperature_celsius")) == len(known)
    assert scrape.values("exo_lab_alert_value") == []
    assert scrape.values("exo_lab_stage_seconds_count") == []  # nobody asked since it was switched on


def test_names_follow_the_conventions_of_prometheus(left):
    url = left.export(prometheus=0).prometheus
    ask(left)
    for family in Scrape(url).families.values():
        assert family.name.startswith("exo_lab_")
        assert family.documentation
        assert family.type in ("counter", "gauge", "histogram")
        if family.type == "counter":
            assert all(one.name.endswith(("_total", "_created")) for one in family.samples)
        assert not family.name.endswith(("_ms", "_percent", "_mb"))


def test_no_text_and_no_secret_is_in_a_scrape_or_a_trace(left, token):
    with Collector() as collector:
        url = left.export(prometheus=0, otlp=collector.url).prometheus
        answer = ask(left)
        text = Scrape(url).text
        left.export(otlp="off")
        assert collector.spans
        for secret in (SECRET_PROMPT, token, left.options.name and left.node.card.control):
            assert secret not in text
            assert secret.encode() not in collector.bodies
        assert answer.text.encode() not in collector.bodies


def test_a_generation_is_a_trace_with_a_span_for_each_token_and_stage(left, pair):
    with Collector() as collector:
        left.export(otlp=collector.url)
        answer = ask(left)
        left.export(otlp="off")
    (root,) = collector.named("exo_lab.generation")
    assert values(root.attributes)["exo_lab.tokens"] == len(answer.tokens)
    assert len({span.trace_id for span in collector.spans}) == 1
    (prefill,) = collector.named("exo_lab.prefill")
    steps = collector.named("exo_lab.token")
    assert len(steps) == len(answer.tokens) - 1
    assert {step.parent_span_id for step in (prefill, *steps)} == {root.span_id}
    plan = answer.stats.plan
    for step in steps:
        index = values(step.attributes)["exo_lab.index"]
        event, before = answer.tokens[index], answer.tokens[index - 1]
        took_s = (step.end_time_unix_nano - step.start_time_unix_nano) / 1e9
        assert took_s == pytest.approx(event.at_s - before.at_s, abs=1e-5)
        stages = [span for span in collector.named("exo_lab.stage") if span.parent_span_id == step.span_id]
        stages.sort(key=lambda span: values(span.attributes)["exo_lab.stage"])
        for stage, timing, node, shard in zip(stages, event.timings, plan.devices, plan.shards, strict=True):
            told = values(stage.attributes)
            assert told["exo_lab.node"] == node == timing.node
            assert (told["exo_lab.layer_start"], told["exo_lab.layer_end"]) == (shard.start, shard.end)
            assert told["exo_lab.compute_s"] == timing.compute_s
            assert ("exo_lab.emulated" in told) == (told["exo_lab.node_name"] == "right")
        held_s = sum(timing.handling_s for timing in event.timings)
        assert values(step.attributes)["exo_lab.wire_s"] == pytest.approx(max(0.0, took_s - held_s), abs=1e-5)
    assert collector.resources[0].keys() == {"service.name", "service.version"}


def test_a_collector_that_is_not_there_is_a_problem_and_delays_no_token(left):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        left.export(otlp=f"http://user:hunter2@127.0.0.1:{nobody.getsockname()[1]}")
        assert len(ask(left).tokens) == TOKENS
        waiting, deadline = threading.Event(), 100
        while not any("traces" in one for one in left.status().problems) and deadline:
            waiting.wait(0.1)
            deadline -= 1
        (problem,) = [one for one in left.status().problems if "traces" in one]
        assert "Is a collector running there" in problem
        assert "hunter2" not in problem
        assert "hunter2" not in left.export().otlp
    assert left.export(otlp="off").otlp == ""
    assert not any("traces" in one for one in left.status().problems)


def test_switched_off_nobody_answers_and_what_is_open_is_loopback(left):
    exported = left.export(prometheus=0)
    assert exported.prometheus.startswith("http://127.0.0.1:")
    assert left.export() == exported
    assert left.export(prometheus="off").prometheus == ""
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(exported.prometheus, timeout=5)


@pytest.mark.parametrize("place", ["", "http", "70000", "-1", "127.0.0.1:", ":80", "1.5"])
def test_a_place_that_is_none_is_named(left, place):
    with pytest.raises(ConfigError, match="no place to serve metrics"):
        left.export(prometheus=place)


def test_a_port_that_is_taken_is_said(left):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ConfigError, match="Name another port"):
            left.export(prometheus=other.getsockname()[1])


def test_what_is_served_goes_on_where_another_place_cannot_be_had(left):
    url = left.export(prometheus=0).prometheus
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        for place in (other.getsockname()[1], "nowhere"):
            with pytest.raises(ConfigError):
                left.export(prometheus=place)
            assert left.export().prometheus == url
    assert Scrape(url).values("exo_lab_node_up", name="left") == [1]


def test_the_same_place_can_be_named_again(left):
    url = left.export(prometheus=0).prometheus
    again = left.export(prometheus=urlsplit(url).port)
    assert again.prometheus == url
    assert Scrape(url).values("exo_lab_node_up", name="left") == [1]
    other = left.export(prometheus=0).prometheus
    assert other != url
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url, timeout=5)


def test_a_control_thread_that_stalls_costs_a_scrape_what_others_say_and_no_more(left, monkeypatch, capfd):
    monkeypatch.setattr("exo_lab.cluster.exporting.LOOK_TIMEOUT_S", 0.3)
    url, go_on = left.export(prometheus=0).prometheus, threading.Event()
    left._thread._loop.call_soon_threadsafe(go_on.wait, WITHIN_S)
    try:
        scrape = Scrape(url)
    finally:
        go_on.set()
    assert {one.labels["name"] for one in scrape.samples if one.name == "exo_lab_node_up"} == {"left", "right"}
    assert scrape.total("exo_lab_stage_layers", name="right") > 0
    assert scrape.values("exo_lab_node_sessions") == []
    assert any("without what other nodes say" in one for one in left.status().problems)
    assert "Traceback" not in capfd.readouterr().err
    monkeypatch.undo()
    assert len(Scrape(url).values("exo_lab_node_sessions")) == 2
    assert not any("without what other nodes say" in one for one in left.status().problems)


@pytest.mark.parametrize("url", ["127.0.0.1:4318", "ftp://x", "http://"])
def test_a_url_that_is_none_is_named(left, url):
    with pytest.raises(ConfigError, match="no collector's URL"):
        left.export(otlp=url)


def test_without_opentelemetry_it_is_said_how_to_get_it(left, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("opentelemetry"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r'pip install "exo-lab\[otel\]"'):
        left.export(otlp="http://127.0.0.1:4318")
    assert left.export().otlp == ""


def test_every_figure_that_nodes_count_has_the_name_that_nodes_give_it():
    from exo_lab.node.reuse import REUSED
    from exo_lab.telemetry.metrics import COUNTED

    assert REUSED in COUNTED
