"""Steps with guesses on any engine: every position gets the bits that it would get alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.core.tensor import Tensor

if TYPE_CHECKING:
    from exo_lab.core.messages import Step
    from exo_lab.engines.base import Engine, Want


def forward(engine: Engine, step: Step, x: Tensor, want: Want) -> Tensor | None:
    """As `Engine.forward`. An engine that computes several positions otherwise than one is given one at a time.

    Args:
        engine: of the stage.
        step: with or without guesses.
        x: its tensor, (n,) or (n, hidden).
        want: see `Engine.forward`.
    """
    count = x.shape[0]
    if not step.guesses or count <= engine.info.together:
        return engine.forward(step.request, x, step.position, want)
    parts = [engine.forward(step.request, x.rows(row, row + 1), step.position + row, want) for row in range(count)]
    there = [part for part in parts if part is not None]
    if not there:
        return None
    return Tensor(there[0].dtype, (count, *there[0].shape[1:]), b"".join(bytes(part.data) for part in there))
