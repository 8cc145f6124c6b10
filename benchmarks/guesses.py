"""Speculation by look-up in a ring of two kernels: tokens a second with and without guesses, round by round.

One prompt is to be repeated, where guesses are often right, and one is a story, where they are seldom. The tokens must
be the same.
"""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.measure import REPEATS, interleave, median, ratio, report
from benchmarks.ring import MODEL, Rings
from exo_lab.cluster import Cluster
from exo_lab.node.parts import NodeOptions
from exo_lab.transport.keys import new_token

TOKENS = 96
MOST = {"none": 0, "automatic": None, "3": 3, "7": 7}
PROMPTS = {
    "repeat": "Repeat this list word for word, twice: apple, pear, plum, cherry, grape, melon, lemon, fig, date, kiwi.",
    "story": "Tell a story about a lighthouse keeper and a storm.",
}


def measure(repeats: int) -> dict[str, Any]:
    """All figures. See the module's text."""
    data: dict[str, Any] = {"tokens": TOKENS, "repeats": repeats, "rates": {}, "same_tokens": True}
    with Cluster(NodeOptions(name="bench", threads=1), new_token()) as cluster:
        cluster.up(2, threads=1)
        Rings(cluster).use(2)
        said: dict[str, set[tuple[int, ...]]] = {name: set() for name in PROMPTS}

        def rate(name: str, most: int | None) -> float:
            done = cluster.generate(PROMPTS[name], max_tokens=TOKENS, speculate=most).result()
            said[name].add(tuple(event.token for event in done.tokens))
            assert done.stats.tokens_per_s is not None
            return done.stats.tokens_per_s

        for name in PROMPTS:
            cases = {label: lambda name=name, most=most: rate(name, most) for label, most in MOST.items()}
            data["rates"][name] = interleave(cases, repeats)
        data["same_tokens"] = all(len(answers) == 1 for answers in said.values())
    return data


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    data = measure(parser.parse_args().repeats)
    rows = [
        [name, *(f"{median(rates[label]):.0f}" for label in MOST)]
        + [f"{ratio(rates[label], rates['none']):.2f}" for label in list(MOST)[1:]]
        for name, rates in data["rates"].items()
    ]
    header = ["prompt", *MOST, *(f"{label} / none" for label in list(MOST)[1:])]
    same = "the same tokens" if data["same_tokens"] else "OTHER TOKENS"
    title = f"{MODEL}, ring of 2 x 1 thread, tokens/s, {same} (medians of {data['repeats']})"
    report("guesses", title, header, rows, data)


if __name__ == "__main__":
    main()
