"""The Grafana dashboard asks for what is exported, and shows all of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from exo_lab.core.following import Over, Step
from exo_lab.core.messages import Stats
from exo_lab.core.plan import plan_from_counts
from exo_lab.core.session import StageTiming
from exo_lab.core.telemetry import Alert
from exo_lab.core.topology import link
from exo_lab.telemetry.metrics import Look, Metrics, labels_of
from tests.front import scenes

DASHBOARD = json.loads((Path(__file__).parents[2] / "docs" / "grafana" / "exo_lab.json").read_text(encoding="utf-8"))
QUERIES = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]]


def exported() -> dict[str, set[str]]:
    """Every metric with its labels, where everything was measured."""
    devices = {device.id: device for device in scenes.devices()}
    ids = tuple(devices)
    plan = plan_from_counts("tiny", ids, (1, 1, 1))
    alert = Alert(id="x", node=ids[0], quantity="memory", value=0.9, threshold=0.85, since_s=1.0)
    edge = link(ids[0], ids[1], latency_s=0.001, bandwidth_bytes_per_s=1e9)
    nodes = tuple(measured(node) for node in scenes.nodes(tuple(devices.values())))
    look = Look(nodes, (plan,), (alert,), (edge,), dict.fromkeys(ids, Stats()), {"no handshake": 2})
    metrics = Metrics(lambda: look, devices.get, "0")
    for index in range(2):
        timings = tuple(StageTiming(node, 0.001, 0.002) for node in ids)
        metrics(
            Step(
                request="r", plan=plan, began_at_s=1.0, index=index, since_s=0.1 * index, at_s=0.1 * (index + 1),
                prompt_tokens=3, reused_tokens=0, timings=timings,
            )
        )  # fmt: skip
    metrics(Over(request="r", model="tiny", finish="stop", tokens=2, total_s=0.2))
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def measured(node):
    return msgspec.structs.replace(node, temperature_c=50.0, compute=0.1, load=0.2, memory_available_bytes=1)


@pytest.mark.parametrize(("title", "query"), QUERIES, ids=[title for title, _ in QUERIES])
def test_a_panel_asks_for_metrics_and_labels_that_are_exported(title, query):
    known = exported()
    names = re.findall(r"exo_lab_\w+", query)
    assert names
    for name in names:
        assert name in known, f"{title}: no metric {name}"
    for group in re.findall(r"by \(([^)]*)\)", query):
        for label in map(str.strip, group.split(",")):
            assert any(label in known[name] for name in names), f"{title}: no label {label}"


def test_legends_name_labels_that_are_exported():
    known = exported()
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            labels = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            assert all(labels <= known[name] for name in re.findall(r"exo_lab_\w+", target["expr"]))


def test_panels_do_not_overlap_and_each_has_an_id_of_its_own():
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len(places) == len({panel["id"] for panel in DASHBOARD["panels"]})


def test_labels_of_a_real_node_say_nothing_of_emulation_and_those_of_an_emulated_one_do():
    devices = scenes.devices()
    assert [labels_of(one.id, one)[2] for one in devices] == [one.emulated for one in devices]
    assert any(one.emulated for one in devices)
    assert labels_of("gone", None) == ("gone", "", "")
