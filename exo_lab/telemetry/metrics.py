"""A cluster as Prometheus sees it: names, labels and help of every metric, and values from what is known. No sockets.

What was not measured is not there. Gauges and counters are read when somebody asks; times of stages and tokens are
counted as they come, of the generations that this process asked for. Emulated nodes and links carry what is emulated as
a label; of real ones it is empty, which Prometheus takes for absent. No texts, no tokens, no addresses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from exo_lab.core.following import Over

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from exo_lab.core.device import Device
    from exo_lab.core.following import Moment
    from exo_lab.core.messages import Stats
    from exo_lab.core.plan import Plan
    from exo_lab.core.status import NodeStatus
    from exo_lab.core.telemetry import Alert
    from exo_lab.core.topology import Link

    Lookup = Callable[[str], Device | None]

NODE = ("node", "name", "emulated")
COUNTED = {
    "tokens": ("exo_lab_tokens", "Tokens that the node drew as the last stage of a plan, of whoever's requests."),
    "guesses": ("exo_lab_guesses", "Tokens that the node guessed as the last stage of a plan."),
    "guesses that were right": ("exo_lab_guesses_right", "Guesses that were what was drawn."),
    "prompt tokens from the cache": (
        "exo_lab_prompt_tokens_reused",
        "Prompt tokens that a stage took from what it had kept.",
    ),
}
SHORT_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
LONG_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Look(NamedTuple):
    """What is known at one moment. `counted`: of each node that answered, by id; `refused`: by this node."""

    nodes: tuple[NodeStatus, ...]
    plans: tuple[Plan, ...]
    alerts: tuple[Alert, ...]
    links: tuple[Link, ...]
    counted: Mapping[str, Stats]
    refused: Mapping[str, int]

    def labels(self, node: str) -> tuple[str, str, str]:
        """Values of the labels `NODE`."""
        return labels_of(node, next((one.device for one in self.nodes if one.device.id == node), None))


class Metrics:
    """See the module. `registry` is what a server exports; call it with every moment of a generation. Any thread.

    Args:
        look: what is known now. Called for every scrape, in the scraper's thread.
        device: a node's description by its id; None: it is not known.
        software: the version of this program.
    """

    def __init__(self, look: Callable[[], Look], device: Lookup, software: str) -> None:
        self._device = device
        self.registry = made = CollectorRegistry()
        staged = (*NODE, "model", "phase")

        def histogram(name: str, text: str, labels: tuple[str, ...], buckets: Sequence[float] = SHORT_S) -> Histogram:
            return Histogram(f"exo_lab_{name}", text, labels, registry=made, buckets=buckets)

        self._stage = histogram(
            "stage_seconds",
            "Computing on a stage for one token (phase decode) or for the last chunk of a prompt (phase prefill).",
            staged,
        )
        self._beyond = histogram("stage_handling_seconds", "What a stage spent on a step beyond computing.", staged)
        self._wire = histogram(
            "wire_seconds", "What of a token's time no stage accounts for: wire, and waiting for it.", ("model",)
        )
        self._first = histogram(
            "time_to_first_token_seconds", "From sending a request to its first token.", ("model",), LONG_S
        )
        self._each = histogram("time_per_output_token_seconds", "Between two tokens of an answer.", ("model",))
        self._ended = Counter(
            "exo_lab_generations", "Generations that this process asked for.", ("model", "finish"), registry=made
        )
        made.register(_Looking(look, software))

    def __call__(self, moment: Moment) -> None:
        """A generation went on, or ended."""
        if isinstance(moment, Over):
            self._ended.labels(moment.model, moment.finish).inc()
            return
        model, phase = moment.plan.model, "decode" if moment.index else "prefill"
        (self._each if moment.index else self._first).labels(model).observe(moment.took_s)
        for timing in moment.timings:
            labels = (*labels_of(timing.node, self._device(timing.node)), model, phase)
            self._stage.labels(*labels).observe(timing.compute_s)
            self._beyond.labels(*labels).observe(max(0.0, timing.handling_s - timing.compute_s))
        if moment.wire_s is not None:
            self._wire.labels(model).observe(moment.wire_s)


def labels_of(node: str, device: Device | None) -> tuple[str, str, str]:
    """Values of the labels `NODE`."""
    return (node, "", "") if device is None else (node, device.name, device.emulated)


class _Looking(Collector):
    """What is read when somebody asks."""

    def __init__(self, look: Callable[[], Look], software: str) -> None:
        self._look, self._software = look, software

    def describe(self) -> Iterable[Metric]:
        """Nothing: or registering would look."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Every gauge and counter."""
        seen = self._look()
        yield InfoMetricFamily("exo_lab_build", "The program.", value={"version": self._software})
        yield from _nodes(seen)
        yield from _counted(seen)
        yield _layers(seen)
        yield from _links(seen)
        yield from _alerts(seen)
        refused = CounterMetricFamily("exo_lab_refused", "Messages that this node turned away.", labels=("reason",))
        for reason, count in sorted(seen.refused.items()):
            refused.add_metric((reason,), count)
        yield refused


