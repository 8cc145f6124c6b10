"""A cluster that runs nothing: answers are scripted, calls are written down. Its generations are real ones."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from exo_lab.cluster.exporting import Exported
from exo_lab.cluster.planning import Explained
from exo_lab.core.errors import ConfigError, ExoError, NotConnected
from exo_lab.core.messages import SessionSpec, StageTiming, Stats, Token
from exo_lab.core.probe import NetworkReport
from exo_lab.core.record import RunRecord
from exo_lab.core.sampling import SamplingParams
from exo_lab.core.status import ClusterStatus, LoadedModel, NodeStatus, PlanPreview
from exo_lab.core.topology import Sighting, Topology, topology
from exo_lab.core.watching import Watching
from exo_lab.generation import Generation
from exo_lab.node.doctor import Finding
from exo_lab.node.session import Request
from exo_lab.planning.explain import explain
from exo_lab.planning.problem import Problem
from tests.front import scenes


class Words:
    """A tokenizer for whole words: token i is the i-th word of the script."""

    def __init__(self, words: list[str]) -> None:
        self._words = words

    def add(self, token_id: int) -> str:
        return self._words[token_id]

    def flush(self) -> str:
        return ""


class Script:
    """What the next generation does."""

    def __init__(self, text: str = "The capital of France is Paris.") -> None:
        self.words = [word if i == 0 else " " + word for i, word in enumerate(text.split(" "))]
        self.error: ExoError | None = None  # raised by the ring after the words
        self.ends = True  # False: the words come, and then nothing


class FakeCluster:
    def __init__(self, **options: Any) -> None:
        self.options = options
        self.name = options.get("name") or "laptop"
        self.id = f"{99:012x}"
        self.closed = False
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.cancelled: list[str] = []
        self.script = Script()
        self.members = scenes.devices()
        self.loaded: list[LoadedModel] = []
        self.last: Generation | None = None
        self.requests: list[Request] = []
        self.fail_with: BaseException | None = None
        self.listeners: list[Any] = []
        self.looks = 0  # at the counters
        self.watching = Watching()

    # -- looking

    def nodes(self) -> tuple[NodeStatus, ...]:
        return scenes.nodes(self.members)

    def models(self) -> tuple[LoadedModel, ...]:
        return tuple(self.loaded)

    def status(self) -> ClusterStatus:
        return scenes.status(name=self.name, nodes=self.nodes(), models=self.models())

    def doctor(self) -> tuple[Finding, ...]:
        self.calls.append(("doctor", {}))
        return scenes.findings()

    def topology(self) -> Topology:
        return topology([Sighting(device=device) for device in self.members])

    def counters(self) -> dict[str, Stats]:
        self.looks += 1
        return {member.id: Stats(sessions=1, counters={"tokens": 10 * self.looks}) for member in self.members}

    def network_test(self, target: str, *, progress: Any = None, **options: Any) -> NetworkReport:
        if progress is not None:
            progress("kernel-1", 0, 2, "testing the way to kernel-2")
        self._called("network_test", target=target, **options)
        return scenes.network_report()

    def export(self, **given: str) -> Exported:
        self._called("export", **given)
        return Exported(**{name: f"http://{place}" for name, place in given.items() if place != "off"})

    def wait_for(self, count: int, timeout_s: float = 30.0) -> tuple[NodeStatus, ...]:
        self.calls.append(("wait_for", {"count": count, "timeout_s": timeout_s}))
        return self.nodes()

    def on_change(self, listener: Any) -> Any:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    # -- doing

    def _called(self, what: str, **options: Any) -> None:
        self.calls.append((what, options))
        if self.fail_with is not None:
            raise self.fail_with

    def plan(self, model: str, **options: Any) -> PlanPreview:
        self._called("plan", model=model, **options)
        return scenes.preview(self.members)

    def explain(self, model: str, *, compare: bool = True, **options: Any) -> Explained:
        self._called("explain", model=model, compare=compare, **options)
        made = scenes.preview(self.members)
        described = topology([Sighting(device=device) for device in self.members], [])
        problem = Problem(config=made.config, topology=described)
        return Explained(made, explain(problem, made.plan, compare=compare), described.links)

    def load(self, model: str, *, progress: Any = None, **options: Any) -> LoadedModel:
        if progress is not None:
            progress("kernel-1", 1 << 20, 4 << 20, "reading layers")
        self._called("load", model=model, **options)
        self.loaded.append(scenes.loaded(self.members))
        return self.loaded[-1]

    def move(self, layers: str, node: str, *, model: str | None = None, progress: Any = None) -> LoadedModel:
        self._called("move", layers=layers, node=node, model=model)
        return self.loaded[-1]

    def unload(self, model: str | None = None) -> str:
        self._called("unload", model=model)
        if not self.loaded:
            raise ConfigError("no model is loaded")
        return self.loaded.pop().plan.model

    def up(self, count: int = 3, *, progress: Any = None, **options: Any) -> tuple[NodeStatus, ...]:
        if progress is not None:
            progress("kernels are up")
        self._called("up", count=count, **options)
        return self.nodes()

    def down(self, names: Any = None) -> int:
        self._called("down", names=names)
        return 3 if names is None else len(names)

    def fail(self, name: str, how: str) -> None:
        self._called("fail", name=name, how=how)

    def close(self) -> None:
        self.closed = True

    # -- answers

    def generate(self, prompt: Any, **options: Any) -> Generation:
        self._called("generate", prompt=prompt, **options)
        if not self.loaded:
            raise ConfigError("no model is loaded. Load one first: %exo load smollm2-135m")
        fields = SamplingParams.__struct_fields__
        params = msgspec.convert({k: v for k, v in options.items() if k in fields}, SamplingParams)
        plan = self.loaded[-1].plan
        spec = SessionSpec(
            requester="me", reply_to="", sampling=params, eos=(), prompt_tokens=3, total_tokens=3 + params.max_tokens
        )
        request = Request(f"r{len(self.requests)}", plan, (1, 2, 3), spec, 10.0)
        request.begin(time.perf_counter())
        self.requests.append(request)
        words = self.script.words[: params.max_tokens]
        for i in range(len(words)):
            last = i == len(words) - 1 and self.script.ends and self.script.error is None
            timings = tuple(StageTiming(device, 0.001, 0.0011) for device in plan.devices)
            alternatives = ((i, -0.1), (0, -3.0))[: params.logprobs]
            finish = ("length" if len(words) < len(self.script.words) else "stop") if last else None
            token = Token(
                request=request.id, position=3 + i, token=i, logprob=-0.1, alternatives=alternatives, timings=timings
            )
            request.put(token, time.perf_counter())
            if finish:  # the end-of-text token carries no text
                end = msgspec.structs.replace(token, position=4 + i, finish=finish)
                request.put(end, time.perf_counter())
        if self.script.error is not None:
            request.fail(self.script.error)
        self.last = Generation(
            request,
            Words(self.script.words),
            prompt=str(prompt),
            stop=params.stop,
            decode=self.script.words.__getitem__,
            cancel=self._cancel,
            recorder=lambda answer: scenes.record(answer, params, request.prompt),
        )
        return self.last

    def replay(self, record: RunRecord, *, devices: Any = None) -> Generation:
        self._called("replay", record=record, devices=devices)
        return self.generate(record.prompt, max_tokens=record.sampling.max_tokens)

    def _cancel(self, request: Request) -> None:
        if request.cancel():
            self.cancelled.append(request.id)

    def options_of(self, what: str) -> dict[str, Any]:
        """The options of the last call of that name."""
        return next(options for name, options in reversed(self.calls) if name == what)


class FakeBackend:
    """Stands for the module `exo_lab.cluster`."""

    DEFAULT_STRATEGY = "ring-memory-weighted"
    DEFAULT_MODEL = "smollm2-135m"

    def __init__(self) -> None:
        self.made: list[FakeCluster] = []

    def connect(self, name: str | None = None, **options: Any) -> FakeCluster:
        present = self.current()
        if present is None:
            present = FakeCluster(name=name, **options)
            self.made.append(present)
        return present

    def checkup(self) -> tuple[Finding, ...]:
        return scenes.findings()

    def current(self) -> FakeCluster | None:
        return self.made[-1] if self.made and not self.made[-1].closed else None

    def require(self) -> FakeCluster:
        present = self.current()
        if present is None:
            raise NotConnected("this kernel is not a node yet. Run %exo connect (or exo_lab.connect()) first.")
        return present
