"""What a user holds, over the in-process network and a tiny model in a real file: loading, generating, refusing."""

from __future__ import annotations

import asyncio

import pytest

from exo_lab.cluster import Cluster
from exo_lab.cluster.connect import connect, current, require
from exo_lab.core.errors import BadPlan, ConfigError, ModelNotFound, NodeError, NotConnected, PromptTooLong
from exo_lab.node.parts import NodeOptions
from exo_lab.transport.keys import new_token
from tests.tiny import tiny_config, write_gguf

WITHIN_S = 30.0
PROMPT = "the cat sat"


@pytest.fixture(scope="module")
def pair(token):
    """Two nodes of one process over real sockets on loopback; they find each other by the registry."""
    options = [NodeOptions(name=name, engine="numpy") for name in ("left", "right")]
    with Cluster(options[0], token) as left, Cluster(options[1], token) as right:
        left.wait_for(2, WITHIN_S)
        right.wait_for(2, WITHIN_S)
        yield left, right


def test_both_see_both(pair):
    for cluster in pair:
        assert sorted(node.device.name for node in cluster.nodes()) == ["left", "right"]
        assert cluster.nodes()[0].is_self
        assert [node.liveness for node in cluster.nodes()] == ["alive", "alive"]


def test_every_node_says_what_it_is_busy_with(pair):
    for cluster in pair:
        told = cluster.counters()
        assert set(told) == {node.device.id for node in cluster.nodes()}
        assert all(one.sessions == 0 and one.rss_bytes > 0 for one in told.values())


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_asking_for_alternatives_changes_no_token(pair, model, temperature):
    left, _ = pair
    left.load(model, devices=["left", "right"], context=64)

    def ask(logprobs: int) -> list:
        options = {"raw": True, "max_tokens": 16, "temperature": temperature, "seed": 5, "logprobs": logprobs}
        return left.generate(PROMPT, **options).result().tokens

    plain = ask(0)
    assert all(event.alternatives == () for event in plain)
    for count in (1, 20):
        told = ask(count)
        assert [(event.token, event.logprob) for event in told] == [(event.token, event.logprob) for event in plain]
        assert all(len(event.alternatives) == count for event in told)
        if temperature == 0:
            assert all(event.alternatives[0][1] == pytest.approx(event.logprob) for event in told)
    left.unload()


def test_a_draft_with_the_same_tokens_guesses_and_another_is_refused(pair, model, tmp_path):
    left, _ = pair
    left.load(model, devices=["left", "right"], context=64)
    options = {"raw": True, "max_tokens": 24}
    plain = [event.token for event in left.generate(PROMPT, **options).result().tokens]
    write_gguf(tmp_path / "smaller.gguf", tiny_config(n_layers=2), seed=4)
    for draft in (model, str(tmp_path / "smaller.gguf"), str(tmp_path / "smaller.gguf")):
        drafted = left.generate(PROMPT, draft=draft, speculate=3, **options).result()
        assert [event.token for event in drafted.tokens] == plain
    before = left.counters()[left.id].counters["guesses"]
    assert [
        event.token for event in left.generate(PROMPT, draft=model, speculate=0, **options).result().tokens
    ] == plain
    assert left.counters()[left.id].counters["guesses"] == before > 0
    write_gguf(tmp_path / "other.gguf", tiny_config(vocab_size=320))
    with pytest.raises(ConfigError, match="needs the same tokenizer"):
        left.generate(PROMPT, draft=str(tmp_path / "other.gguf"), **options)
    with pytest.raises(ModelNotFound):
        left.generate(PROMPT, draft="nobody/knows", **options)
    left.unload()


def test_a_plan_is_made_without_loading_anything(pair, model):
    left, _ = pair
    preview = left.plan(model, devices=["right", "left"], layers=[1, tiny_config().n_layers - 1])
    names = {device.id: device.name for device in preview.devices}
    assert [names[device] for device in preview.plan.devices] == ["right", "left"]
    assert left.models() == ()


def test_either_node_asks_and_gets_the_tokens_of_the_uncut_model(pair, model):
    left, right = pair
    left.load(model, devices=["left"], context=64)
    whole = [event.token for event in left.generate(PROMPT, raw=True, max_tokens=12).result().tokens]
    loaded = left.load(model, devices=["right", "left"], context=64)
    assert len(loaded.plan.devices) == 2
    assert [one.plan.rank for one in left.models()] == [loaded.plan.rank]
    for cluster in pair:
        generation = cluster.generate(PROMPT, raw=True, max_tokens=12).result()
        assert [event.token for event in generation.tokens] == whole
        assert generation.text == "".join(event.text for event in generation.tokens)
    assert right.status().models[0].plan.rank == loaded.plan.rank


def test_text_is_iterated_also_without_blocking_a_loop(pair, model):
    left, _ = pair
    left.load(model, devices=["right", "left"], context=64)
    expected = left.generate(PROMPT, raw=True, max_tokens=12).result().text
    assert "".join(left.generate(PROMPT, raw=True, max_tokens=12)) == expected

    async def read() -> str:
        return "".join([piece async for piece in left.generate(PROMPT, raw=True, max_tokens=12)])

    assert asyncio.run(read()) == expected


