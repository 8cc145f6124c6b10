"""Records of runs in front of a user: `--record` keeps one, `replay` runs one again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exo_lab.core.errors import ConfigError
from exo_lab.core.record import MAX_BYTES, Replayed, RunRecord, decode, encode
from exo_lab.front.desk import progress_board
from exo_lab.front.files import write_file
from exo_lab.front.replay_view import ReplayView
from exo_lab.front.units import show_count

if TYPE_CHECKING:
    from argparse import Namespace

    from exo_lab.front.desk import Desk
    from exo_lab.generation import Generation

KEY = "exo_lab_record"  # in an output's metadata
POLL_S = 0.1


def as_metadata(generation: Generation) -> dict[str, Any]:
    """The record of an answer, as metadata of an output."""
    return {KEY: encode(generation.record())}  # as text: what a browser makes of numbers would not be the same record


def save(generation: Generation, place: str) -> None:
    """Keep the record of an answer in a file."""
    write_file(place, encode(generation.record()))


def replay(desk: Desk, args: Namespace) -> None:
    """Run a recorded run again, and show what differs."""
    then = found(desk, args.name)
    cluster = desk.cluster()
    with progress_board(desk, "replaying") as (board, screen):
        generation = cluster.replay(then, devices=args.devices)
        try:
            while not generation.done:
                generation.poll(POLL_S)
                board.say(f"{show_count(len(generation.tokens), 'token')} of {len(then.tokens)}")
        finally:
            generation.cancel()
        if generation.error is not None:
            raise generation.error
        screen.finish(ReplayView(Replayed(then=then, now=generation.record())))


def found(desk: Desk, name: str | None) -> RunRecord:
    """The record in a variable, of the last answer, in a file, or the last one in a notebook.

    Raises:
        ConfigError: there is none, or it is refused.
    """
    kept = desk.kept(name) if desk.kept is not None else None
    if isinstance(kept, RunRecord):
        return kept
    if kept is not None and hasattr(kept, "record"):
        return kept.record()
    if name is None:
        raise ConfigError("nothing was asked yet; name a variable that holds an answer, or a file that --record wrote")
    path = Path(name).expanduser()
    try:
        # A notebook may be larger than any record, within bounds.
        if path.stat().st_size > (4 * MAX_BYTES if path.suffix == ".ipynb" else MAX_BYTES):
            raise ConfigError(f"{path} is too large for a record")
        content = path.read_bytes()
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{name} is no variable that holds an answer, and no file that can be read: {exc}") from exc
    return decode(in_notebook(content, name) if path.suffix == ".ipynb" else content)


def in_notebook(content: bytes, name: str) -> str:
    """The text of the last record in the outputs of a notebook. ConfigError if there is none."""
    try:
        cells = json.loads(content)["cells"]
        texts = [
            output["metadata"][KEY]
            for cell in cells
            for output in cell.get("outputs", ())
            if KEY in output.get("metadata", {})
        ]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
        raise ConfigError(f"{name} is no notebook: {exc}") from exc
    if not texts or not isinstance(texts[-1], str):
        raise ConfigError(f"no output of {name} has a record in it; %%exo --record puts one there")
    return texts[-1]
