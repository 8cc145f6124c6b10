"""Guessing what comes next by looking it up in what was said before: no model, no state beyond the tokens. Pure.

Prompt look-up decoding (Saxena 2023): text that is quoted, summarised or edited repeats what stands in the prompt. A
guess costs a position in a pass that is made anyway, and it is only ever kept if the model draws the same token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST, SHORTEST = 3, 2  # tokens of the ending that is looked up; shorter endings are found too often by chance


class Lookup:
    """Tokens so far, and where each short run of them was last followed by something."""

    def __init__(self, tokens: Iterable[int] = ()) -> None:
        told = self._tokens = list(tokens)
        # run -> index of what followed it last
        self._after: dict[tuple[int, ...], int] = {}
        for size in range(SHORTEST, LONGEST + 1):
            runs = zip(*(told[at:] for at in range(size)), strict=False)
            self._after.update(zip(runs, range(size, len(told)), strict=False))

    def add(self, token: int) -> None:
        """The next token."""
        at = len(self._tokens)
        for size in range(SHORTEST, LONGEST + 1):
            if at >= size:
                self._after[tuple(self._tokens[at - size :])] = at
        self._tokens.append(token)

    def guess(self, most: int) -> tuple[int, ...]:
        """Up to `most` tokens that followed the longest ending that was there before; none if there was none."""
        for size in range(LONGEST, SHORTEST - 1, -1):
            if len(self._tokens) >= size:
                at = self._after.get(tuple(self._tokens[-size:]))
                if at is not None:
                    return tuple(self._tokens[at : at + most])
        return ()
