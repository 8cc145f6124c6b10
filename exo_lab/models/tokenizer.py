"""Text to tokens and back, and the chat template. Built on the `tokenizers` library; knows no weights.

A chat template is a Jinja program that came with a model file, so it runs in Jinja's immutable sandbox.
"""

from __future__ import annotations

import datetime
import functools
import json
from typing import TYPE_CHECKING, Any, Protocol

from exo_lab.core.errors import ModelError, UnsupportedModel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import jinja2
    import tokenizers

REPLACEMENT = "\ufffd"  # what half a character decodes to
# Names of tokens that end an answer, by how common families call them.
ENDS = ("<|im_end|>", "<|eot_id|>", "<|endoftext|>", "<|end_of_text|>", "<|end|>", "</s>", "<end_of_turn>")
MAX_PENDING = 16  # tokens that may pile up without a complete character; more are broken bytes, shown as such


class TextStream(Protocol):
    """Turns one answer's tokens into text."""

    def add(self, token_id: int) -> str:
        """The text that this token completes; may be empty."""
        ...

    def flush(self) -> str:
        """What is left at the end."""
        ...


class Tokenizer:
    """A model's tokenizer.

    Args:
        core: of the `tokenizers` library.
        eos: ids that end an answer.
        bos: id that begins every text, None if the model wants none.
        template: Jinja source of the chat template, empty if there is none.
        special: texts of the special tokens that templates may use: "bos_token", "eos_token" ...
        name: of the model, for messages.
    """

    def __init__(
        self,
        core: tokenizers.Tokenizer,
        *,
        eos: Sequence[int],
        bos: int | None = None,
        template: str = "",
        special: Mapping[str, str] | None = None,
        name: str = "this model",
    ) -> None:
        self._core, self._bos, self._source, self._name = core, bos, template, name
        self._special = dict(special or {})
        self.eos = tuple(dict.fromkeys(eos))
        self._hidden = {token for token, added in core.get_added_tokens_decoder().items() if added.special}

    @property
    def vocab_size(self) -> int:
        """How many tokens there are."""
        return self._core.get_vocab_size()

    @property
    def has_template(self) -> bool:
        """Can it chat?"""
        return bool(self._source)

    def encode(self, text: str, *, bos: bool = True) -> list[int]:
        """Token ids of a text. Special tokens that are written out in it are recognised.

        Args:
            text: any text.
            bos: begin with the model's first token, if it has one; a chat template writes that itself.
        """
        ids = self._core.encode(text, add_special_tokens=False).ids
        return [self._bos, *ids] if bos and self._bos is not None else ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, special ones left out."""
        return self._core.decode(list(ids), skip_special_tokens=True)

    def token_text(self, token_id: int) -> str:
        """One token for people: its text, or its name if it is special or half a character."""
        text = self._core.decode([token_id], skip_special_tokens=False)
        return (self._core.id_to_token(token_id) or f"<{token_id}>") if not text or REPLACEMENT in text else text

    def stream(self) -> TextStream:
        """A fresh stream for one answer."""
        return _Stream(self)

    def chat(self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = True) -> str:
        """The text that the model was trained to see for a conversation.

        Args:
            messages: {"role": ..., "content": ...} each.
            add_generation_prompt: end with the beginning of the assistant's turn.

        Raises:
            ModelError: the model has no template, or the template does not take these messages.
        """
        if not self._source:
            raise ModelError(
                f"{self._name} has no chat template: it is a base model. Use --raw to complete plain text."
            )
        import jinja2

        try:
            return _compiled(self._source).render(
                messages=[dict(message) for message in messages],
                add_generation_prompt=add_generation_prompt,
                **self._special,
            )
        except (jinja2.TemplateError, TypeError) as exc:
            raise ModelError(f"the chat template of {self._name} does not take these messages: {exc}") from exc


class _Stream:
    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._shown: list[int] = []  # the last tokens whose text was given out: what follows may depend on them
        self._pending: list[int] = []

    def add(self, token_id: int) -> str:
        if token_id in self._tokenizer._hidden:
            return ""
        self._pending.append(token_id)
        text = self._new_text()
        if text.endswith(REPLACEMENT) and len(self._pending) < MAX_PENDING:
            return ""
        return self._give(text)

    def flush(self) -> str:
        return self._give(self._new_text()) if self._pending else ""

    def _new_text(self) -> str:
        """What the pending tokens add, decoded behind the last ones: some decoders drop a leading space."""
        before = self._tokenizer.decode(self._shown)
        return self._tokenizer.decode([*self._shown, *self._pending])[len(before) :]

    def _give(self, text: str) -> str:
        self._shown, self._pending = self._pending, []
        return text


@functools.lru_cache(maxsize=8)
def _compiled(source: str) -> jinja2.Template:
    """A template with what templates expect, as Transformers provides it."""
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    def tojson(value: Any, indent: int | None = None, **_: Any) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(
        form
    )  # local, as people read it
    try:
        return environment.from_string(source)
    except jinja2.TemplateError as exc:
        raise UnsupportedModel(f"the model's chat template cannot be read: {exc}") from exc
