"""A conversation in a ring of two kernels: the first token of its second turn, with the prefix cache and without.

The first turn asks about a long text; the second prompt holds all of it, the answer, and a short question. Each round
uses a text of its own, so that only the turn before can be reused. The tokens must be the same.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from benchmarks.measure import REPEATS, median, ratio, report
from benchmarks.ring import MODEL, Rings
from exo_lab.cluster import Cluster
from exo_lab.node.parts import NodeOptions
from exo_lab.transport.keys import new_token

if TYPE_CHECKING:
    from collections.abc import Sequence

ANSWER = 32
TEXTS = (20, 60, 120)  # sentences of the first turn
SENTENCE = "On day {day} of voyage {voyage} the ship {ship} met {count} whales and lost sight of the coast."


def text_of(sentences: int, voyage: int) -> str:
    """A text that no other voyage begins with."""
    return " ".join(
        SENTENCE.format(day=day, voyage=voyage, ship=("Anna", "Bela", "Carla")[day % 3], count=day * 7 % 11)
        for day in range(1, sentences + 1)
    )


def second_turn(cluster: Cluster, text: str, *, cached: bool) -> tuple[float, int, int, tuple[int, ...]]:
    """Time to the first token (s), prompt tokens, how many of them were reused, and the answer of a second turn."""
    talk = [{"role": "user", "content": f"Voyage log. {text} What is this about?"}]
    first = cluster.generate(talk, max_tokens=ANSWER, prefix_cache=cached).result()
    talk += [{"role": "assistant", "content": first.text}, {"role": "user", "content": "Say it in five words."}]
    second = cluster.generate(talk, max_tokens=ANSWER, prefix_cache=cached).result()
    assert second.stats.ttft_s is not None
    said = tuple(event.token for event in (*first.tokens, *second.tokens))
    return second.stats.ttft_s, second.stats.prompt_tokens, second.stats.prompt_tokens_reused, said


def measure(repeats: int, texts: Sequence[int] = TEXTS) -> dict[str, Any]:
    """All figures. See the module's text."""
    data: dict[str, Any] = {"answer": ANSWER, "repeats": repeats, "turns": [], "same_tokens": True}
    with Cluster(NodeOptions(name="bench", threads=1), new_token()) as cluster:
        cluster.up(2, threads=1)
        Rings(cluster).use(2)
        voyage = 0
        for sentences in texts:
            without: list[float] = []
            cached: list[float] = []
            tokens = reused = 0
            for number in range(repeats + 1):  # the first does not count
                voyage += 1
                text = text_of(sentences, voyage)
                slow_s, tokens, _, plain = second_turn(cluster, text, cached=False)
                fast_s, _, reused, same = second_turn(cluster, text, cached=True)
                data["same_tokens"] &= plain == same
                if number:
                    without.append(slow_s)
                    cached.append(fast_s)
            turn = {"prompt_tokens": tokens, "reused": reused, "without_s": without, "cached_s": cached}
            data["turns"].append(turn)
    return data


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    data = measure(parser.parse_args().repeats)
    rows = [
        [
            f"{turn['prompt_tokens']:,}",
            f"{turn['reused']:,}",
            f"{median(turn['without_s']) * 1e3:.0f}",
            f"{median(turn['cached_s']) * 1e3:.0f}",
            f"{ratio(turn['without_s'], turn['cached_s']):.1f}",
        ]
        for turn in data["turns"]
    ]
    header = ["tokens of the second prompt", "from the cache", "without, ms", "with, ms", "without / with"]
    same = "the same tokens" if data["same_tokens"] else "OTHER TOKENS"
    title = f"{MODEL}, ring of 2 x 1 thread, first token of a second turn, {same} (medians of {data['repeats']})"
    report("prefix", title, header, rows, data)


if __name__ == "__main__":
    main()
