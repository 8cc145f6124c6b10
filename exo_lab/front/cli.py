"""`exo-lab`: the cluster from a shell. The same verbs as in cells, printed as text.

Answers and views go to standard output, progress and figures to standard error, so that a pipe gets what it wants.
Exit status: 0, 1 for an error (one line on standard error), 2 for a wrong command line, 130 when interrupted.
"""

from __future__ import annotations

import io
import os
import re
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from exo_lab.core.errors import ExoError
from exo_lab.front import verbs
from exo_lab.front.arguments import HelpWanted, UsageProblem, parser, peers
from exo_lab.front.desk import Defaults, Desk, with_names
from exo_lab.front.options import LOOKING, ON_PAPER
from exo_lab.front.options import verbs as shell_verbs
from exo_lab.front.screen import TerminalScreen, print_view
from exo_lab.front.text import clean

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from exo_lab.cluster import Cluster

OK, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None, backend: Any = None) -> int:
    """Run one command; the process's exit status.

    Args:
        argv: arguments without the program's name; the process's own if None.
        backend: `exo_lab.cluster`, imported when it is needed, if None.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows no "●" must not end us
    try:
        return _run(sys.argv[1:] if argv is None else argv, backend)
    except HelpWanted as wanted:
        _print(str(wanted))
        return OK
    except UsageProblem as exc:
        sys.stderr.write(f"{in_shell_words(clean(str(exc), 2000))}\n")
        return MISUSED
    except ExoError as exc:
        return _complain("; ".join([f"{type(exc).__name__}: {exc}", *getattr(exc, "__notes__", ())]), FAILED)
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # Whoever read us is gone. Python would complain once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _run(argv: Sequence[str], backend: Any) -> int:
    made = parser("shell")
    args = made.parse_args(argv)
    if args.verb_name is None:
        raise HelpWanted(made.format_help().rstrip())
    match args.verb_name:
        case "demo":
            from exo_lab.front.demo import run

            return run()
        case "node":
            _node(backend or import_module("exo_lab.cluster"), args)
        case "doctor":
            return _doctor(backend or import_module("exo_lab.cluster"), args)
        case name if name in LOOKING and not (name in ON_PAPER and (args.devices or args.preset)):
            _visit(backend or import_module("exo_lab.cluster"), args)
        case name:
            _show(_desk(backend or import_module("exo_lab.cluster")), args, name)
    return OK


def _node(backend: Any, args: Namespace) -> None:
    from exo_lab.front.cli_node import join_hint, run_node

    cluster = backend.connect(**verbs.connect_options(args))
    run_node(cluster, _print, join_hint(cluster))


def _doctor(backend: Any, args: Namespace) -> int:
    """A look at the cluster as a member that others can find, if it is asked to be one. Status 1 if a step fails."""
    from exo_lab.front.doctor_view import DoctorView

    with _visiting(backend, args) as cluster:
        view = DoctorView(cluster.doctor())
    _print(view.text())
    return FAILED if any(one.verdict == "fail" for one in view.findings) else OK


def _visiting(backend: Any, args: Namespace, *, wants_model: bool = False) -> AbstractContextManager[Cluster]:
    """A member for the length of a command, that looks for others where the user said."""
    from exo_lab.front.cli_node import visiting

    where = {"lan": args.lan, "peers": peers(args.peers), "discovery": args.discovery}
    return visiting(backend, args.wait, wants_model=wants_model, **where)


def _visit(backend: Any, args: Namespace) -> None:
    """A command that needs the cluster: be a member for as long as it takes."""
    from exo_lab.front.cli_node import serve_metrics

    name = args.verb_name
    with _visiting(backend, args, wants_model=name not in ("plan", "load", *ON_PAPER)) as cluster:
        desk = _desk(backend)
        try:
            if name == "ask":
                verbs.answer(desk, args, _prompt(args))
                return
            if name == "topology":
                args.what = "show"
            if name == "export":
                serve_metrics(cluster, args.prometheus, _print)
                return
            _show(desk, args, name)
        except ExoError as exc:
            with_names(exc, cluster)
            raise


def _prompt(args: Namespace) -> str:
    return sys.stdin.read() if args.prompt == ["-"] else " ".join(args.prompt)


def _show(desk: Desk, args: Namespace, name: str) -> None:
    view = verbs.HANDLERS[name](desk, args)
    if view is None:
        return
    if sys.stdout.isatty() and view.renderable() is not None:
        print_view(view, sys.stdout)
    else:
        _print(view.text())


def _desk(backend: Any) -> Desk:
    from exo_lab.core.sampling import SamplingParams

    plain = SamplingParams()
    defaults = Defaults(
        model=backend.DEFAULT_MODEL,
        strategy=backend.DEFAULT_STRATEGY,
        max_tokens=plain.max_tokens,
        temperature=plain.temperature,
        timeout_s=verbs.TIMEOUT_S,
    )
    return Desk(backend, defaults, TerminalScreen)


def _print(text: str) -> None:
    sys.stdout.write(in_shell_words(text) + "\n")
    sys.stdout.flush()


def _complain(text: str, status: int) -> int:
    sys.stderr.write(f"exo-lab: {in_shell_words(clean(text, 2000))}\n")
    return status


def in_shell_words(text: str) -> str:
    """Hints are written for cells: `%exo load` is `exo-lab load` here. What only cells have keeps its name."""
    return _HINT.sub(r"exo-lab \1", text)


_HINT = re.compile(rf"%exo ({'|'.join(verb.name for verb in shell_verbs('shell'))})\b")


if __name__ == "__main__":
    sys.exit(main())
