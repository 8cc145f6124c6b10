"""Names of kernels that are to be started: one that is taken says who has it."""

from __future__ import annotations

import os

import pytest

from exo_lab.cluster import Cluster
from exo_lab.core.errors import ConfigError
from exo_lab.core.watching import OFF
from exo_lab.launch.orders import worker_orders
from exo_lab.node.parts import NodeOptions
from exo_lab.transport.keys import new_token
from tests.waiting import eventually

WITHIN_S = 30.0
PLAIN = {"memory": None, "slow": None, "emulate_link": None, "threads": 1, "engine": "numpy", "local": True}


def orders(cluster: Cluster, *names: str):
    return worker_orders(cluster, len(names), names=names, **PLAIN)


def test_a_name_that_is_taken_says_who_has_it_and_what_to_do():
    token = new_token()
    options = [NodeOptions(name=name, engine="numpy", watching=OFF) for name in ("notebook", "kernel-1")]
    with Cluster(options[0], token) as cluster, Cluster(options[1], token) as other:
        cluster.wait_for(2, WITHIN_S)
        address = other.nodes()[0].address
        said = rf"'kernel-1' is taken by process {os.getpid()} of this machine \({address}\)\..*--names.*down.*--apart"
        with pytest.raises(ConfigError, match=said):
            orders(cluster, "kernel-2", "kernel-1")
        with pytest.raises(ConfigError, match="'notebook' is taken by this kernel itself"):
            orders(cluster, "notebook")
        with pytest.raises(ConfigError, match="'kernel-2' is given twice"):
            orders(cluster, "kernel-2", "kernel-2")
        assert [order.name for order in orders(cluster, "kernel-2", "kernel-3")] == ["kernel-2", "kernel-3"]


def test_clusters_apart_do_not_take_each_others_names():
    options = [NodeOptions(name=name, engine="numpy", watching=OFF) for name in ("notebook", "kernel-1")]
    with Cluster(options[0], new_token()) as cluster, Cluster(options[1], new_token()):
        (registry,) = cluster.node.parts.discoveries
        assert eventually(lambda: "kernel-1" in registry.other_clusters.values())
        assert [order.name for order in orders(cluster, "kernel-1")] == ["kernel-1"]
