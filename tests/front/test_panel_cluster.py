"""The real cluster behind the panel: two nodes, a tiny model; changes are judged, made, and refused when late."""

from __future__ import annotations

import msgspec
import pytest

from exo_lab.cluster import Cluster
from exo_lab.core.errors import ConfigError, StaleEpoch
from exo_lab.front.panel_cluster import ClusterView, Current
from exo_lab.front.panel_messages import PlanChange
from exo_lab.hearing import listen
from exo_lab.node.parts import NodeOptions
from exo_lab.transport.keys import new_token
from tests.tiny import tiny_config, write_gguf
from tests.waiting import eventually

WITHIN_S = 30.0
LAYERS = tiny_config().n_layers


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    write_gguf(path, tiny_config())
    token = new_token()
    options = [NodeOptions(name=name, engine="numpy") for name in ("left", "right")]
    with Cluster(options[0], token) as left, Cluster(options[1], token) as right:
        left.wait_for(2, WITHIN_S)
        right.wait_for(2, WITHIN_S)
        left.load(str(path), devices=["left", "right"], layers=[LAYERS - 1, 1], context=64)
        yield left, right


@pytest.fixture
def view(pair):
    return ClusterView(pair[0])


def change_of(view, layers=None, **fields):
    plan = view.status().models[0].plan
    devices = tuple(node.device.id for node in view.status().nodes)
    return PlanChange(
        **{
            "model": plan.model,
            "epoch": plan.epoch,
            "devices": devices,
            "layers": layers,
            "context_tokens": 64,
            **fields,
        }
    )


def test_a_change_is_judged_without_being_made(view):
    before = view.status().models[0].plan
    prediction = view.predict(change_of(view, (1, LAYERS - 1)))
    assert prediction.fits
    assert [one.layers for one in prediction.devices] == [1, LAYERS - 1]
    assert all(one.memory_needed_bytes > 0 for one in prediction.devices)
    assert view.status().models[0].plan == before
    assert (prediction.tokens_per_s is not None) == view.predicts


def test_a_device_without_layers_is_left_out(view):
    prediction = view.predict(change_of(view, (LAYERS, 0)))
    assert [one.layers for one in prediction.devices] == [LAYERS]


def test_what_does_not_fit_is_refused_with_the_figures_of_what_is_short(view):
    class Wide:  # the same cluster with a model of a million times the KV cache
        node = view.cluster.node
        nodes, models, wish_of = view.cluster.nodes, None, view.cluster.wish_of

    wide = Wide()
    wide.models = lambda: tuple(
        msgspec.structs.replace(one, config=msgspec.structs.replace(one.config, head_dim=10**8))
        for one in view.cluster.models()
    )
    prediction = ClusterView(wide).predict(change_of(view, (1, LAYERS - 1)))
    assert not prediction.fits
    assert "left has" in prediction.reason
    assert all(one.memory_needed_bytes > one.memory_available_bytes for one in prediction.devices)
    assert ClusterView(wide).predict(change_of(view, strategy="uniform")).devices == ()


@pytest.mark.parametrize("strategy", ["uniform", "ring-memory-weighted"])
def test_a_strategy_shares_out_every_layer(view, strategy):
    assert strategy in view.strategies
    prediction = view.predict(change_of(view, strategy=strategy))
    assert sum(one.layers for one in prediction.devices) == LAYERS
    assert prediction.strategy == strategy


def test_applying_moves_the_layers_on_every_node_and_raises_the_epoch(pair, view):
    change = change_of(view, (1, LAYERS - 1))
    heard = []
    plan = view.apply(change, lambda node, *rest: heard.append(node))
    assert plan.epoch > change.epoch
    assert [len(shard) for shard in plan.shards] == [1, LAYERS - 1]
    assert {"left", "right"} <= set(heard)
    assert [cluster.models()[0].plan.rank for cluster in pair] == [plan.rank] * 2
    with pytest.raises(StaleEpoch, match=f"number {plan.epoch} by now"):
        view.apply(change, lambda *_: None)
    with pytest.raises(StaleEpoch):
        view.predict(change)


