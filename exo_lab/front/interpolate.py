"""`{name}` in a prompt: names, attributes and items of the user's variables, looked up and never evaluated.

`{name}`, `{name.attribute}`, `{name[0]}`, `{name["key"]}` and any chain of these. `{{` and `}}` stand for the braces
themselves. Everything else in braces is a mistake that is named, so that no prompt is sent with a hole in it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from exo_lab.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_NAME = re.compile(r"[^\W\d]\w*")
_STEP = re.compile(
    r"""\.(?P<attribute>[^\W\d]\w*)|\[(?:(?P<index>-?\d{1,18})|(?P<quote>['"])(?P<key>.*?)(?P=quote))\]"""
)
ESCAPE = "Write {{ and }} for braces that belong to the prompt, or give --literal."


def interpolate(text: str, names: Mapping[str, Any]) -> str:
    """The text with every field replaced.

    Raises:
        ConfigError: a name that does not exist, a lookup that fails, or braces that are no field.
    """

    def replace(match: re.Match[str]) -> str:
        piece = match[0]
        if piece in ("{{", "}}"):
            return piece[0]
        if match[1] is None:
            raise ConfigError(f"a single {piece} in the prompt ({_near(text, match.start())}). {ESCAPE}")
        return as_text(lookup(match[1].strip(), names))

    return _PIECE.sub(replace, text)


def lookup(field: str, names: Mapping[str, Any]) -> Any:
    """The value that a field such as `answer.stats.tokens` or `rows[0]["text"]` names.

    Raises:
        ConfigError: it names nothing, or is more than names, attributes and items.
    """
    start = _NAME.match(field)
    if start is None:
        raise ConfigError(f"{{{field}}} in the prompt is not a variable. {ESCAPE}")
    name, at = start[0], start.end()
    steps: list[re.Match[str]] = []
    while at < len(field):
        step = _STEP.match(field, at)
        if step is None:
            raise ConfigError(
                f"{{{field}}} in the prompt: only names, .attributes and [items] are looked up, nothing is "
                f"evaluated. Compute it in a cell and use its name. {ESCAPE}"
            )
        steps.append(step)
        at = step.end()
    if name not in names:
        raise ConfigError(f"{{{field}}} in the prompt: there is no variable {name!r}. {ESCAPE}")
    value = names[name]
    for step in steps:
        value = _take(value, step, field)
    return value


def as_text(value: Any) -> str:
    """How a value is put into a prompt. An earlier answer stands for its text."""
    from exo_lab.generation import Generation

    return value.text if isinstance(value, Generation) else str(value)


def _take(value: Any, step: re.Match[str], field: str) -> Any:
    attribute = step["attribute"]
    if attribute is not None and attribute.startswith("_"):
        raise ConfigError(f"{{{field}}} in the prompt: attributes that begin with _ are not looked up")
    try:
        if attribute is not None:
            return getattr(value, attribute)
        return value[int(step["index"]) if step["index"] is not None else step["key"]]
    except Exception as exc:
        # Whatever the user's object raises: it is their lookup that failed, and they should read which.
        raise ConfigError(f"{{{field}}} in the prompt: {step[0]} failed: {type(exc).__name__}: {exc}") from exc


def _near(text: str, at: int) -> str:
    line = text.count("\n", 0, at) + 1
    return f"line {line}, near {text[max(0, at - 12) : at + 12]!r}"
