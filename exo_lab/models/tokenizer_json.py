"""A tokenizer out of a folder of the hub: `tokenizer.json`, with `tokenizer_config.json` beside it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from exo_lab.core.errors import CorruptModel, UnsupportedModel
from exo_lab.models.tokenizer import ENDS, Tokenizer

if TYPE_CHECKING:
    from pathlib import Path


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
    ends += [found for end in (special.get("eos_token"), *ENDS) if end and (found := core.token_to_id(end)) is not None]
    # Whether a text begins with a special token is best asked of the tokenizer itself.
    begun = core.encode("a").ids
    plain = core.encode("a", add_special_tokens=False).ids
    bos = begun[0] if len(begun) > len(plain) else None
    template = settings.get("chat_template", "")
    if isinstance(template, list):
        named = {one.get("name"): one.get("template", "") for one in template if isinstance(one, dict)}
        template = named.get("default", "")
    apart = folder / "chat_template.jinja"
    if apart.exists():
        template = apart.read_text(encoding="utf-8")
    return Tokenizer(core, eos=ends, bos=bos, template=template or "", special=special, name=name)


def _optional(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as exc:
        raise CorruptModel(f"{path} is not JSON: {exc}") from exc
    return data if isinstance(data, dict) else {}


def _text(token: object) -> str:
    """A special token's text: older files write a string, newer ones an object."""
    if isinstance(token, dict):
        token = token.get("content", "")
    return token if isinstance(token, str) else ""