def test_a_change_keeps_how_the_model_was_loaded(pair, view):
    left = pair[0]
    name = left.node.models[view.status().models[0].plan.model].name
    options = {"dtype": "float32", "chunk": 32, "wire": "int8", "context": 100, "prompt": 40}
    loaded = left.load(name, devices=["left", "right"], layers=[LAYERS - 1, 1], **options).plan
    assert loaded.roundings != ()
    prediction = view.predict(change_of(view, (1, LAYERS - 1), context_tokens=64))
    assert (prediction.context_tokens, prediction.prompt_tokens) == (100, 40)
    plan = view.apply(change_of(view, (1, LAYERS - 1), context_tokens=64), lambda *_: None)
    kept = ("roundings", "chunk", "dtype", "engine", "context_tokens")
    assert [getattr(plan, field) for field in kept] == [getattr(loaded, field) for field in kept]
    assert view.apply(change_of(view, (LAYERS, 0), context_tokens=128), lambda *_: None).context_tokens == 128
    assert eventually(lambda: pair[1].models()[0].plan.context_tokens == 128)
    assert view.apply(change_of(view, (LAYERS - 1, 1), context_tokens=64), lambda *_: None).context_tokens == 128


def test_a_model_that_is_not_loaded_any_more_is_named(view):
    with pytest.raises(ConfigError, match="nothing is not loaded any more"):
        view.predict(change_of(view, (1, LAYERS - 1), model="nothing"))


def test_layers_and_devices_must_pair_up(view):
    with pytest.raises(ConfigError, match="3 layer counts for 2 devices"):
        view.predict(change_of(view, (1, 1, 1)))


def test_stopping_ends_a_running_generation_and_only_that(pair, view):
    generation = pair[0].generate("the cat", raw=True, max_tokens=400)
    assert view.cancel("another") == 0
    assert view.cancel(generation.id) == 1
    assert generation.result(WITHIN_S).finish == "cancelled"
    assert view.cancel(None) == 0


def test_links_and_changes_are_those_of_the_cluster(pair, view):
    ids = sorted(cluster.id for cluster in pair)
    assert [(link.a, link.b) for link in view.links()] == [tuple(ids)]
    stop = view.on_change(lambda what: None)
    stop()


def test_the_view_is_the_same_for_as_long_as_the_cluster_is(pair):
    now = [pair[0]]
    current = Current(lambda: now[0])
    first = current()
    assert current() is first
    now[0] = None
    assert current() is None
    now[0] = pair[1]
    assert current() is not first


class Ear:
    def __init__(self):
        self.heard = []

    def started(self, stats):
        self.heard.append(("start", stats.request, stats.plan.epoch))

    def moved(self, stats):
        self.heard.append(("moved", stats.tokens, stats.plan.epoch))

    def token(self, request, event):
        self.heard.append(("token", event.index))

    def ended(self, stats):
        self.heard.append(("end", stats.tokens))


@pytest.fixture
def ear():
    made = Ear()
    stop = listen(made)
    yield made
    stop()


def test_an_answer_that_is_read_in_a_loop_is_heard_of_from_start_to_end(pair, ear):
    generation = pair[0].generate("the cat", raw=True, max_tokens=6)
    assert "".join(generation) == generation.text
    epoch, count = pair[0].models()[0].plan.epoch, len(generation.tokens)
    tokens = [("token", i) for i in range(count)]
    assert ear.heard == [("start", generation.id, epoch), *tokens, ("end", count)]


def test_an_answer_that_nobody_reads_is_heard_to_end_when_it_is_stopped(pair, view, ear):
    generation = pair[0].generate("the cat", raw=True, max_tokens=4)
    assert eventually(lambda: generation._request.over.is_set())
    assert view.cancel(generation.id) == 1
    assert ear.heard[-1] == ("end", 4)
    assert view.cancel(None) == 0


def test_who_reads_an_answer_that_is_stopped_elsewhere_gets_what_had_come(pair, view):
    generation = pair[0].generate("the cat", raw=True, max_tokens=400)
    pieces = []
    for piece in generation:
        pieces.append(piece)
        if len(pieces) == 2:
            assert view.cancel(generation.id) == 1
    assert "".join(pieces) == generation.text
    assert generation.finish == "cancelled"


def test_an_answer_goes_along_with_a_change_and_is_heard_to_go_on_over_the_new_plan(pair, view, ear):
    moved = []
    for _ in range(10):  # a small model may be through with its answer before a busy machine is with the change
        ear.heard.clear()
        generation = pair[0].generate("the cat", raw=True, max_tokens=400)
        while len(generation.tokens) < 3:
            generation.poll(0.1)
        first = len(pair[0].models()[0].plan.shards[0])
        plan = view.apply(change_of(view, (LAYERS - 1, 1) if first == 1 else (1, LAYERS - 1)), lambda *_: None)
        generation.result(WITHIN_S)
        moved = [one for one in ear.heard if one[0] == "moved"]
        if moved:
            break
    ((_, index, epoch),) = moved
    assert epoch == plan.epoch > ear.heard[0][2]
    assert 3 <= index <= len(generation.tokens)
