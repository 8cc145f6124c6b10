"""A generation, drawn while it runs, to its end or to the moment when somebody presses Interrupt.

Runs in the thread that asked and waits in steps, so that Interrupt gets through. Knows screens and views only.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from exo_lab.core.errors import ExoError
from exo_lab.front.views import generation_view

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from exo_lab.core.device import Device
    from exo_lab.core.status import LoadedModel
    from exo_lab.front.generation_view import GenerationView, State
    from exo_lab.front.screen import Screen
    from exo_lab.generation import Generation

POLL_S = 0.1


def stream(
    generation: Generation,
    screen: Screen,
    devices: Sequence[Device] = (),
    models: Sequence[LoadedModel] = (),
    warnings: Callable[[], Sequence[str]] = tuple,
    metadata: Callable[[], Mapping[str, Any]] = dict,
    save: Callable[[], object] = tuple,
) -> None:
    """Draw until it is over. However it is left, the generation is over on every node.

    Args:
        generation: that runs.
        screen: where it is drawn.
        devices: for names and colours.
        models: those that are loaded.
        warnings: what else a person must hear of, asked when the answer is there.
        metadata: of the output, asked when the answer is there.
        save: keeps the answer elsewhere, once it is drawn to its end.

    Raises:
        ExoError: what went wrong with the answer, else with what was to be kept of it; what came of it stays on the
            screen, drawn to its end.
        KeyboardInterrupt: after it was cancelled and marked. It is passed on, so that "Run All" stops here.
    """

    def picture(state: State | None = None) -> GenerationView:
        return generation_view(generation, devices, models, state=state)

    try:
        screen.offer(picture)
        while not generation.done:
            generation.poll(POLL_S)
            screen.offer(picture)
    except KeyboardInterrupt:
        generation.cancel()
        screen.finish(picture("interrupted"))
        raise
    finally:
        if not generation.done:
            generation.cancel()
    unkept = _finish(partial(generation_view, generation, devices, models), screen, warnings, metadata)
    unkept = unkept or _failure_of(save)
    if generation.error is not None and unkept is not None:
        generation.error.add_note(str(unkept))
    if (error := generation.error or unkept) is not None:
        raise error


def _finish(
    picture: Callable[..., GenerationView],
    screen: Screen,
    warnings: Callable[[], Sequence[str]],
    metadata: Callable[[], Mapping[str, Any]],
) -> ExoError | None:
    """Draw the end with all that is known, however the asking for it goes; what went wrong."""
    known: dict[str, Any] = {}
    try:
        known["warnings"] = warnings()
        known["metadata"] = metadata()
    except ExoError as exc:
        return exc
    finally:
        screen.finish(picture(**known))
    return None


def _failure_of(save: Callable[[], object]) -> ExoError | None:
    try:
        save()
    except ExoError as exc:
        return exc
    return None
