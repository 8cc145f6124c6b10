"""A command of the shell among the nodes: it plans as a cell does, and nobody plans on it or counts it."""

from __future__ import annotations

import pytest

from exo_lab.cluster import Cluster, reach
from exo_lab.cluster.planning import Wish, problem_of
from exo_lab.cluster.rebalance import acts
from exo_lab.core.errors import ConfigError, NodeError
from exo_lab.core.plan import plan_from_counts
from exo_lab.core.watching import OFF
from exo_lab.front.panel_cluster import ClusterView
from exo_lab.node.parts import NodeOptions
from exo_lab.transport.keys import new_token
from tests.tiny import tiny_config
from tests.waiting import eventually

WITHIN_S = 30.0
LAYERS = tiny_config().n_layers


def options(name: str, **more) -> NodeOptions:
    return NodeOptions(name=name, engine="numpy", watching=OFF, **more)


@pytest.fixture(scope="module")
def three(token):
    """Two nodes that are very unlike, and a visitor, over real sockets on loopback."""
    with (
        Cluster(options("quick"), token) as quick,
        Cluster(options("slow", slowdown=40.0), token) as slow,
        Cluster(options("shell-1", visits=True), token) as visitor,
    ):
        for cluster in (quick, slow, visitor):
            assert eventually(lambda cluster=cluster: len(cluster.nodes()) == 3)
        yield quick, slow, visitor


@pytest.mark.parametrize("strategy", ["optimal", "uniform"])
def test_a_shell_plans_as_a_cell_does_and_nobody_plans_on_it(three, model, strategy):
    quick, slow, visitor = three
    here, there = (cluster.plan(model, strategy=strategy) for cluster in (quick, visitor))
    assert (here.plan.devices, here.plan.shards) == (there.plan.devices, there.plan.shards)
    # The best plan leaves the slow one out: a shell that named every node would have to use it.
    assert set(there.plan.devices) == ({quick.id} if strategy == "optimal" else {quick.id, slow.id})
    assert {device.id for device in (*here.devices, *there.devices)} == {quick.id, slow.id}


def test_who_is_asked_to_give_a_visitor_layers_refuses(three, model):
    quick, _, visitor = three
    with pytest.raises(ConfigError, match=r"no node named 'shell-1'; the cluster has quick, slow\."):
        quick.load(model, devices=["quick", "shell-1"])
    visitor.load(model, devices=["quick"], context=64)
    with pytest.raises(ConfigError, match="no node named 'shell-1'"):
        quick.move(f"0:{LAYERS}", "shell-1")
    quick.unload()


def test_a_visitor_does_not_count_for_who_waits_for_nodes(three):
    for cluster in three:
        assert sorted(node.device.name for node in cluster.wait_for(2, WITHIN_S)) == ["quick", "slow"]
        with pytest.raises(NodeError, match="2 of 3 nodes"):
            cluster.wait_for(3, 0.0)


def test_what_is_proposed_when_nodes_come_or_slow_down_has_no_visitor_in_it(three, model):
    quick, slow, visitor = three
    for cluster in three:
        problem = problem_of(cluster.node, cluster.config_of(model), Wish(strategy="optimal", context=64))
        assert {device.id for device in problem.topology.devices} == {quick.id, slow.id}
        assert not any(visitor.id in (edge.a, edge.b) for edge in problem.topology.links)


def test_metrics_are_those_of_the_nodes(three):
    quick, slow, visitor = three
    for cluster in (quick, visitor):
        seen = cluster._look()
        assert {node.device.id for node in seen.nodes} == set(seen.counted) == {quick.id, slow.id}
        assert not any(visitor.id in (edge.a, edge.b) for edge in seen.links)


def test_the_panel_offers_no_visitor_to_give_layers_to(three):
    quick, slow, visitor = three
    view = ClusterView(quick)
    assert {node.device.id for node in view.status().nodes} == {quick.id, slow.id}
    assert not any(visitor.id in (edge.a, edge.b) for edge in view.links())


def test_alone_a_visitor_has_nobody_to_load_on(model):
    with Cluster(options("shell-2", visits=True), new_token()) as alone:
        with pytest.raises(ConfigError, match="there is no node to load on"):
            alone.plan(model)
        assert alone._rebalancer._acts(plan_from_counts("tiny", (alone.id,), (LAYERS,))) is False


def test_nobody_acts_for_a_plan_where_only_visitors_are():
    assert not acts(plan_from_counts("m", ("a",), (1,)), "shell", set())


# -- a visitor that is connected to a part of the cluster ----------------------------------------------------


@pytest.fixture
def apart(model, monkeypatch):
    """A plan over two nodes, and a visitor that met only the one of them."""
    monkeypatch.setattr(reach, "MEET_S", 0.2)
    token = new_token()
    with Cluster(options("near", discovery=()), token) as near:
        address = near.nodes()[0].address
        with Cluster(options("far", discovery=(), peers=(address,)), token) as far:
            near.wait_for(2, WITHIN_S)
            far.wait_for(2, WITHIN_S)
            near.load(model, devices=["near", "far"], context=64)
            with Cluster(options("shell-3", discovery=(), peers=(address,), visits=True), token) as visitor:
                assert eventually(visitor.models)
                assert far.id not in {node.device.id for node in visitor.nodes()}
                yield near, far, visitor


@pytest.mark.parametrize(
    "command",
    [
        lambda visitor, model, record: visitor.generate("the cat", raw=True, max_tokens=4).result(WITHIN_S),
        lambda visitor, model, record: visitor.replay(record),
        lambda visitor, model, record: visitor.load(model, context=64),
        lambda visitor, model, record: visitor.load(model, devices=["far"], context=64),
        lambda visitor, model, record: visitor.plan(model),
        lambda visitor, model, record: visitor.move("0:1", "near"),
        lambda visitor, model, record: visitor.unload(),
    ],
    ids=["ask", "replay", "load", "load on it", "plan", "move", "unload"],
)
def test_a_command_that_cannot_reach_a_node_of_the_plan_says_so_and_changes_nothing(apart, model, command):
    near, far, visitor = apart
    record = near.generate("the cat", raw=True, max_tokens=4).result(WITHIN_S).record()
    before = near.models()[0].plan
    with pytest.raises(NodeError, match=r"not connected to far, .*--lan .*--peers .*--discovery"):
        command(visitor, model, record)
    assert near.models()[0].plan == far.models()[0].plan == before


def test_a_node_that_nobody_sees_any_more_is_gone_for_a_command_too(apart, model):
    near, far, visitor = apart
    expected = near.generate("the cat", raw=True, max_tokens=8).result(WITHIN_S).text
    far.close()
    answer = visitor.generate("the cat", raw=True, max_tokens=8).result(WITHIN_S)
    assert answer.text == expected
    assert near.models()[0].plan.devices == (near.id,)


def test_nodes_that_are_named_are_enough(apart, model):
    near, _, visitor = apart
    assert visitor.load(model, devices=["near"], context=64).plan.devices == (near.id,)
