"""How much a chat template may make: texts, lists and numbers are measured before they are made. Knows no template.

What is too much raises Jinja's `SecurityError`.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

import jinja2
from jinja2.exceptions import SecurityError
from jinja2.filters import do_indent, make_attrgetter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

MAX_CHARACTERS = 1 << 23  # of one text, of the elements of one list, and of all that a template writes
NO_FILTERS = ("sum", "pprint", "urlize", "xmlattr", "random")
ELEMENT = 64  # characters that an element counts as where lists are measured in depth: an object takes as much
ROOM = 8  # most of what a number is said to goes unused: a text is cut off there, say
MAX_BITS = 1 << 12  # of a number
_WIDE_PERCENT = re.compile(r"%[^a-zA-Z%]*(\*|\d{5})")
_WIDE_FIELD = re.compile(r"\{[^{}]*:[^{}]*(\d{5}|\{)")


def bounded_text(parts: Iterable[str]) -> str:
    """The parts as one text. SecurityError if it would be too long."""
    found, total = [], 0
    for part in parts:
        total += len(part)
        need(total)
        found.append(part)
    return "".join(found)


def need(size: int) -> None:
    """May so much be made?"""
    if size > MAX_CHARACTERS:
        raise SecurityError(f"it makes more than {MAX_CHARACTERS} characters or elements")


def size_of(*values: Any) -> int:
    """Characters and elements in these values, however deep and however often. SecurityError above the bound."""
    left, total = list(values), 0
    while left:
        value = left.pop()
        total += ELEMENT + (len(value) if isinstance(value, str) else 0)
        if isinstance(value, dict):
            left += (*value.keys(), *value.values())
        elif isinstance(value, list | tuple):
            left += value
        need(total + ELEMENT * len(left))
    return total


def measured(value: Any) -> Any:
    """The value, if it may be written out."""
    if isinstance(value, list | tuple | dict):
        size_of(value)
    return value


def check_binop(operator: str, left: Any, right: Any) -> None:
    """May these sides be combined?"""
    match operator:
        case "*" | "**" if isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
            if bits > MAX_BITS:
                raise SecurityError(f"it makes a number of more than {MAX_BITS} bits")
        case "*":
            need(_length(left) * (right if isinstance(right, int) else 1))
            need(_length(right) * (left if isinstance(left, int) else 1))
        case "+":
            need(_length(left) + _length(right))
        case "%" if isinstance(left, str):
            _check_percent(left, right)
        case _:
            pass


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str | list | tuple) else 0


def _check_percent(form: str, values: Any) -> None:
    if _WIDE_PERCENT.search(form):
        raise SecurityError("a format with a wide field")
    need(len(form) + form.count("%") * size_of(values))


def check_arguments(subject: Any, args: Iterable[Any], named: Mapping[str, Any]) -> None:
    """May something be done with `subject`, as the others say? A number says how wide, or how often."""
    says = (*args, *named.values())
    size = size_of(subject, *says)
    for number in says:
        if isinstance(number, int):
            need(size * abs(number) // ROOM)


def check_format(form: str, args: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    """May `form.format` be called with these?"""
    if _WIDE_FIELD.search(form.replace("{{", "").replace("}}", "")):
        raise SecurityError("a format with a wide field")
    need(len(form) + form.count("{") * size_of(args, named))


def guarded_filters(filters: Mapping[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """Jinja's filters, with what they are given measured before, and without those that make much of little."""
    own = {"join": _filter_join, "replace": _filter_replace, "indent": _filter_indent, "format": _filter_format}
    return {name: _guarded(made) for name, made in {**filters, **own}.items() if name not in NO_FILTERS}


def _guarded(made: Callable[..., Any]) -> Callable[..., Any]:
    """A filter, with what it is given measured before."""
    passed = 1 if hasattr(made, "jinja_pass_arg") else 0  # Jinja's own

    @functools.wraps(made)
    def checked(*args: Any, **named: Any) -> Any:
        check_arguments(args[passed : passed + 1], args[passed + 1 :], named)
        return made(*args, **named)

    return checked


# -- filters and methods that make much of little ----------------------------------------------------------


def join(separator: str, texts: Iterable[Any]) -> str:
    """`str.join`."""
    return bounded_text(part for i, text in enumerate(texts) for part in ((separator, text) if i else (text,)))


def replace(text: str, old: str, new: str, count: int = -1) -> str:
    """`str.replace`."""
    found = text.count(old)
    need(len(text) + len(new) * (found if count < 0 else min(found, count)))
    return text.replace(old, new, count)


@jinja2.pass_environment
def _filter_join(environment: jinja2.Environment, value: Iterable[Any], d: str = "", attribute: Any = None) -> str:
    if attribute is not None:
        value = map(make_attrgetter(environment, attribute), value)
    return join(str(d), (str(measured(one)) for one in value))


def _filter_replace(s: Any, old: Any, new: Any, count: int | None = None) -> str:
    return replace(str(s), str(old), str(new), -1 if count is None else count)


def _filter_indent(s: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    need(len(s) * (len(width) if isinstance(width, str) else 1))
    return do_indent(s, width, first, blank)


def _filter_format(value: str, *args: Any, **named: Any) -> str:
    _check_percent(value, (args, named))
    return str(value) % (named or args)
