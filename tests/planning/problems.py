"""Random planning problems for tests and benchmarks: uneven enough to be mean; brute force for small ones."""

from __future__ import annotations

import itertools
import random

from exo_lab.core.device import Device, Flops
from exo_lab.core.model import ModelConfig
from exo_lab.core.pace import Measured
from exo_lab.core.topology import Sighting, link, topology
from exo_lab.planning.cost import Costs
from exo_lab.planning.problem import Mix, Problem

MARGIN = 0.05
MIXES = {"request": Mix(decode=20, prefill=1), "everything": Mix(decode=1, prefill=0.1, throughput=5)}


def random_problem(seed: int, devices: int, layers: int, objective: str, *, tight: bool = True) -> Problem:
    """A problem with devices, links and layers of all sizes; `tight`: memories near what is needed.

    `objective` is one of the three, or a key of `MIXES`.
    """
    rng = random.Random(seed)
    even = rng.random() < 0.4
    config = ModelConfig(
        name="random",
        architecture="llama",
        n_layers=layers,
        hidden_size=64,
        intermediate_size=128,
        n_heads=4,
        n_kv_heads=2,
        head_dim=16,
        vocab_size=256,
        context_length=4096,
        tied_embeddings=rng.random() < 0.5,
        layer_bytes=tuple(60_000 if even else rng.choice([40_000, 60_000, 100_000]) for _ in range(layers)),
        embedding_bytes=rng.choice([0, 30_000, 200_000]),
        head_bytes=rng.choice([30_000, 200_000]) + 200_000,
    )
    ids = [f"d{i:02d}" for i in range(devices)]
    links = [
        link(
            a,
            b,
            kind="ethernet",
            latency_s=rng.choice([1e-5, 1e-4, 1e-3]),
            bandwidth_bytes_per_s=rng.choice([1e6, 1e8]),
        )
        for a, b in itertools.combinations(ids, 2)
        if rng.random() < 0.9
    ]
    blank = Problem(
        config=config,
        topology=topology(),
        context_tokens=16,
        prompt_tokens=rng.choice([1, 100, 1000]),
        objective="decode" if objective in MIXES else objective,
        mix=MIXES.get(objective),
        memory_margin=MARGIN,
        measured=tuple((one, _measured(rng)) for one in ids if rng.random() < 0.3),
    )
    need = blank.shard_memory_bytes(Device(id="", name=""), 0, layers) - blank.activation_bytes
    sightings = [
        Sighting(
            device=Device(
                id=one,
                name=f"node-{one}",
                memory_bytes=10**9,
                memory_available_bytes=int(
                    (need * rng.uniform(0.1, 1.5) / devices**0.5 + blank.activation_bytes) / (1 - MARGIN)
                )
                if tight
                else 10**9,
                flops=Flops(fp32=rng.choice([0.0, 0.001, 0.01])),
                memory_bandwidth_bytes_per_s=rng.choice([0.0, 1e8, 1e9]),
            )
        )
        for one in ids
    ]
    fields = {name: getattr(blank, name) for name in blank.__struct_fields__}
    return Problem(**{**fields, "topology": topology(sightings, links)})


def _measured(rng: random.Random) -> Measured:
    def maybe(low: float, high: float) -> float | None:
        return rng.uniform(low, high) if rng.random() < 0.6 else None

    return Measured(
        layer_s=maybe(1e-4, 1e-3),
        prefill_layer_s=maybe(1e-5, 1e-4),
        overhead_s=maybe(1e-5, 1e-3),
        embedding_s=maybe(1e-6, 1e-4),
        head_s=maybe(1e-5, 1e-3),
    )


def brute_force(problem: Problem, orders=None) -> float:
    """The least objective over every order of every subset and every cut; infinite if nothing fits."""
    costs = Costs(problem, problem.devices)
    count, layers = len(costs.devices), problem.config.n_layers
    if orders is None:
        orders = (order for size in range(1, count + 1) for order in itertools.permutations(range(count), size))
    best = float("inf")
    for order in orders:
        for inner in itertools.combinations(range(1, layers), len(order) - 1):
            cuts = (0, *inner, layers)
            if all(costs.fits(place, *span) for place, span in zip(order, itertools.pairwise(cuts), strict=True)):
                best = min(best, costs.objective(costs.predict(order, cuts)))
    return best
