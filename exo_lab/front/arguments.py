"""Parsers for `%exo`, `%%exo` and `exo-lab`, built from the table in `options`. They print nothing and end nothing."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING, Any, NoReturn

from exo_lab import __version__
from exo_lab.core.errors import ConfigError
from exo_lab.front.options import CELL_OPTIONS, Option, Where, names_list, verbs

if TYPE_CHECKING:
    from collections.abc import Sequence


class UsageProblem(ConfigError):
    """What was typed cannot be understood; the text says what would be."""


class HelpWanted(Exception):
    """`--help` was given; the argument is the help text."""


class Parser(argparse.ArgumentParser):
    """A parser that prints nothing and never ends the process."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, add_help=False, allow_abbrev=False, **settings)
        self.add_argument("-h", "--help", action=_Help, nargs=0, help="show this")

    def error(self, message: str) -> NoReturn:
        """Called by argparse for every mistake.

        Raises:
            UsageProblem: always.
        """
        raise UsageProblem(f"{self.prog}: {message}. See {self.prog} --help")


class _Help(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        raise HelpWanted(parser.format_help().rstrip())


class _Version(argparse.Action):
    def __call__(self, *_: Any) -> NoReturn:
        raise HelpWanted(f"exo-lab {__version__}")


# -- parsers -----------------------------------------------------------------------------------------------


def parser(where: Where) -> Parser:
    """The parser of `%exo` ("cell") or `exo-lab` ("shell"). `verb_name` says which verb was given; None: none."""
    prog = "%exo" if where == "cell" else "exo-lab"
    made = Parser(prog=prog, description="A cluster of the devices that you have, running one model.")
    if where == "shell":
        made.add_argument("--version", action=_Version, nargs=0, help="show the version")
    commands = made.add_subparsers(dest="verb_name", metavar="VERB", parser_class=Parser)
    for verb in verbs(where):
        sub = commands.add_parser(verb.name, help=verb.summary, description=_sentence(verb.summary))
        _add(sub, verb.options)
    return made


def cell_parser() -> Parser:
    """The parser of `%%exo`'s first line."""
    made = Parser(prog="%%exo", description="Send the cell to the loaded model; the answer streams into the cell.")
    _add(made, CELL_OPTIONS)
    return made


def split(line: str) -> list[str]:
    """A line as a shell splits it. A semicolon at its end, which silences a cell, is not part of it.

    Raises:
        UsageProblem: a quotation mark without its partner.
    """
    try:
        return shlex.split(line.strip().removesuffix(";"))
    except ValueError as exc:
        raise UsageProblem(f"{exc} in: {line.strip()}") from exc


def sampling(args: argparse.Namespace) -> dict[str, Any]:
    """Keyword arguments of `Cluster.generate` that were given; what was not is left out."""
    fields = (
        "max_tokens",
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "repetition_penalty",
        "seed",
        "speculate",
        "prefix_cache",
        "logprobs",
    )
    given: dict[str, Any] = {name: getattr(args, name) for name in fields if getattr(args, name) is not None}
    if args.stop:
        given["stop"] = tuple(args.stop)
    return given


def peers(text: str | None) -> str | tuple[str, ...] | None:
    """What `--peers` names: a file, or endpoints if it looks like some."""
    return names_list(text) if text is not None and "://" in text else text


def _add(made: argparse.ArgumentParser, options: Sequence[Option]) -> None:
    for one in options:
        made.add_argument(*one.flags, **one.settings)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
