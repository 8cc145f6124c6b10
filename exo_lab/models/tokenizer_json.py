"""A tokenizer out of a folder of the hub: `tokenizer.json`, with `tokenizer_config.json` beside it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from exo_lab.core.errors import CorruptModel, UnsupportedModel
from exo_lab.models.tokenizer import ENDS, Tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    import tokenizers


def tokenizer_from_folder(folder: Path, name: str) -> Tokenizer:
    """The tokenizer of a hub folder.

    Raises:
        UnsupportedModel: there is no tokenizer.json.
        CorruptModel: a file cannot be read.
    """
    from tokenizers import Tokenizer as Core

    path = folder / "tokenizer.json"
    if not path.exists():
        raise UnsupportedModel(f"{name}: {path} is missing; tokenizers of other forms are not read")
    try:
        core = Core.from_file(str(path))
    except Exception as exc:
        raise CorruptModel(f"{path} cannot be read: {exc}. Download it again.") from exc
    settings = _optional(folder / "tokenizer_config.json")
    generation = _optional(folder / "generation_config.json")
    special = {
        key: text for key in ("bos_token", "eos_token", "unk_token", "pad_token") if (text := _text(settings.get(key)))
    }
    ends: list[int] = []
    eos = generation.get("eos_token_id", _optional(folder / "config.json").get("eos_token_id"))
    ends += [one for one in (eos if isinstance(eos, list) else [eos]) if isinstance(one, int)]
    named = (special.get("eos_token"), *(end for end in ENDS if end in _specials(core)))
    ends += [found for end in named if end and (found := core.token_to_id(end)) is not None]
    template = _template(folder, settings)
    return Tokenizer(core, eos=ends, bos=_bos(core), template=template, special=special, name=name)


def _specials(core: tokenizers.Tokenizer) -> set[str]:
    return {token.content for token in core.get_added_tokens_decoder().values() if token.special}


def _bos(core: tokenizers.Tokenizer) -> int | None:
    """The token that begins every text, asked of the tokenizer itself."""
    begun, plain = core.encode("a").ids, core.encode("a", add_special_tokens=False).ids
    return begun[0] if len(begun) > len(plain) and begun[1 : 1 + len(plain)] == plain else None


def _template(folder: Path, settings: dict[str, Any]) -> str:
    apart = folder / "chat_template.jinja"
    if apart.exists():
        try:
            return apart.read_text(encoding="utf-8")
        except UnicodeDecodeError as exc:
            raise CorruptModel(f"{apart} is not UTF-8: {exc}. Download it again.") from exc
    found = settings.get("chat_template")
    if isinstance(found, list):  # several, by name
        found = next(
            (one.get("template") for one in found if isinstance(one, dict) and one.get("name") == "default"), ""
        )
    return found if isinstance(found, str) else ""


def _optional(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as exc:
        raise CorruptModel(f"{path} is not JSON: {exc}. Download it again.") from exc
    return data if isinstance(data, dict) else {}


def _text(token: object) -> str:
    """A special token's text: older files write a string, newer ones an object."""
    if isinstance(token, dict):
        token = token.get("content", "")
    return token if isinstance(token, str) else ""
