"""Where each token's time went: computing on a stage, in the node beyond computing, between the nodes. Pure.

A token's time is the interval between its arrival and that of the token before. Stages say what they computed and how
long they held the step (`StageTiming`); what is missing is the wire and waiting for it. A first token's time is the
prompt's and stands on a scale of its own, so it is left out.
"""

from __future__ import annotations

import csv
import io
import itertools
import statistics
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.core.status import TokenEvent


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """One token, in seconds. `compute_s` and `queue_s` are per stage, in the order of `Heat.devices`.

    Their sum and `wire_s` make `total_s`, unless stages on other clocks say that they held the step for longer than the
    token took; then `wire_s` is 0.
    """

    index: int
    text: str
    total_s: float
    compute_s: tuple[float, ...]
    queue_s: tuple[float, ...]
    wire_s: float


class Heat(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of one answer. `devices`: ids, in stage order; those of an earlier plan of the same answer at the end."""

    devices: tuple[str, ...]
    splits: tuple[Split, ...]

    def means(self) -> tuple[tuple[float, ...], tuple[float, ...], float]:
        """Mean seconds a token: computing and beyond it per stage, and between the stages."""
        columns = range(len(self.devices))
        return (
            tuple(statistics.fmean(split.compute_s[k] for split in self.splits) for k in columns),
            tuple(statistics.fmean(split.queue_s[k] for split in self.splits) for k in columns),
            statistics.fmean(split.wire_s for split in self.splits),
        )

    def csv(self, names: Sequence[str]) -> str:
        """One line a token, times in seconds; `names` of the devices, in their order."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        stages = [f"stage {k} {name}" for k, name in enumerate(names)]
        heads = [f"{stage} {what}" for stage in stages for what in ("compute_s", "queue_s")]
        writer.writerow(["index", "total_s", *heads, "wire_s"])
        for one in self.splits:
            spent = [value for pair in zip(one.compute_s, one.queue_s, strict=True) for value in pair]
            writer.writerow([one.index, *(f"{value:.9f}" for value in (one.total_s, *spent, one.wire_s))])
        return out.getvalue()


def heat(tokens: Sequence[TokenEvent], devices: Sequence[str]) -> Heat:
    """The split of every token but the first.

    Args:
        tokens: of one answer, in order, with timings.
        devices: the plan's, in stage order.
    """
    timed = [event for event in tokens if event.timings]
    others = dict.fromkeys(timing.node for event in timed for timing in event.timings)
    everyone = (*devices, *(node for node in others if node not in devices))
    place = {node: k for k, node in enumerate(everyone)}
    splits: list[Split] = []
    for before, event in itertools.pairwise(tokens):
        if not event.timings:
            continue
        compute, queue = [0.0] * len(everyone), [0.0] * len(everyone)
        for timing in event.timings:
            compute[place[timing.node]] += timing.compute_s
            queue[place[timing.node]] += max(0.0, timing.handling_s - timing.compute_s)
        total_s = max(0.0, event.at_s - before.at_s)
        splits.append(
            Split(
                index=event.index,
                text=event.text,
                total_s=total_s,
                compute_s=tuple(compute),
                queue_s=tuple(queue),
                wire_s=max(0.0, total_s - sum(compute) - sum(queue)),
            )
        )
    return Heat(devices=everyone, splits=tuple(splits))