def _nodes(seen: Look) -> Iterator[Metric]:
    up = GaugeMetricFamily("exo_lab_node_up", "1: the node is alive; 0: it is suspect or lost.", labels=NODE)
    for node in seen.nodes:
        up.add_metric(labels_of(node.device.id, node.device), float(node.liveness == "alive"))
    yield up
    there = [node for node in seen.nodes if node.liveness != "lost"]
    yield _gauge(
        there, "memory_bytes", "Memory that the node computes in.", lambda one: one.device.memory_bytes or None
    )
    yield _gauge(there, "memory_available_bytes", "What of it is free.", lambda one: one.memory_available_bytes)
    yield _gauge(there, "load_ratio", "Share of the processor that is busy, in [0, 1].", lambda one: one.load)
    yield _gauge(there, "compute_ratio", "FLOPs computed of those that it could, in [0, 1].", lambda one: one.compute)
    yield _gauge(there, "temperature_celsius", "Of its hottest sensor.", lambda one: one.temperature_c)


def _gauge(nodes: Iterable[NodeStatus], name: str, help_: str, read: Callable[[NodeStatus], float | None]) -> Metric:
    made = GaugeMetricFamily(f"exo_lab_node_{name}", help_, labels=NODE)
    for node in nodes:
        value = read(node)
        if value is not None:
            made.add_metric(labels_of(node.device.id, node.device), value)
    return made


def _counted(seen: Look) -> Iterator[Metric]:
    gauges: dict[str, tuple[str, Callable[[Stats], int]]] = {
        "sessions": ("Requests that the node keeps a KV cache for.", lambda one: one.sessions),
        "kv_bytes": ("KV caches of running requests.", lambda one: one.kv_bytes),
        "prefix_cache_bytes": ("Kept of prompts before, for others that begin alike.", lambda one: one.kept_bytes),
        "weight_bytes": ("Weights in memory.", lambda one: one.weight_bytes),
        "resident_memory_bytes": ("Memory of the node's process.", lambda one: one.rss_bytes),
    }
    for name, (help_, read) in gauges.items():
        made = GaugeMetricFamily(f"exo_lab_node_{name}", help_, labels=NODE)
        for node, stats in sorted(seen.counted.items()):
            made.add_metric(seen.labels(node), read(stats))
        yield made
    for key, (name, help_) in COUNTED.items():
        counter = CounterMetricFamily(name, help_, labels=NODE)
        for node, stats in sorted(seen.counted.items()):
            counter.add_metric(seen.labels(node), stats.counters.get(key, 0))
        yield counter


def _layers(seen: Look) -> Metric:
    made = GaugeMetricFamily("exo_lab_stage_layers", "Layers of a model that the node holds.", labels=(*NODE, "model"))
    for plan in seen.plans:
        for node, shard in zip(plan.devices, plan.shards, strict=True):
            made.add_metric((*seen.labels(node), plan.model), len(shard))
    return made


def _links(seen: Look) -> Iterator[Metric]:
    labels = ("a", "b", "a_name", "b_name", "kind", "emulated")
    names = {node.device.id: node.device.name for node in seen.nodes}
    latency = GaugeMetricFamily("exo_lab_link_latency_seconds", "Latency of a link, one way.", labels=labels)
    bandwidth = GaugeMetricFamily("exo_lab_link_bandwidth_bytes_per_second", "Bandwidth of a link.", labels=labels)
    for link in seen.links:
        values = (link.a, link.b, names.get(link.a, ""), names.get(link.b, ""), link.kind, link.emulated)
        if link.latency_s is not None:
            latency.add_metric(values, link.latency_s)
        if link.bandwidth_bytes_per_s is not None:
            bandwidth.add_metric(values, link.bandwidth_bytes_per_s)
    yield latency
    yield bandwidth


def _alerts(seen: Look) -> Iterator[Metric]:
    """Alerts only: what is predicted is no measurement."""
    labels = (*NODE, "quantity", "about", "state")
    value = GaugeMetricFamily("exo_lab_alert_value", "The latest reading of what is too much.", labels=labels)
    threshold = GaugeMetricFamily("exo_lab_alert_threshold", "Above which that is an alert.", labels=labels)
    for one in seen.alerts:
        values = (*seen.labels(one.node), one.quantity, one.about, one.state)
        value.add_metric(values, one.value)
        threshold.add_metric(values, one.threshold)
    yield value
    yield threshold
