"""A model's chat template: a conversation becomes the text that the model was trained to see.

A template is a Jinja program that came with a model file, so it runs in Jinja's immutable sandbox, with the helpers
that Transformers gives templates. The sandbox keeps it from files and code; a hostile one can still waste time, and is
stopped with Interrupt.
"""

from __future__ import annotations

import datetime
import functools
import json
from typing import TYPE_CHECKING, Any

from exo_lab.core.errors import ModelError, UnsupportedModel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import jinja2


class ChatTemplate:
    """One model's template.

    Args:
        source: Jinja source.
        special: texts of the special tokens that templates may use: "bos_token", "eos_token" ...
        name: of the model, for messages.
        now: the time that a template may write into its text; local, as people read it.
    """

    def __init__(
        self,
        source: str,
        special: Mapping[str, str],
        name: str,
        now: Callable[[], datetime.datetime] = datetime.datetime.now,
    ) -> None:
        self._source, self._special, self._name, self._now = source, dict(special), name, now

    def render(self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = True) -> str:
        """The text of a conversation.

        Args:
            messages: {"role": ..., "content": ...} each.
            add_generation_prompt: end with the beginning of the assistant's turn.

        Raises:
            ModelError: the template does not take these messages.
            UnsupportedModel: it is no template.
        """
        template = self._compiled
        try:
            return template.render(
                messages=[dict(message) for message in messages],
                add_generation_prompt=add_generation_prompt,
                tools=None,  # templates ask whether there are any
                documents=None,
                **self._special,
            )
        except Exception as exc:  # a program of somebody else's: it can raise anything
            raise ModelError(f"the chat template of {self._name} does not take these messages: {exc}") from exc

    @functools.cached_property
    def _compiled(self) -> jinja2.Template:
        try:
            return _environment(self._now).from_string(self._source)
        except Exception as exc:
            raise UnsupportedModel(f"the chat template of {self._name} cannot be read: {exc}") from exc


def _environment(now: Callable[[], datetime.datetime]) -> jinja2.Environment:
    """With what templates expect, as Transformers provides it (`utils/chat_template_utils.py`)."""
    import jinja2
    from jinja2 import nodes
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.utils import Namespace

    class Generation(Extension):
        """`{% generation %}` marks what the assistant said, for training; the text is the same without the mark."""

        tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

        def parse(self, parser: Any) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    class PlainNamespace(Namespace):
        """Without names like `__class__`, by which a template could pass off a value as another type."""

        def __setitem__(self, name: str, value: Any) -> None:
            if name.startswith("_"):
                raise jinja2.exceptions.SecurityError(f"a template may not set {name!r}")
            super().__setitem__(name, value)

    def namespace(*args: Any, **values: Any) -> PlainNamespace:
        made = PlainNamespace()
        for name, value in dict(*args, **values).items():
            made[name] = value
        return made

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    def tojson(
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: now().strftime(form)
    environment.globals["namespace"] = namespace
    environment.globals["dict"] = lambda *args, **values: dict(*args, **values)
    return environment
