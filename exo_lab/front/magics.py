"""`%exo` and `%%exo`: cells in, views out.

Parses, hands over to `verbs`, and turns errors into something short. Synchronous on purpose: an awaited magic could not
be interrupted. Importing this brings in neither the cluster nor any engine; that happens when a verb needs them.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand
from traitlets import Bool, Enum, Float, Int, Unicode, default

from exo_lab.core.errors import ConfigError, ExoError
from exo_lab.front import verbs
from exo_lab.front.arguments import HelpWanted, UsageProblem, cell_parser, parser, split
from exo_lab.front.desk import Defaults, Desk, with_names
from exo_lab.front.interpolate import interpolate
from exo_lab.front.message_view import HelpView
from exo_lab.front.quiet import quietly
from exo_lab.front.screen import CellScreen, TerminalScreen

if TYPE_CHECKING:
    from argparse import Namespace

    from IPython.core.interactiveshell import InteractiveShell

    from exo_lab.front.screen import Screen
    from exo_lab.front.view import View
    from exo_lab.generation import Generation


@magics_class
class ExoMagics(Magics):
    """A cluster in cells. `%exo help` lists what there is; the defaults below can be set with `%config`."""

    model = Unicode(help="The model that %exo load and %exo plan take if none is named.").tag(config=True)
    strategy = Unicode(help="How layers are shared out if no strategy is named.").tag(config=True)
    max_tokens = Int(256, min=1, help="Longest answer, in tokens.").tag(config=True)
    temperature = Float(0.0, min=0.0, help="0 always takes the most likely token.").tag(config=True)
    timeout_s = Float(verbs.TIMEOUT_S, min=0.0, help="Longest wait for one token, in seconds.").tag(config=True)
    display = Enum(
        ["auto", "notebook", "terminal"],
        "auto",
        help="notebook: outputs that are updated in place; terminal: text. auto: whichever this is.",
    ).tag(config=True)
    tracebacks = Bool(False, help="Show where in exo_lab an error was raised.").tag(config=True)

    @default("model")
    def _default_model(self) -> str:
        from exo_lab.models.locate import DEFAULT_MODEL

        return DEFAULT_MODEL

    @default("strategy")
    def _default_strategy(self) -> str:
        return import_module("exo_lab.cluster").DEFAULT_STRATEGY

    def __init__(self, shell: InteractiveShell, backend: Any = None, **settings: Any) -> None:
        super().__init__(shell, **settings)
        self._backend = backend
        self._last: Generation | None = None

    # Without IPython's `output_can_be_silenced`: it reads the prompt as Python and fails on one that holds a "(".
    @no_var_expand
    @line_cell_magic
    def exo(self, line: str, cell: str | None = None) -> View | None:
        """A cluster of the devices that you have, running one model. `%exo help` and `%%exo --help` say more."""
        try:
            view = self._line(line) if cell is None else self._cell(line, cell)
            return None if line.rstrip().endswith(";") else view
        except HelpWanted as wanted:
            return HelpView(str(wanted))
        except UsageProblem as exc:
            raise UsageError(str(exc)) from exc
        except ExoError as exc:
            with_names(exc, self.present())
            raise (exc if self.tracebacks else quietly(exc))  # noqa: B904 - the same error
        except KeyboardInterrupt as exc:
            # Passed on: the cell must count as failed, so that "Run All" does not go on behind the user's back.
            raise quietly(exc, "interrupted")  # noqa: B904

    def _line(self, line: str) -> View | None:
        args = parser("cell").parse_args(split(line))
        if args.verb_name in (None, "help"):
            raise HelpWanted(self._help(getattr(args, "verb", None)))
        if args.verb_name == "ask":
            self._answer(args, " ".join(args.prompt))
            return None
        return verbs.HANDLERS[args.verb_name](self.desk(), args)

    def _cell(self, line: str, cell: str) -> None:
        args = cell_parser().parse_args(split(line))
        prompt = cell.removesuffix("\n")
        if not args.literal:
            try:
                prompt = interpolate(prompt, self._shell().user_ns)
            except ConfigError as exc:
                raise UsageProblem(str(exc)) from exc
        self._answer(args, prompt)

    def _answer(self, args: Namespace, prompt: str) -> None:
        name = args.out
        if name is not None and not name.isidentifier():
            raise UsageProblem(f"-o takes the name of a variable, not {name!r}")

        def keep(generation: Generation) -> None:
            self._last = generation
            if name is not None:
                self._shell().push({name: generation})

        verbs.answer(self.desk(), args, prompt, keep)

    @staticmethod
    def _help(verb: str | None) -> str:
        made = parser("cell")
        if verb is None:
            return made.format_help().rstrip() + "\n\n" + cell_parser().format_help().rstrip()
        made.parse_args([verb, "--help"])  # raises HelpWanted, or says that there is no such verb
        raise AssertionError("--help ends parsing")

    # -- what the verbs need --------------------------------------------------------------------------------

    def desk(self) -> Desk:
        """Where a verb finds the cluster, the defaults and a place to draw."""
        defaults = Defaults(
            model=self.model,
            strategy=self.strategy,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            timeout_s=self.timeout_s,
        )
        return Desk(self.backend, defaults, self._screen, self._kept)

    def _kept(self, name: str | None) -> Any:
        """The answer in a variable, or the last one that was asked for here; None if there is none."""
        return self._last if name is None else self._shell().user_ns.get(name)

    @property
    def backend(self) -> Any:
        """`exo_lab.cluster`, imported when it is first needed."""
        if self._backend is None:
            self._backend = import_module("exo_lab.cluster")
        return self._backend

    def present(self) -> Any:
        """This process's cluster or None. Imports nothing to find out."""
        backend = self._backend or sys.modules.get("exo_lab.cluster")
        return backend.current() if backend is not None else None

    def _screen(self) -> Screen:
        shell = self._shell()
        notebook = self.display == "notebook" or (self.display == "auto" and hasattr(shell, "kernel"))
        return CellScreen(shell.display_pub.publish) if notebook else TerminalScreen()

    def _shell(self) -> Any:
        if self.shell is None:
            raise AssertionError("magics are made with a shell")
        return self.shell


# -- the extension ---------------------------------------------------------------------------------------------


def load(shell: Any) -> None:
    """`%load_ext exo_lab`. Idempotent."""
    from exo_lab.front import extension

    extension.load(shell, ExoMagics)


def unload(shell: Any) -> None:
    """`%unload_ext exo_lab`."""
    from exo_lab.front import extension

    extension.unload(shell, ExoMagics)
