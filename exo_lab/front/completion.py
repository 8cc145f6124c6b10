"""What can come next on a `%exo` or `%%exo` line. Pure but for the words, which the caller looks up when asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.front.options import CELL_OPTIONS, Option, verbs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exo_lab.front.options import Words


def complete(line: str, words: Callable[[Words], Sequence[str]]) -> list[str]:
    """Candidates for the word that the cursor is in or after.

    Args:
        line: the line up to the cursor, from `%exo` or `%%exo` on.
        words: names of nodes, models ... for a kind of value.
    """
    typed = line.split()
    if not typed:
        return []
    head, before = typed[0], typed[1:]
    if before and not line[-1].isspace():
        before = before[:-1]  # the word in the making
    elif not before and not line[-1].isspace():
        return []
    if head == "%%exo":
        return _next(before, CELL_OPTIONS, words)
    known = {verb.name: verb for verb in verbs("cell")}
    if not before:
        return [*known, "--help"]
    verb = known.get(before[0])
    return [] if verb is None else _next(before[1:], verb.options, words)


def _next(before: Sequence[str], options: Sequence[Option], words: Callable[[Words], Sequence[str]]) -> list[str]:
    flags = {flag: one for one in options for flag in one.flags if flag.startswith("-")}
    if before and before[-1] in flags and flags[before[-1]].takes_value:
        return _values(flags[before[-1]], words)
    positional = [one for one in options if not one.flags[0].startswith("-")]
    out = [value for one in positional for value in _values(one, words)]
    return [*out, *(flag for flag in flags if flag.startswith("--")), "--help"]


def _values(one: Option, words: Callable[[Words], Sequence[str]]) -> list[str]:
    choices = one.settings.get("choices")
    if choices is not None:
        return list(choices)
    if one.words == "verb":
        return [verb.name for verb in verbs("cell")]
    return list(words(one.words)) if one.words else []
