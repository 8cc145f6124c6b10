"""Predicted against measured: rings of one, two and three kernels, of equal and unequal speed (law 6).

Real kernels on this machine, one thread each; slower ones are emulated and say so. Each plan is loaded, answers a few
times so that its nodes know their pace, is priced with what they told, and then measured with other answers. The
prediction is made before the measurement that it is compared with.
"""

from __future__ import annotations

import argparse
import itertools
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.measure import REPEATS, median, report
from benchmarks.ring import MODEL, prompt_of
from exo_lab.cluster import Cluster
from exo_lab.node.parts import NodeOptions
from exo_lab.transport.keys import new_token

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.generation import Generation

WARM_UPS = 2
PROMPT_TOKENS = 256
DECODE_TOKENS = 64
GOAL = 0.15  # of the measured time of a token
SETTLE_S = 3.0  # pongs tell paces once a second, echoes measure links twice a second


class Case(NamedTuple):
    """One ring: layers per kernel, in ring order."""

    name: str
    layers: tuple[int, ...]


# Three kernels are started as equals, three with the third and the second slower.
RINGS: dict[str, tuple[tuple[float, ...], tuple[Case, ...]]] = {
    "equal": (
        (1.0, 1.0, 1.0),
        (Case("1", (30,)), Case("2", (15, 15)), Case("2, uneven cut", (24, 6)), Case("3", (10, 10, 10))),
    ),
    "unequal": (
        (1.0, 1.5, 3.0),
        (Case("1, slow", (0, 0, 30)), Case("2", (20, 10)), Case("3", (10, 10, 10)), Case("3, matched", (16, 10, 4))),
    ),
}


def _ask(cluster: Cluster, prompt: str) -> Generation:
    return cluster.generate(prompt, raw=True, max_tokens=DECODE_TOKENS, prefix_cache=False, speculate=0).result()


def _token_s(generation: Generation) -> float:
    """Median seconds between two tokens: on a shared machine a few of them wait for somebody else's work."""
    at = [event.at_s for event in generation.tokens]
    return median([after - before for before, after in itertools.pairwise(at)])


def measure_case(cluster: Cluster, names: Sequence[str], case: Case, prompt: str, repeats: int) -> dict[str, Any]:
    """Predict, then measure, one ring."""
    used = [(name, count) for name, count in zip(names, case.layers, strict=False) if count]
    asked: dict[str, Any] = {
        "devices": [name for name, _ in used],
        "layers": [count for _, count in used],
        "prompt": PROMPT_TOKENS,
    }
    cluster.load(MODEL, **asked)
    for _ in range(WARM_UPS):
        _ask(cluster, prompt)
    time.sleep(SETTLE_S)
    # Of an answer: positions from the prompt's end on, the middle one of which is priced.
    priced = cluster.explain(MODEL, **{**asked, "prompt": PROMPT_TOKENS + DECODE_TOKENS // 2}, compare=False)
    first = cluster.explain(MODEL, **asked, compare=False)
    runs = [_ask(cluster, prompt) for _ in range(repeats)]
    origins = {row[-1] for one in priced.explanation.tables if one.title == "coefficients" for row in one.rows}
    return {
        "layers": list(case.layers),
        "predicted_token_s": priced.explanation.prediction.token_s,
        "measured_token_s": [_token_s(run) for run in runs],
        "predicted_ttft_s": first.explanation.prediction.ttft_s,
        "measured_ttft_s": [run.tokens[0].at_s for run in runs],
        "origins": sorted(origins),
    }


def measure(repeats: int) -> dict[str, Any]:
    """All rings. See the module's text."""
    data: dict[str, Any] = {"prompt_tokens": PROMPT_TOKENS, "decode_tokens": DECODE_TOKENS, "repeats": repeats}
    for kind, (slow, cases) in RINGS.items():
        with Cluster(NodeOptions(name="bench", threads=1), new_token()) as cluster:
            nodes = cluster.up(len(slow), threads=1, slow=slow)
            names = sorted(node.device.name for node in nodes)
            prompt = prompt_of(cluster, PROMPT_TOKENS)
            data[kind] = {
                "slow": list(slow),
                "rings": {case.name: measure_case(cluster, names, case, prompt, repeats) for case in cases},
            }
    return data


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    data = measure(parser.parse_args().repeats)
    rows: list[list[str]] = []
    for kind in RINGS:
        for name, ring in data[kind]["rings"].items():
            token_s, ttft_s = median(ring["measured_token_s"]), median(ring["measured_ttft_s"])
            off = ring["predicted_token_s"] / token_s - 1
            row = [f"{name}", kind, " ".join(str(count) for count in ring["layers"] if count)]
            row += [f"{ring['predicted_token_s'] * 1e3:.2f}", f"{token_s * 1e3:.2f}"]
            row += [f"{off:+.0%}" + ("" if abs(off) <= GOAL else " missed")]
            row += [f"{ring['predicted_ttft_s'] * 1e3:.0f}", f"{ttft_s * 1e3:.0f}"]
            rows.append([*row, f"{ring['predicted_ttft_s'] / ttft_s - 1:+.0%}"])
        print(f"{kind}: three kernels, {', '.join(f'{factor:g}x' for factor in data[kind]['slow'])} slower (emulated)")
    header = ["ring", "speed", "layers", "token ms", "was", "off", "TTFT ms", "was", "off"]
    title = f"{MODEL}: predicted and measured (medians of {data['repeats']}); goal: a token's time within {GOAL:.0%}"
    report("prediction", title, header, rows, data)


if __name__ == "__main__":
    main()
