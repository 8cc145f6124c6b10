"""Plain text for terminals: names made harmless, tables aligned. Knows nothing of clusters.

Names, remarks and error texts may come from peers, so nothing here lets a control character through: a name cannot
move the cursor, recolour the terminal, start a new line, or turn the direction of writing.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME_CHARACTERS = 48  # a longer name is cut: a peer must not be able to fill the screen
SENTENCE_CHARACTERS = 1000


def clean(text: str, limit: int = SENTENCE_CHARACTERS) -> str:
    """The text on one line, control and format characters replaced, cut to `limit` characters."""
    text = "".join(_visible(character) for character in text[: 2 * limit])
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def clean_name(name: str) -> str:
    """A device's or model's name, never empty."""
    return clean(name, NAME_CHARACTERS) or "(no name)"


def harmless(name: str) -> str:
    """A name that no spreadsheet takes for a formula: names come from peers."""
    return f"'{name}" if name[:1] in "=+-@\t\r" and name else name


def width(text: str) -> int:
    """Columns that a terminal needs: wide characters count twice, combining ones not at all."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> list[str]:
    """Aligned lines, columns two spaces apart; columns named in `right` are flush right. Empty columns vanish."""
    kept = [i for i in range(len(header)) if any(row[i] for row in rows)]
    lines = [[header[i] for i in kept], *([row[i] for i in kept] for row in rows)]
    widths = [max(width(line[k]) for line in lines) for k in range(len(kept))]
    flush = [header[i] in right for i in kept]
    return [
        "  ".join(_pad(cell, w, r) for cell, w, r in zip(line, widths, flush, strict=True)).rstrip() for line in lines
    ]


def _pad(cell: str, columns: int, right: bool) -> str:
    space = " " * (columns - width(cell))
    return space + cell if right else cell + space


def _visible(character: str) -> str:
    if character.isspace():
        return " "
    return "\ufffd" if unicodedata.category(character).startswith("C") else character


def clean_block(text: str) -> str:
    """Text of several lines, such as a model's answer: line ends and joiners stay, what steers a terminal does not."""
    return "".join(character if _harmless(character) else "\ufffd" for character in text.replace("\r\n", "\n"))


def _harmless(character: str) -> bool:
    if character in "\n\t":
        return True
    if character in _OVERRIDES:
        return False
    # Format characters stay: emoji and several scripts are written with joiners.
    return unicodedata.category(character) not in ("Cc", "Cs", "Co", "Cn")


_OVERRIDES = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # would turn the direction of what follows
