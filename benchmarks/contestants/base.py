"""A contestant's side: answer "prefill 256" or "decode 64 48" with the seconds that it took. Standard library only."""

from __future__ import annotations

import os
import sys
import time
from typing import Protocol


class Contestant(Protocol):
    """Something that runs one model with a fixed number of threads."""

    def prefill(self, ids: list[int]) -> None:
        """Forget everything, run these tokens, make the logits of the last one."""
        ...

    def decode(self, token: int, position: int) -> None:
        """Run one token behind what there is, make its logits."""
        ...


def tokens(count: int) -> list[int]:
    """Token ids of ordinary words, always the same ones."""
    return [1000 + 7 * i % 3000 for i in range(count)]


def serve(contestant: Contestant) -> None:
    """Answer requests, one a line, until standard input ends."""
    # What libraries print must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        what, *numbers = line.split()
        sizes = [int(number) for number in numbers]
        if what == "prefill":
            ids = tokens(sizes[0])
            started = time.perf_counter()
            contestant.prefill(ids)
        elif what == "decode":
            context, count = sizes
            contestant.prefill(tokens(context))
            started = time.perf_counter()
            for i, token in enumerate(tokens(count)):
                contestant.decode(token, context + i)
        else:
            raise ValueError(f"unknown request {line!r}")
        answers.write(f"{time.perf_counter() - started}\n")
        answers.flush()
