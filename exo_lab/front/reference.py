"""`docs/magics.md`, written from the table of verbs: `python -m exo_lab.front.reference > docs/magics.md`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from exo_lab.front.options import CELL_OPTIONS, JOINING, SAMPLING, VERBS, Option, Verb

if TYPE_CHECKING:
    from collections.abc import Sequence

HEAD = """\
# Verbs and options

<!-- Written by `python -m exo_lab.front.reference`; a test keeps it true. Do not edit. -->

`%load_ext exo_lab` gives a notebook the magics `%exo` and `%%exo`. `exo-lab` is the same in a shell. Every verb has
`--help`, and Tab completes verbs, options, nodes, models and strategies.

```text
%load_ext exo_lab
%exo connect
%exo up 3
%exo load

%%exo -o answer --temperature 0.7
Explain {topic} to a child.
```
"""

CELLS = """\
## `%%exo`: ask in a cell

The cell is the prompt; the answer streams into the cell, with tokens a second, the time to the first token, and the
plan that it runs on under it. Interrupt stops it on every node and keeps what had come; cells that were to follow do
not run.

- `{name}` in the prompt is replaced by the variable of that name; `{name.attribute}`, `{name[0]}` and `{name["key"]}`
  are looked up. Nothing is evaluated. `{{` and `}}` stand for the braces themselves; `--literal` leaves the prompt
  alone.
- `-o NAME` keeps the answer: its text, its tokens with their probabilities and times, and its figures. A kept answer
  can be used in the next prompt: `{answer}`.
- A model that was trained to chat is asked through its chat template. `--raw` completes the text as it is.
"""

VIEWS = """\
## Verbs

`%exo status`, `nodes`, `plan` and `models` return what they show: like any value, it is shown if it is the last line of
a cell, can be kept (`nodes = %exo nodes`) and silenced with `;`. Verbs that take a while show their progress. With the
extension loaded, `cluster.status()`, `cluster.plan()` and answers from Python show themselves in the same way.
"""

SHELL = """\
## In a shell

Answers and tables go to standard output, progress and figures to standard error. The exit status is 0, 1 after an
error, 2 for a wrong command line, 130 when interrupted. Commands that need the cluster join it for as long as they take
and hold no layers. Without options they find nodes of this user on this machine; these say where else to look:

"""

DEFAULTS = """\
## Defaults

`%config ExoMagics` lists what is meant where nothing is said; `%config ExoMagics.temperature = 0.7` changes it.

| setting | meaning |
| --- | --- |
"""


def markdown() -> str:
    """The page."""
    parts = [HEAD, CELLS, _table(CELL_OPTIONS), VIEWS, *(_verb(verb) for verb in VERBS), _shell(), _defaults()]
    return "\n".join(parts)


def _verb(verb: Verb) -> str:
    """One verb, its usage, where it is to be had, and its options."""
    names = [
        name
        for where, name in (("cell", f"%exo {verb.name}"), ("shell", f"exo-lab {verb.name}"))
        if where in verb.where
    ]
    positional = " ".join(_positional(option) for option in verb.options if not option.flags[0].startswith("-"))
    title = " · ".join(f"`{f'{name} {positional}'.strip()}`" for name in names)
    body = f"### {title}\n\n{verb.summary[0].upper()}{verb.summary[1:]}.\n"
    if verb.name == "ask":
        own = [option for option in verb.options if option not in SAMPLING]
        return f"{body}\n{_table(own)}\nAnd the options of `%%exo`, without `--literal`.\n"
    return f"{body}\n{_table(verb.options)}" if verb.options else body


def _positional(option: Option) -> str:
    name = option.settings["metavar"]
    match option.settings.get("nargs"):
        case "?":
            return f"[{name}]"
        case "*":
            return f"[{name} ...]"
        case "+":
            return f"{name} ..."
        case _:
            return name


def _table(options: Sequence[Option]) -> str:
    rows = [f"| {_flags(option)} | {_cell(option.settings['help'])} |" for option in options]
    return "\n".join(["| option | meaning |", "| --- | --- |", *rows, ""])


def _flags(option: Option) -> str:
    if not option.flags[0].startswith("-"):
        return f"`{option.settings['metavar']}`"
    value = option.settings.get("metavar") or "|".join(option.settings.get("choices", ()))
    return ", ".join(f"`{flag} {value}`" if option.takes_value else f"`{flag}`" for flag in option.flags).replace(
        "|", "\\|"
    )


def _cell(text: str) -> str:
    return (text[0].upper() + text[1:]).replace("|", "\\|")


def _shell() -> str:
    return SHELL + _table(JOINING)


def _defaults() -> str:
    from exo_lab.front.magics import ExoMagics

    traits = ExoMagics.class_own_traits(config=True)
    rows = [f"| `{name}` | {_cell(str(trait.help))} |" for name, trait in sorted(traits.items())]
    return DEFAULTS + "\n".join([*rows, ""])


if __name__ == "__main__":
    sys.stdout.write(markdown())
