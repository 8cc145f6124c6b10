"""Clusters, plans and answers to look at, made by hand: nothing in here runs."""

from __future__ import annotations

from typing import Any

from exo_lab.core.device import Device
from exo_lab.core.messages import StageTiming
from exo_lab.core.model import ModelConfig
from exo_lab.core.plan import Plan, plan_from_counts
from exo_lab.core.probe import Effect, NetworkReport, summarise
from exo_lab.core.record import RunRecord, run_device, run_tokens, sealed
from exo_lab.core.sampling import SamplingParams
from exo_lab.core.status import (
    ClusterStatus,
    GenerationStats,
    LoadedModel,
    NodeStatus,
    PlanPreview,
    TokenEvent,
)
from exo_lab.node.doctor import Finding

MiB = 1024**2
MODEL = "smollm2-135m"


def config(n_layers: int = 30, name: str = MODEL) -> ModelConfig:
    return ModelConfig(
        name=name,
        architecture="llama",
        n_layers=n_layers,
        hidden_size=576,
        intermediate_size=1536,
        n_heads=9,
        n_kv_heads=3,
        head_dim=64,
        vocab_size=49152,
        context_length=2048,
        tied_embeddings=True,
        digest="d" * 64,
        layer_bytes=tuple(2 * MiB for _ in range(n_layers)),
        embedding_bytes=17 * MiB,
        head_bytes=17 * MiB,
        quantisation="Q4_1",
    )


def device(i: int, name: str | None = None, **changes) -> Device:
    fields = {
        "id": f"{i:012x}",
        "name": name or f"kernel-{i}",
        "chip": "Xeon",
        "memory_bytes": 8192 * MiB,
        "memory_available_bytes": 6000 * MiB,
        "engines": ("torch", "numpy"),
    }
    return Device(**{**fields, **changes})


def devices(count: int = 3, emulated: int | None = 2) -> tuple[Device, ...]:
    return tuple(
        device(i, emulated="memory 96 MB, 2x slower", memory_bytes=96 * 10**6, memory_available_bytes=80 * 10**6)
        if i == emulated
        else device(i)
        for i in range(1, count + 1)
    )


def plan(members: tuple[Device, ...], counts: tuple[int, ...], why: tuple[str, ...] = ()) -> Plan:
    return plan_from_counts(MODEL, tuple(d.id for d in members), counts, strategy="ring-memory-weighted", why=why)


def nodes(members: tuple[Device, ...]) -> tuple[NodeStatus, ...]:
    found = [
        NodeStatus(
            device=member,
            address=f"tcp://127.0.0.1:4{i:04}",
            latency_s=0.00018 * (i + 1),
            link="shared-memory" if i == 0 else "ethernet",
            seen_s_ago=0.4,
            load=0.25,
            memory_available_bytes=member.memory_available_bytes,
            how_found="loopback registry",
        )
        for i, member in enumerate(members)
    ]
    here = NodeStatus(
        device=device(99, "laptop"),
        is_self=True,
        address="tcp://127.0.0.1:41000",
        seen_s_ago=0.0,
        load=0.1,
        how_found="this node",
    )
    return (here, *found)


def network_report(**changes) -> NetworkReport:
    """A test of three nodes: one way well, one cut short, one dead; the third node refused."""
    a, b, c = (member.id for member in devices())
    loads = [(2048, [0.0021] * 8), (4 << 20, [0.012] * 4)]
    fields = {
        "at_s": 1.0,
        "nodes": {member.id: member.name for member in devices()},
        "probes": (
            summarise(a, b, [0.002] * 100, loads),
            summarise(b, a, [0.004] * 99 + [None], [(2048, [0.006] * 8)], "ended after 6 s"),
            summarise(a, c, [None] * 3, [], "given up: 3 frames in a row did not come back within 2 s"),
        ),
        "refused": ((c, f"node {c} is computing answers"),),
        "effects": (Effect(model=MODEL, before_per_s=151.2, after_per_s=142.4),),
    }
    return NetworkReport(**{**fields, **changes})


WHY = ("3 nodes share the layers by memory.", "laptop is left out: it holds the notebook.")


def loaded(members: tuple[Device, ...] | None = None, counts: tuple[int, ...] = (13, 4, 13)) -> LoadedModel:
    members = members or devices()
    return LoadedModel(config=config(sum(counts)), plan=plan(members, counts, WHY))


def preview(members: tuple[Device, ...] | None = None, counts: tuple[int, ...] = (13, 4, 13)) -> PlanPreview:
    members = members or devices()
    return PlanPreview(
        config=config(sum(counts)), plan=plan(members, counts, WHY), devices=(*members, device(99, "laptop"))
    )


def status(**changes) -> ClusterStatus:
    fields = {"name": "laptop", "node_id": f"{99:012x}", "nodes": nodes(devices()), "models": (loaded(),)}
    return ClusterStatus(**{**fields, **changes})


def events(text: str = "The capital of France is Paris.") -> list[TokenEvent]:
    pieces = [piece + " " for piece in text.split(" ")]
    return [
        TokenEvent(
            index=i,
            token=i,
            text=piece,
            logprob=-0.2,
            at_s=0.2 + 0.03 * i,
            alternatives=((piece, -0.2), ("other", -2.5)),
            timings=(StageTiming("n", 0.01, 0.011),),
        )
        for i, piece in enumerate(pieces)
    ]


def stats(**changes) -> GenerationStats:
    members = devices()
    fields = {
        "request": "r1",
        "model": MODEL,
        "plan": plan(members, (13, 4, 13)),
        "prompt_tokens": 38,
        "tokens": 7,
        "ttft_s": 0.21,
        "total_s": 0.42,
        "tokens_per_s": 31.2,
        "stage_compute_s": tuple((member.id, 0.1) for member in members),
        "finish": "stop",
    }
    return GenerationStats(**{**fields, **changes})


def findings() -> tuple[Finding, ...]:
    """What a doctor may find."""
    return (
        Finding(step="interfaces", verdict="ok", seen="eth0 10.0.0.1/24"),
        Finding(step="silence", verdict="warn", seen="udp hears <nobody>\x1b[2J", do="Open UDP port 52418."),
        Finding(step="port", verdict="fail", seen="tcp://10.0.0.1:4000 does not answer", do="Allow TCP port 4000."),
    )


def record(answer: Any, sampling: SamplingParams, prompt_tokens: tuple[int, ...]) -> RunRecord:
    return sealed(
        RunRecord(
            made_at_s=1_790_000_000.0,
            digest="d" * 64,
            versions={"exo_lab": "0.1.0", "python": "3.11.9"},
            plan=answer.stats.plan,
            devices=tuple(run_device(one) for one in devices() if one.id in answer.stats.plan.devices),
            sampling=sampling,
            prompt=answer.prompt,
            prompt_tokens=prompt_tokens,
            text=answer.text,
            tokens=run_tokens(answer.tokens),
            finish=answer.finish,
            total_s=answer.stats.total_s,
        )
    )
