"""Generations as OpenTelemetry traces, sent to a collector over OTLP/HTTP. Needs `pip install "exo-lab[otel]"`.

A span for a generation; under it one for the prompt (`exo_lab.prefill`) and one for each token (`exo_lab.token`), and
under these one for each stage. How long a stage took is measured, and so is what of a token's time no stage accounts
for; when a stage began is not, since its clock is its own: stages are laid in their order with the wire between them
shared out evenly, and say so. No text, no token, no address.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from exo_lab.core.errors import ConfigError
from exo_lab.core.following import Over

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.trace.export import SpanExporter

    from exo_lab.core.device import Device
    from exo_lab.core.following import Moment, Step
    from exo_lab.core.session import StageTiming

MISSING = 'traces need OpenTelemetry, which is not installed. Run: pip install "exo-lab[otel]"'
PATH = "/v1/traces"
SEND_TIMEOUT_S = 5.0
END_S = 5.0
EVERY_S = 1.0
WAITING = 16384  # spans that wait to be sent; more are dropped, which OpenTelemetry logs
MOST_RUNNING = 1024  # generations that have not ended


class Traced:
    """See the module. Call it with every moment of a generation; any thread, never waits for the collector.

    Args:
        exporter: where spans go; `otlp_exporter` makes one.
        device: a node's description by its id; None: it is not known.
        software: the version of this program.

    Raises:
        ConfigError: OpenTelemetry is not installed.
    """

    def __init__(self, exporter: SpanExporter, device: Callable[[str], Device | None], software: str) -> None:
        try:
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as exc:
            raise ConfigError(MISSING) from exc

        self._device = device
        # Only what is said here: what OpenTelemetry would detect by itself names machine, user and command line.
        resource = Resource({"service.name": "exo_lab", "service.version": software})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._processor = BatchSpanProcessor(
            exporter, max_queue_size=WAITING, schedule_delay_millis=EVERY_S * 1e3, max_export_batch_size=512
        )
        self._provider.add_span_processor(self._processor)
        self._tracer = self._provider.get_tracer("exo_lab", software)
        self._running: dict[str, tuple[Any, float]] = {}  # spans of generations, and when those began
        self._lock = threading.Lock()

    def __call__(self, moment: Moment) -> None:
        """A generation went on, or ended."""
        if isinstance(moment, Over):
            with self._lock:
                span, began_at_s = self._running.pop(moment.request, (None, 0.0))
            if span is not None:
                span.set_attributes({"exo_lab.finish": moment.finish, "exo_lab.tokens": moment.tokens})
                span.end(_ns(began_at_s + moment.total_s))
            return
        self._step(moment, self._generation(moment))

    def close(self) -> None:
        """Send what is left, and no more after that. Takes a few seconds at most; idempotent."""
        with self._lock:
            left, self._running = list(self._running.values()), {}
        for span, _ in left:
            span.end()
        # By itself it may wait for half a minute, and somebody waits for this node to end.
        ending = threading.Thread(target=self._processor.shutdown, name="exo-traces-end", daemon=True)
        ending.start()
        ending.join(END_S)

    # -- spans -------------------------------------------------------------------------------------------

    def _generation(self, step: Step) -> Any:
        with self._lock:
            if step.request in self._running:
                return self._running[step.request][0]
            if len(self._running) >= MOST_RUNNING:
                oldest, _ = self._running.pop(next(iter(self._running)))
                oldest.end()
            attributes = {
                "exo_lab.request": step.request,
                "exo_lab.model": step.plan.model,
                "exo_lab.strategy": step.plan.strategy,
                "exo_lab.stages": len(step.plan.shards),
                "exo_lab.prompt_tokens": step.prompt_tokens,
                "exo_lab.prompt_tokens_reused": step.reused_tokens,
            }
            span = self._span("exo_lab.generation", step.began_at_s, attributes, None)
            self._running[step.request] = (span, step.began_at_s)
            return span

    def _step(self, step: Step, generation: Any) -> None:
        attributes: dict[str, Any] = {"exo_lab.index": step.index, "exo_lab.epoch": step.plan.epoch}
        if step.wire_s is not None:
            attributes["exo_lab.wire_s"] = step.wire_s
        name = "exo_lab.token" if step.index else "exo_lab.prefill"
        made = self._span(name, step.began_at_s + step.since_s, attributes, generation)
        # Of a prompt only the last chunk's timings are known, and that ends with the token.
        wire_s = (step.wire_s or 0.0) / max(1, len(step.timings))
        at_s = step.began_at_s + step.at_s - sum(one.handling_s for one in step.timings) - wire_s * len(step.timings)
        for timing in step.timings:
            self._stage(step, timing, at_s, made)
            at_s += timing.handling_s + wire_s
        made.end(_ns(step.began_at_s + step.at_s))

    def _stage(self, step: Step, timing: StageTiming, at_s: float, parent: Any) -> None:
        attributes: dict[str, Any] = {
            "exo_lab.node": timing.node,
            "exo_lab.compute_s": timing.compute_s,
            "exo_lab.handling_s": timing.handling_s,
            "exo_lab.start_is_estimated": True,
        }
        device, stage = self._device(timing.node), step.plan.stage_of(timing.node)
        if device is not None:
            attributes |= {"exo_lab.node_name": device.name}
            attributes |= {"exo_lab.emulated": device.emulated} if device.emulated else {}
        if stage is not None:
            shard = step.plan.shards[stage]
            attributes |= {
                "exo_lab.stage": stage,
                "exo_lab.layer_start": shard.start,
                "exo_lab.layer_end": shard.end,  # half-open
            }
        self._span("exo_lab.stage", at_s, attributes, parent).end(_ns(at_s + timing.handling_s))

    def _span(self, name: str, at_s: float, attributes: dict[str, Any], parent: Any) -> Any:
        from opentelemetry.context import Context
        from opentelemetry.trace import set_span_in_context

        # An empty context, and not the present one: what else the user traces is no part of it.
        context = Context() if parent is None else set_span_in_context(parent, Context())
        return self._tracer.start_span(name, context=context, start_time=_ns(at_s), attributes=attributes)


def otlp_exporter(url: str, say: Callable[[str | None], None]) -> SpanExporter:
    """What sends spans to a collector.

    Args:
        url: such as http://127.0.0.1:4318; without a path, /v1/traces is meant.
        say: told what is wrong when spans could not be sent, and None when they were.

    Raises:
        ConfigError: that is no URL, or OpenTelemetry is not installed.
    """
    place = collector_url(url)
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
    except ImportError as exc:
        raise ConfigError(MISSING) from exc

    class Saying(SpanExporter):
        """The exporter, and what comes of it in words."""

        def __init__(self) -> None:
            self._inner = OTLPSpanExporter(endpoint=place, timeout=SEND_TIMEOUT_S)

        def export(self, spans: Any) -> Any:
            result = self._inner.export(spans)
            if result is SpanExportResult.SUCCESS:
                say(None)
            else:
                say(f"traces do not arrive at {shown_url(place)}. Is a collector running there? It goes on trying.")
            return result

        def shutdown(self) -> None:
            self._inner.shutdown()

    return Saying()


def collector_url(url: str) -> str:
    """The whole URL of a collector's traces. ConfigError if it is none."""
    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{shown_url(url)!r} is no collector's URL; give one such as http://127.0.0.1:4318")
    return parts._replace(path=PATH if parts.path in ("", "/") else parts.path).geturl()


def shown_url(url: str) -> str:
    """A URL without what may be secret in it: user, password, query."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _ns(at_s: float) -> int:
    return round(at_s * 1e9)
