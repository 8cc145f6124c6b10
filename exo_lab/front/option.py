"""What an option is, and how values are read from words. Knows no verb; see `options` for those."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from exo_lab.front.units import parse_size

if TYPE_CHECKING:
    from collections.abc import Callable

_DURATION = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|min|m|h|)\s*")
Words = Literal["", "node", "model", "strategy", "file", "verb"]  # what completes a value


class Option(NamedTuple):
    """One option or positional argument. `settings` are those of `argparse.add_argument`."""

    flags: tuple[str, ...]
    settings: dict[str, Any]
    words: Words = ""

    @property
    def takes_value(self) -> bool:
        """Does a value follow the flag?"""
        return self.settings.get("action") not in ("store_true",)


# -- values ------------------------------------------------------------------------------------------------


def _checked(convert: Callable[[str], Any], wanted: str) -> Callable[[str], Any]:
    """A converter whose mistakes say what was wanted."""

    def check(text: str) -> Any:
        try:
            return convert(text)
        except ValueError as exc:
            raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}") from exc

    return check


def size(text: str) -> int:
    """Bytes from "64MB". For argparse."""
    try:
        return parse_size(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc


def switch(text: str) -> bool:
    """`on` or `off`. For argparse."""
    if text not in ("on", "off"):
        raise argparse.ArgumentTypeError(f"{text!r} is not on or off")
    return text == "on"


def duration(text: str) -> float:
    """Seconds from "30s", "500ms", "2m" or "30". For argparse."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time; write seconds, or a number with ms, s, m or h")
    return float(match[1]) * {"ms": 1e-3, "s": 1.0, "": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}[match[2]]


def list_of(convert: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    """A converter of values with commas between them."""
    return lambda text: tuple(convert(part.strip()) for part in text.split(",") if part.strip())


def unescape(text: str) -> str:
    r"""`\n`, `\t` and `\\` as people write them on one line."""
    return text.replace("\\\\", "\0").replace("\\n", "\n").replace("\\t", "\t").replace("\0", "\\")


integer = _checked(int, "a whole number")
number = _checked(float, "a number")
names_list = list_of(str)


def integer_or_auto(text: str) -> int | str:
    """A whole number, or "auto". For argparse."""
    return text if text == "auto" else integer(text)


def weights(text: str) -> dict[str, float]:
    """`decode=100,prefill=1` as weights by name."""
    found: dict[str, float] = {}
    for part in names_list(text):
        name, equals, value = part.partition("=")
        if not equals:
            raise argparse.ArgumentTypeError(f"{part!r} is not NAME=WEIGHT, such as decode=100")
        found[name.strip()] = number(value)
    return found


def option(*flags: str, words: Words = "", **settings: Any) -> Option:
    """An option as `argparse.add_argument` takes it, and what completes its value."""
    return Option(flags, settings, words)
