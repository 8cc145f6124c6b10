"""A model's chat template: a conversation becomes the text that the model was trained to see.

A template is a Jinja program that came with a model file, so it runs in a sandbox (`template_sandbox`) that keeps it
from files and code, with a limit for memory and time.
"""

from __future__ import annotations

import datetime
import functools
import itertools
import re
from typing import TYPE_CHECKING

from exo_lab.core.errors import ModelError, UnsupportedModel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import jinja2


DEADLINE_S = 10.0
_MARK = "\ue000"  # of Unicode's private use: no template has it


class ChatTemplate:
    """One model's template.

    Args:
        source: Jinja source.
        special: texts of the special tokens that templates may use: "bos_token", "eos_token" ...
        name: of the model, for messages.
        now: the time that a template may write into its text; local, as people read it.
        deadline_s: a template that takes longer is stopped.
    """

    def __init__(
        self,
        source: str,
        special: Mapping[str, str],
        name: str,
        now: Callable[[], datetime.datetime] = datetime.datetime.now,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._source, self._special, self._name, self._now = source, dict(special), name, now
        self._deadline_s = deadline_s

    def render(self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = True) -> str:
        """The text of a conversation.

        Args:
            messages: {"role": ..., "content": ...} each.
            add_generation_prompt: end with the beginning of the assistant's turn.

        Raises:
            ModelError: the template does not take these messages.
            UnsupportedModel: it is no template.
        """
        from exo_lab.models import template_bounds, template_sandbox

        template = self._compiled
        try:
            with template_sandbox.limited(self._deadline_s):
                return template_bounds.bounded_text(
                    template.generate(
                        messages=[dict(message) for message in messages],
                        add_generation_prompt=add_generation_prompt,
                        tools=None,  # templates ask whether there are any
                        documents=None,
                        **self._special,
                    )
                )
        except Exception as exc:  # a program of somebody else's: it can raise anything
            raise ModelError(f"the chat template of {self._name} does not take these messages: {exc}") from exc

    def contents_in(
        self, text: str, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = True
    ) -> list[tuple[int, int]] | None:
        """Where the messages' contents are in the text that `render` made of them: [start, end), in order.

        None if the template does not leave them as they are, but for white space around them.
        """
        marked = [{**message, "content": f"{_MARK}{i}{_MARK}"} for i, message in enumerate(messages)]
        try:
            rendered = self.render(marked, add_generation_prompt=add_generation_prompt)
        except ModelError:
            return None
        parts = re.split(f"{_MARK}([0-9]+){_MARK}", rendered)  # of the template, and between them numbers of messages
        for cleaned in (str, str.strip):
            contents = [cleaned(message["content"]) for message in messages]
            pieces = [contents[int(part)] if i % 2 else part for i, part in enumerate(parts)]
            if "".join(pieces) == text:
                ends = list(itertools.accumulate(map(len, pieces)))
                return list(zip(ends[:-1:2], ends[1::2], strict=True))
        return None

    @functools.cached_property
    def _compiled(self) -> jinja2.Template:
        from exo_lab.models import template_sandbox

        try:
            return template_sandbox.Sandbox(self._now).from_string(self._source)
        except Exception as exc:
            raise UnsupportedModel(f"the chat template of {self._name} cannot be read: {exc}") from exc
