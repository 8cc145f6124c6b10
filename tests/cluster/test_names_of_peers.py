"""A plan whose model another node named: its name opens nothing here, and what cannot be told of it hides no other."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec
import pytest

from exo_lab.cluster import Cluster
from exo_lab.cluster.rebalance import Rebalancer
from exo_lab.core.errors import ConfigError, ModelNotFound
from exo_lab.core.messages import ModelRef
from exo_lab.core.plan import plan_from_counts
from exo_lab.models.store import ModelStore
from exo_lab.node.build import build
from exo_lab.node.parts import NodeOptions
from exo_lab.transport.keys import new_token

HOSTILE = ("/etc/passwd", "\\\\host\\share\\model.gguf", "//host/share/model.gguf", "../model", "org/huge-repo")
RAW = {"raw": True, "max_tokens": 3}


class Watched:
    """A node as on a network: peers may name no path. `looked_up` and `opened` are the names that it touched."""

    def __init__(self, cluster: Cluster, looked_up: list[str], opened: list[str]) -> None:
        self.cluster, self.looked_up, self.opened = cluster, looked_up, opened

    def hears_of(self, name: str, called: str = "evil") -> None:
        """Another node tells of a plan of such a model."""
        reference = ModelRef(name=name, digest="0" * 64)
        plan = msgspec.structs.replace(plan_from_counts(called, (self.cluster.id,), (4,)), epoch=5, proposer="somebody")

        async def adopt() -> None:
            self.cluster.node.book.adopt(plan, reference)

        self.cluster._thread.run(adopt())

    async def consider(self) -> None:
        """What runs by itself when nodes come and go, or stages become slow."""
        rebalancer: Rebalancer = self.cluster._rebalancer
        await rebalancer._paces.look()
        for model, plan in self.cluster.node.plans.items():
            with contextlib.suppress(ModelNotFound):
                await rebalancer._consider(plan, self.cluster.node.models[model], "rebalance")


@pytest.fixture
def watched(tmp_path, model, monkeypatch):
    looked_up: list[str] = []
    opened: list[str] = []

    def find(name: str):
        looked_up.append(name)
        return Path(model) if name == model else None

    def open_model(name: str):
        opened.append(name)
        raise ModelNotFound(name)

    monkeypatch.setattr("exo_lab.models.open.locate", open_model)
    options, token = NodeOptions(name="only", engine="numpy", discovery=()), new_token()
    store = ModelStore(tmp_path / "parts", find)
    parts = build(options, token)._replace(store=store, open_model=open_model, model_folders=(tmp_path,))
    with Cluster(options, token, parts) as made:
        yield Watched(made, looked_up, opened)


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_that_a_peer_gave_is_opened(watched, name):
    cluster = watched.cluster
    watched.hears_of(name)
    cluster._thread.run(watched.consider())
    assert cluster.status().models == ()
    for ask in (lambda: cluster.generate("hi", **RAW), lambda: cluster.move("0", "only")):
        with pytest.raises(ModelNotFound, match="neither this machine nor another"):
            ask()
    assert watched.opened == []
    assert set(watched.looked_up) <= {"org/huge-repo"}  # as one of this machine; no hub is asked


def test_a_model_that_cannot_be_told_hides_no_other(watched, model):
    cluster = watched.cluster
    loaded = cluster.load(model, context=64)
    watched.hears_of("/not/here.gguf")
    assert [one.plan for one in cluster.status().models] == [loaded.plan]
    assert any("evil is loaded and cannot be shown" in text for text in cluster.status().problems)
    assert cluster.generate("the cat", model=model, **RAW).result().text
    with pytest.raises(ConfigError, match="say which model; loaded are evil, "):
        cluster.generate("the cat", **RAW)
    assert cluster.unload("evil") == "evil"
    assert not any("evil" in text for text in cluster.status().problems)
    assert cluster.generate("the cat", **RAW).result().text
    assert cluster.unload() == loaded.plan.model


def test_a_name_that_a_plan_of_a_peer_had_is_not_permitted_by_loading_it_again(watched, model):
    """Recovery and rebalancing load plans that others made: that is not this machine's user asking for a path."""
    cluster = watched.cluster
    watched.hears_of("/not/here.gguf")
    plan, reference = cluster.node.plans["evil"], cluster.node.models["evil"]
    with pytest.raises(ModelNotFound, match="opens no path that another node names"):
        cluster._thread.run(cluster.node.recovery.change(plan, plan, reference, "nodes came or went"))
    assert watched.opened == []
    assert watched.looked_up == []
