"""The four strategies for real: the same model over the same unequal kernels, cut by each strategy in turn.

Three kernels of this machine, one thread each; their memory and slowness are emulated. Predicted before measured, and
every round asks all strategies' plans one after the other, so that what disturbs the machine disturbs all of them.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

import msgspec

from benchmarks.measure import REPEATS, median, report
from benchmarks.prediction import SETTLE_S
from benchmarks.ring import MODEL, prompt_of
from exo_lab.cluster import Cluster
from exo_lab.cluster.planning import problem_of, wish_of
from exo_lab.core.errors import PlanError
from exo_lab.node.parts import NodeOptions
from exo_lab.planning.choose import choose
from exo_lab.planning.cost import predict
from exo_lab.transport.keys import new_token

if TYPE_CHECKING:
    from exo_lab.generation import Generation
    from exo_lab.planning.problem import Problem

MEMORY = (96 << 20, 160 << 20, 96 << 20)
SLOW = (1.0, 4.0, 2.0)
STRATEGIES = ("uniform", "performance-first", "ring-memory-weighted", "optimal")
PROMPT_TOKENS, ANSWER_TOKENS = 256, 64
CONTEXT = 512


def _ask(cluster: Cluster, prompt: str) -> Generation:
    return cluster.generate(prompt, raw=True, max_tokens=ANSWER_TOKENS, prefix_cache=False, speculate=0).result()


def _figures(run: Generation) -> dict[str, float]:
    first, last = run.tokens[0].at_s, run.tokens[-1].at_s
    return {"total_s": last, "ttft_s": first, "tokens_per_s": (len(run.tokens) - 1) / (last - first)}


def measure(repeats: int) -> dict[str, Any]:
    """All strategies. See the module's text."""
    data: dict[str, Any] = {
        "memory_bytes": list(MEMORY),
        "slow": list(SLOW),
        "prompt_tokens": PROMPT_TOKENS,
        "answer_tokens": ANSWER_TOKENS,
        "repeats": repeats,
        "strategies": {},
    }
    with Cluster(NodeOptions(name="bench", threads=1), new_token()) as cluster:
        nodes = cluster.up(len(SLOW), threads=1, slow=SLOW, memory=MEMORY)
        names = {node.device.id: node.device.name for node in nodes}
        room = {node.device.id: node.device.memory_bytes for node in nodes}
        prompt = prompt_of(cluster, PROMPT_TOKENS)
        # So that every node knows its pace: each holds some layers and answers.
        cluster.load(MODEL, devices=sorted(names.values()), layers=[10, 10, 10], context=CONTEXT)
        _ask(cluster, prompt)
        time.sleep(SETTLE_S)
        problem = _problem(cluster)
        for strategy in STRATEGIES:
            data["strategies"][strategy] = {"runs": [], **_plan(problem, strategy, names, room)}
        for _ in range(repeats):
            for one in data["strategies"].values():
                if "layers" in one:
                    chosen = [name for name, count in one["layers"].items() if count]
                    cluster.load(MODEL, devices=chosen, layers=[one["layers"][n] for n in chosen], context=CONTEXT)
                    _ask(cluster, prompt)
                    one["runs"].append(_figures(_ask(cluster, prompt)))
    return data


def _problem(cluster: Cluster) -> Problem:
    """The started kernels alone: the node of this process takes no part."""
    config = cluster.plan(MODEL, force=True).config
    mix = {"decode": float(ANSWER_TOKENS), "prefill": 1.0}
    wish = wish_of({"strategy": "optimal", "context": CONTEXT, "prompt": PROMPT_TOKENS, "mix": mix})
    problem = problem_of(cluster.node, config, wish)
    return msgspec.structs.replace(problem, topology=cluster.topology().without(cluster.id))


def _plan(problem: Problem, strategy: str, names: dict[str, str], room: dict[str, int]) -> dict[str, Any]:
    """What a strategy would do with the started kernels, and what that is predicted to give."""
    try:
        plan = choose(problem, strategy)
    except PlanError as exc:
        return {"error": str(exc)}
    prediction = predict(problem, plan)
    held = dict(zip(plan.devices, prediction.memory_bytes, strict=True))
    return {
        "layers": {names[device]: len(shard) for device, shard in zip(plan.devices, plan.shards, strict=True)},
        "memory_share": {names[device]: size / room[device] for device, size in held.items()},
        "predicted_total_s": prediction.ttft_s + (ANSWER_TOKENS - 1) * prediction.token_s,
        "predicted_ttft_s": prediction.ttft_s,
        "predicted_tokens_per_s": prediction.tokens_per_s,
    }


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    data = measure(parser.parse_args().repeats)
    devices = zip(MEMORY, SLOW, strict=True)
    print("kernels, emulated:", ", ".join(f"{size >> 20} MiB {slow:g}x slower" for size, slow in devices))
    rows: list[list[str]] = []
    for strategy, one in data["strategies"].items():
        if "error" in one:
            rows.append([strategy, one["error"], *[""] * 5])
            continue
        runs = one["runs"]
        total_s, ttft_s = (median([run[what] for run in runs]) for what in ("total_s", "ttft_s"))
        row = [strategy, " ".join(f"{name}:{count}" for name, count in one["layers"].items())]
        row += [f"{max(one['memory_share'].values()):.0%}", f"{one['predicted_total_s']:.2f}", f"{total_s:.2f}"]
        rows.append([*row, f"{ttft_s:.2f}", f"{median([run['tokens_per_s'] for run in runs]):.1f}"])
    header = ["strategy", "layers", "fullest", "total s", "was", "TTFT s", "tok/s"]
    title = f"{MODEL}: {PROMPT_TOKENS} + {ANSWER_TOKENS} tokens, predicted total and measured (medians of "
    report("strategies", f"{title}{data['repeats']})", header, rows, data)


if __name__ == "__main__":
    main()
