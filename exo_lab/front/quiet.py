"""Errors that a cell shows in one block instead of forty lines of our own code. The cell still fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.front.text import clean_block

if TYPE_CHECKING:
    from collections.abc import Sequence

_RED, _PLAIN = "\x1b[0;31m", "\x1b[0m"


def quietly(error: BaseException, *lines: str) -> BaseException:
    """The same error, made to show its name and its text only. IPython asks it for `_render_traceback_`.

    Args:
        error: what is going to be raised; it stays what it is for `except`.
        lines: shown instead of its own text.
    """
    name = type(error).__name__
    text = clean_block("\n".join(lines or (str(error), *getattr(error, "__notes__", ()))))

    def render() -> Sequence[str]:
        return [f"{_RED}{name}{_PLAIN}: {text}"]

    error._render_traceback_ = render  # type: ignore[attr-defined] - the hook that IPython offers
    return error