def test_a_model_is_unloaded_everywhere(pair, model):
    left, right = pair
    left.load(model, devices=["right", "left"], context=64)
    left.unload()
    assert left.models() == right.models() == ()
    with pytest.raises(ConfigError, match=r"no model is loaded.*%exo load"):
        left.generate(PROMPT)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"devices": ["nobody"]}, ConfigError, "no node named 'nobody'"),
        ({"devices": ["left", "left"]}, ConfigError, "listed twice"),
        ({"strategy": "best"}, ConfigError, "no strategy"),
        ({"layers": [1]}, BadPlan, "1 layer counts for 2 devices"),
        ({"devices": ["left"], "layers": [1]}, BadPlan, "add up to 1"),
        ({"devices": ["left"], "engine": "abacus"}, ConfigError, "no engine 'abacus'"),
        ({"devices": ["left"], "engine": "numpy", "dtype": "bfloat16"}, ConfigError, "float32 only"),
    ],
)
def test_a_wrong_option_is_named(pair, model, options, error, says):
    left, _ = pair
    with pytest.raises(error, match=says):
        left.load(model, context=64, **options)
    assert left.models() == ()


def test_wrong_requests_are_named(pair, model):
    left, _ = pair
    with pytest.raises(ModelNotFound, match="no such thing"):
        left.load("no such thing")
    left.load(model, devices=["left"], context=64)
    for options, error, says in (
        ({"temperatur": 1}, ConfigError, "no option temperatur"),
        ({"temperature": -1.0}, ConfigError, "temperature"),
        ({"temperature": "hot"}, ConfigError, "temperature"),
        ({"max_tokens": 10**6}, PromptTooLong, "room for"),
        ({"model": "other"}, ConfigError, "other is not loaded"),
        ({"system": "be kind"}, ConfigError, "raw takes a plain string"),
    ):
        with pytest.raises(error, match=says):
            left.generate(PROMPT, raw=True, **options)
    with pytest.raises(ConfigError, match="empty"):
        left.generate("", raw=True)


def test_waiting_for_nodes_that_never_come_ends_with_who_is_there(pair):
    left, _ = pair
    with pytest.raises(NodeError, match=r"2 of 5 nodes after 0\.2 s: left, right"):
        left.wait_for(5, 0.2)


def test_a_node_of_another_cluster_is_refused_and_counted(pair):
    left, _ = pair
    options = NodeOptions(name="stranger", engine="numpy", peers=(left.node.card.control,), discovery=())
    with Cluster(options, new_token()) as stranger, pytest.raises(NodeError, match="1 of 2 nodes"):
        stranger.wait_for(2, 3.5)
    assert sum(left.status().refused.values()) > 0
    assert all(node.device.name != "stranger" for node in left.nodes())


def test_a_node_that_leaves_is_seen_to_leave_at_once(pair, token):
    left, _ = pair
    with Cluster(NodeOptions(name="guest", engine="numpy"), token) as guest:
        left.wait_for(3, WITHIN_S)
        guest.wait_for(3, WITHIN_S)
    assert [node.liveness for node in left.nodes() if node.device.name == "guest"] == ["lost"]


def test_a_process_is_one_node_and_says_so_when_it_is_none(monkeypatch, token):
    monkeypatch.setenv("EXO_LAB_TOKEN", token)
    assert current() is None
    with pytest.raises(NotConnected, match="%exo connect"):
        require()
    made = connect("only", engine="numpy", discovery=())
    try:
        assert connect("other") is made is current() is require()
        assert made.name == "only"
    finally:
        made.close()
    assert current() is None
    made.close()  # again: nothing happens


def test_a_closed_cluster_says_so(token):
    made = Cluster(NodeOptions(name="gone", engine="numpy", discovery=()), token)
    made.close()
    with pytest.raises(NodeError, match="connect again"):
        made.unload("x") if made.models() else made._thread.run(asyncio.sleep(0))
    assert "closed" in repr(made)


def test_layers_move_to_another_node_while_an_answer_comes(pair, model):
    left, _ = pair
    last = tiny_config().n_layers - 1
    left.load(model, devices=["left", "right"], layers=[1, last])
    whole = left.generate(PROMPT, raw=True, max_tokens=40).result(WITHIN_S).text
    answer = left.generate(PROMPT, raw=True, max_tokens=40)
    moved = left.move(f"1-{last - 1}", "left")
    assert [len(shard) for shard in moved.plan.shards] == [last, 1]
    assert answer.result(WITHIN_S).text == whole
    assert left.generate(PROMPT, raw=True, max_tokens=40).result(WITHIN_S).text == whole
    with pytest.raises(BadPlan, match="already"):
        left.move((0, 1), "left")
    with pytest.raises(ConfigError, match="nobody"):
        left.move("0", "nobody")
