"""Taking what is private out of texts before they are given away: words, wherever they stand in a value. Pure.

Knows no user and no secret: the words come from outside.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar, cast

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")

REMOVED = "(removed)"  # in place of a secret
SHORTEST = 3  # a shorter word stands in half of all sentences


def scrub(text: str, words: Mapping[str, str]) -> str:
    """The text with each word replaced; longer words first. A word of letters counts only where it stands alone."""
    for word in sorted((word for word in words if len(word) >= SHORTEST), key=len, reverse=True):
        pattern = re.escape(word)
        if word.isalnum():
            pattern = rf"(?<![A-Za-z0-9]){pattern}(?![A-Za-z0-9])"
        text = re.sub(pattern, lambda _, put=words[word]: put, text)
    return text


def scrubbed(value: T, words: Mapping[str, str]) -> T:
    """A value of structs with every text in it scrubbed."""
    return msgspec.convert(_walk(msgspec.to_builtins(value), words), type(value))


def _walk(value: object, words: Mapping[str, str]) -> object:
    match value:
        case str():
            return scrub(value, words)
        case dict():
            items = cast("dict[object, object]", value).items()
            return {_walk(key, words): _walk(one, words) for key, one in items}
        case list() | tuple():
            return [_walk(one, words) for one in cast("list[object]", value)]
        case _:
            return value
