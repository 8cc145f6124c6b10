"""Where a chat template runs: Jinja's immutable sandbox, with bounds and the helpers that Transformers gives templates.

A template is a program that came with a model file. Texts and lists that it makes are measured before they are made,
and the time is looked at in every loop and call. What is left to a hostile one is to waste the seconds that it has.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from exo_lab.models import template_bounds as bounds

if TYPE_CHECKING:
    import datetime
    from collections.abc import Callable, Iterator

NO_METHODS = ("translate", "expandtabs", "format_map")  # of texts: make much of little
JINJAS_OWN = ("_loop_vars", "_block_vars")  # named arguments that Jinja adds to calls
_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)


@contextlib.contextmanager
def limited(deadline_s: float) -> Iterator[None]:
    """Templates that are rendered within this have so many seconds."""
    token = _deadline.set(time.monotonic() + deadline_s)
    try:
        yield
    finally:
        _deadline.reset(token)


class Sandbox(ImmutableSandboxedEnvironment):
    """See the module. Whatever goes past a bound raises Jinja's `SecurityError`."""

    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def __init__(self, now: Callable[[], datetime.datetime]) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_Generation, "jinja2.ext.loopcontrols"],
            finalize=bounds.measured,
        )
        self.concat = bounds.bounded_text
        self.filters = bounds.guarded_filters({**self.filters, "tojson": _tojson})
        del self.globals["lipsum"]
        self.globals["raise_exception"] = _raise
        self.globals["strftime_now"] = lambda form: now().strftime(form)
        self.globals["namespace"] = _namespace
        self.globals["dict"] = lambda *args, **values: dict(*args, **values)

    def tick(self) -> None:
        """Is there time left?"""
        if time.monotonic() > _deadline.get():
            raise SecurityError("it takes too long")

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Call what a template calls."""
        self.tick()
        owner = getattr(getattr(obj, "__wrapped__", obj), "__self__", None)
        if owner is None:
            return super().call(context, obj, *args, **kwargs)
        named = {name: value for name, value in kwargs.items() if name not in JINJAS_OWN}
        bounds.check_arguments(owner, args, named)
        match (owner, obj.__name__):
            case (str(), "join"):
                return bounds.join(owner, *args)
            case (str(), "replace"):
                return bounds.replace(owner, *args, **named)
            case (str(), "format"):
                bounds.check_format(owner, args, named)
            case _:
                pass
        return super().call(context, obj, *args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Compute what may become large, if it does not."""
        self.tick()
        bounds.check_binop(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """May a template see that?"""
        return not (isinstance(obj, str) and attr in NO_METHODS) and super().is_safe_attribute(obj, attr, value)

    def joined(self, *parts: Any) -> str:
        """What `~` makes of its sides."""
        return bounds.bounded_text(str(bounds.measured(part)) for part in parts)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = _Guards().visit(super()._parse(source, name, filename))
        return tree.set_environment(self)


class _Guards(NodeTransformer):
    """Every round of a loop looks at the time, and `~` goes through `Sandbox.joined`."""

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802 - as Jinja calls it
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_call("tick", [])).set_lineno(node.lineno))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Call:  # noqa: N802 - as Jinja calls it
        self.generic_visit(node)
        made = _call("joined", node.nodes)
        made.set_lineno(node.lineno)
        return made


def _call(method: str, args: list[nodes.Expr]) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(method), args, [], None, None)


class _Generation(Extension):
    """`{% generation %}` marks what the assistant said, for training; the text is the same without the mark."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

    def parse(self, parser: Any) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class _PlainNamespace(Namespace):
    """Without names like `__class__`, by which a template could pass off a value as another type."""

    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise SecurityError(f"a template may not set {name!r}")
        super().__setitem__(name, value)


def _namespace(*args: Any, **values: Any) -> _PlainNamespace:
    made = _PlainNamespace()
    for name, value in dict(*args, **values).items():
        made[name] = value
    return made


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
