"""A cluster of three real kernels is scraped while it generates."""

from __future__ import annotations

import pytest

from exo_lab.cluster import Cluster
from exo_lab.node.parts import NodeOptions
from exo_lab.transport.keys import new_token
from tests.cluster.exports import Scrape

pytestmark = [pytest.mark.kernels, pytest.mark.real_model, pytest.mark.slow, pytest.mark.timeout(240)]

KERNELS = ("kernel-1", "kernel-2", "kernel-3")
TOKENS = 48


def test_three_kernels_are_scraped_while_they_generate(real_model):
    with Cluster(NodeOptions(name="notebook", threads=1), new_token()) as cluster:
        cluster.up(3, threads=1)
        cluster.load("smollm2-135m", devices=KERNELS)
        alone = [event.token for event in cluster.generate("Name three rivers.", max_tokens=TOKENS).result().tokens]
        url = cluster.export(prometheus=0).prometheus
        before = Scrape(url).total("exo_lab_tokens_total")
        scrapes, generation = [], cluster.generate("Name three rivers.", max_tokens=TOKENS)
        while not generation.done:
            generation.poll()
            scrapes.append(Scrape(url))
        assert [event.token for event in generation.tokens] == alone
        counts = [one.total("exo_lab_time_per_output_token_seconds_count") for one in scrapes]
        assert counts == sorted(counts)
        assert any(0 < count < len(alone) - 1 for count in counts), "no scrape came while it generated"
        assert any(one.total("exo_lab_node_sessions") > 0 for one in scrapes)
        last = Scrape(url)
        assert last.total("exo_lab_tokens_total") - before == len(alone)
        for name in KERNELS:
            assert last.values("exo_lab_node_up", name=name) == [1]
            assert last.values("exo_lab_stage_layers", name=name) == [10]
            assert last.total("exo_lab_stage_seconds_count", name=name, phase="decode") == len(alone) - 1
            assert last.total("exo_lab_node_weight_bytes", name=name) > 0
        ring = [one for one in last.samples if one.name == "exo_lab_link_latency_seconds"]
        pairs = {frozenset((one.labels["a_name"], one.labels["b_name"])) for one in ring}
        assert frozenset(KERNELS[:2]) in pairs  # as they measured it, and not only from here
