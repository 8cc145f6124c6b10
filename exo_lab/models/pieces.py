"""What each token is in bytes. With that, text can be put together token by token, and a character when it is whole.

The `tokenizers` library decodes whole lists of tokens only; the two decoders of the models that we run are so simple
that a token's bytes do not depend on its neighbours.
"""

from __future__ import annotations

import codecs
import functools
import json
import re
from typing import TYPE_CHECKING, Any

from exo_lab.core.errors import UnsupportedModel

if TYPE_CHECKING:
    import tokenizers

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Pieces:
    """The bytes of every token of one tokenizer.

    Args:
        core: of the `tokenizers` library.
        name: of the model, for messages.

    Raises:
        UnsupportedModel: the tokenizer decodes in another way than byte-level BPE or SentencePiece do.
    """

    def __init__(self, core: tokenizers.Tokenizer, name: str) -> None:
        self._core = core
        self._hidden = {token for token, added in core.get_added_tokens_decoder().items() if added.special}
        self._replaced: list[tuple[str, str]] = []
        self._fallback = False
        self.stripped = 0  # spaces that are dropped from the beginning of a text
        steps = _steps(core.decoder)
        kinds = [step["type"] for step in steps]
        self._byte_level = "ByteLevel" in kinds
        if not steps or (self._byte_level and set(kinds) - {"ByteLevel", "Fuse"}):
            raise _unknown(name, " and ".join(kinds) or "nothing")
        for step in steps:
            self._take(step, name)
        self._cache: dict[int, bytes] = {}

    def _take(self, step: dict[str, Any], name: str) -> None:
        match step:
            case {"type": "ByteLevel"} | {"type": "Fuse"}:
                pass
            case {"type": "ByteFallback"}:
                self._fallback = True
            case {"type": "Replace", "pattern": {"String": str(old)}, "content": str(new)}:
                self._replaced.append((old, new))
            case {"type": "Strip", "content": " ", "start": int(start), "stop": 0}:
                self.stripped = start
            case {"type": "Metaspace", "replacement": str(mark), "prepend_scheme": str(scheme)}:
                self._replaced.append((mark, " "))
                self.stripped = 0 if scheme == "never" else 1
            case _:
                raise _unknown(name, step["type"])

    def __getitem__(self, token_id: int) -> bytes:
        """The bytes of a token; none of a special one, or of an id that is no token."""
        found = self._cache.get(token_id)
        if found is None:
            found = self._cache[token_id] = b"" if token_id in self._hidden else self.shown(token_id)
        return found

    def shown(self, token_id: int) -> bytes:
        """The same, but with the name of a special token."""
        text = self._core.id_to_token(token_id) if token_id >= 0 else None
        if text is None:
            return b""
        if self._byte_level:
            alphabet = _alphabet()
            # As the library does it: a token that has a character outside the alphabet stands for itself.
            return bytes(alphabet[c] for c in text) if all(c in alphabet for c in text) else text.encode()
        byte = _BYTE.fullmatch(text) if self._fallback else None
        if byte is not None:
            return bytes([int(byte[1], 16)])
        for old, new in self._replaced:
            text = text.replace(old, new)
        return text.encode()


class PieceStream:
    """Puts one text together, token by token. See `tokenizer.TextStream`."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces, self._strip = pieces, pieces.stripped
        # Broken bytes become U+FFFD, the beginning of a character waits for its end.
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, token_id: int) -> str:
        """The text that this token completes; empty for a special token or half a character."""
        return self._trimmed(self._decoder.decode(self._pieces[token_id]))

    def flush(self) -> str:
        """What is left at the end: half a character, shown as U+FFFD."""
        return self._trimmed(self._decoder.decode(b"", final=True))

    def _trimmed(self, text: str) -> str:
        while self._strip and text:
            if not text.startswith(" "):
                self._strip = 0
                break
            text, self._strip = text[1:], self._strip - 1
        return text


def _unknown(name: str, how: str) -> UnsupportedModel:
    return UnsupportedModel(f"{name}: its tokenizer decodes with {how}; supported are byte-level and SentencePiece")


def _steps(decoder: Any) -> list[dict[str, Any]]:
    """A decoder's steps, in order, as the library writes them into tokenizer.json."""
    if decoder is None:
        return []
    step = json.loads(decoder.__getstate__())
    return step["decoders"] if step["type"] == "Sequence" else [step]


@functools.cache
def _alphabet() -> dict[str, int]:
    """Character -> byte of byte-level BPE (GPT-2): printable bytes are themselves, the rest follow from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}
