"""Text to tokens and back, and the chat template. Built on the `tokenizers` library; knows no weights and no files."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Protocol

from exo_lab.core.errors import ModelError
from exo_lab.models.chat_template import ChatTemplate
from exo_lab.models.pieces import Pieces, PieceStream

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import tokenizers

# Names of tokens that end an answer, by how common families call them.
ENDS = (
    "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|endoftext|>", "<|end_of_text|>", "<|end|>", "</s>", "<end_of_turn>",
)  # fmt: skip


class TextStream(Protocol):
    """Turns one answer's tokens into text. The pieces, put together, are what `Tokenizer.decode` gives."""

    def add(self, token_id: int) -> str:
        """The text that this token completes; empty for a special token or half a character."""
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

    Raises:
        UnsupportedModel: the tokenizer decodes in a way that we do not know.
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
        core.no_truncation()  # a file may ask for either; a prompt is never cut off or filled up in silence
        core.no_padding()
        self._core, self._bos, self._name = core, bos, name
        self._pieces = Pieces(core, name)
        self._template = ChatTemplate(template, special or {}, name) if template else None
        self.eos = tuple(dict.fromkeys(eos))

    @property
    def vocab_size(self) -> int:
        """How many tokens there are."""
        return self._core.get_vocab_size()

    @functools.cached_property
    def vocabulary(self) -> dict[str, int]:
        """Every token by its text as the file has it: two tokenizers with the same one can be taken for each other."""
        return self._core.get_vocab(with_added_tokens=True)

    @property
    def has_template(self) -> bool:
        """Can it chat?"""
        return self._template is not None

    def encode(self, text: str, *, special: bool = True, bos: bool = True) -> list[int]:
        """Token ids of a text.

        Args:
            text: any text.
            special: special tokens that are written out in the text are those tokens; else they are mere text.
            bos: begin with the model's first token, if it has one; a chat template writes that itself.
        """
        core = self._core if special else self._literal
        ids = core.encode(text, add_special_tokens=False).ids
        return [self._bos, *ids] if bos and self._bos is not None else ids

    @functools.cached_property
    def _literal(self) -> tokenizers.Tokenizer:
        """A copy of its own: which way to read is a switch on the library's object, and threads share that."""
        copy = type(self._core).from_str(self._core.to_str())
        copy.encode_special_tokens = True
        return copy

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, special ones left out. Bytes that are no character become U+FFFD."""
        stream = self.stream()
        return "".join([stream.add(token_id) for token_id in ids]) + stream.flush()

    def token_text(self, token_id: int) -> str:
        """One token for people: its text, or its name if it is special or half a character."""
        try:
            text = self._pieces.shown(token_id).decode("utf-8")
        except UnicodeDecodeError:
            text = ""
        return text or self._core.id_to_token(token_id) or f"<{token_id}>"

    def stream(self) -> TextStream:
        """A fresh stream for one answer."""
        return PieceStream(self._pieces)

    def conversation(
        self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = True
    ) -> tuple[str, list[int]]:
        """A conversation as the model was trained to see it: its text, and its tokens.

        What messages say is text: special tokens that are written out in it begin and end no turns, as they would in
        the text's own `encode`. Arguments and errors as `chat`.
        """
        text = self.chat(messages, add_generation_prompt=add_generation_prompt)
        if not self._mention_special(messages):
            return text, self.encode(text, bos=False)  # the template writes the first token itself
        broken = [self._broken(message) for message in messages]
        # A template compares roles with those that it knows, so that they are not looked for in its text.
        named = [
            {**other, "content": message.get("content", "")} for message, other in zip(messages, broken, strict=True)
        ]
        text = self.chat(named, add_generation_prompt=add_generation_prompt)
        contents = self._chat_template.contents_in(text, named, add_generation_prompt=add_generation_prompt)
        if contents is None:
            text = self.chat(broken, add_generation_prompt=add_generation_prompt)
            return text, self.encode(text, bos=False)
        return text, self._with_literal(text, contents)

    def _with_literal(self, text: str, contents: Sequence[tuple[int, int]]) -> list[int]:
        """The tokens of a text; a special token that does not lie wholly outside its contents becomes mere text."""
        found = self._core.encode(text, add_special_tokens=False)
        ids: list[int] = []
        for token_id, (start, end) in zip(found.ids, found.offsets, strict=True):
            written = text[start:end].strip()  # a special token may take white space around it along
            start += text[start:end].find(written)
            meant = (start, start + len(written))
            said = token_id in self._special and any(a < meant[1] and meant[0] < b for a, b in contents)
            ids += self.encode(written, special=False, bos=False) if said else [token_id]
        return ids

    @functools.cached_property
    def _special(self) -> dict[int, str]:
        return {
            number: token.content for number, token in self._core.get_added_tokens_decoder().items() if token.special
        }

    def _mention_special(self, messages: Sequence[Mapping[str, str]]) -> bool:
        """Does a message, or do contents put together, have the text of a special token in it?"""
        texts = [value for message in messages for value in message.values()]
        texts.append("".join(message.get("content", "") for message in messages))
        return any(special in text for special in self._special.values() for text in texts)

    def _broken(self, message: Mapping[str, str]) -> dict[str, str]:
        """The message with no special token in it: there is a character without width in those that there were."""
        broken = dict(message)
        for special in sorted(self._special.values(), key=len, reverse=True):
            for key, value in broken.items():
                broken[key] = value.replace(special, f"{special[:1]}\u200b{special[1:]}")
        return broken

    def chat(self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = True) -> str:
        """The text that the model was trained to see for a conversation.

        Args:
            messages: {"role": ..., "content": ...} each.
            add_generation_prompt: end with the beginning of the assistant's turn.

        Raises:
            ModelError: the model has no template, or the template does not take these messages.
        """
        return self._chat_template.render(messages, add_generation_prompt=add_generation_prompt)

    @property
    def _chat_template(self) -> ChatTemplate:
        if self._template is None:
            raise ModelError(
                f"{self._name} has no chat template: it is a base model. Use --raw to complete plain text."
            )
        return self._template
