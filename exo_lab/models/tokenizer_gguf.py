"""A tokenizer out of a GGUF file's metadata: byte-level BPE ("gpt2") and SentencePiece ("llama")."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from exo_lab.core.errors import CorruptModel, UnsupportedModel
from exo_lab.models.tokenizer import ENDS, Tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping

    import tokenizers

CONTROL, USER_DEFINED, BYTE = 3, 4, 6  # llama.cpp's token types
_PREFIX = "tokenizer.ggml."

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
# How text is split before merging, by llama.cpp's name of it. A list: single digits are split off first.
_SPLITS: dict[str, tuple[str, bool]] = {
    "default": (_GPT2, False),
    "gpt-2": (_GPT2, False),
    "smollm": (_GPT2, True),
    "starcoder": (_GPT2, True),
    "refact": (_GPT2, True),
    "codeshell": (_GPT2, True),
    "llama-bpe": (_LLAMA3, False),
    "llama3": (_LLAMA3, False),
    "llama-v3": (_LLAMA3, False),
    "smaug-bpe": (_LLAMA3, False),
    "qwen2": (_QWEN2, False),
    "deepseek-r1-qwen": (_QWEN2, False),
}


def tokenizer_from_gguf(metadata: Mapping[str, Any], name: str) -> Tokenizer:
    """The tokenizer that a GGUF file describes.

    Raises:
        UnsupportedModel: a kind of tokenizer, or of splitting, that we do not have.
        CorruptModel: the description is incomplete or contradicts itself.
    """
    kind = metadata.get(f"{_PREFIX}model")
    tokens = metadata.get(f"{_PREFIX}tokens")
    if not isinstance(tokens, list) or not tokens:
        raise CorruptModel(
            f"{name}: the file has no tokenizer (tokenizer.ggml.tokens). Try another file of this model."
        )
    types = metadata.get(f"{_PREFIX}token_type") or [1] * len(tokens)
    if len(types) != len(tokens):
        raise CorruptModel(f"{name}: {len(tokens)} tokens but {len(types)} token types")
    match kind:
        case "gpt2":
            core = _byte_level(metadata, tokens, name)
        case "llama":
            core = _sentencepiece(metadata, tokens, types, name)
        case _:
            raise UnsupportedModel(f"{name}: tokenizer {kind!r} is not supported; supported are gpt2 and llama")
    _add_special(core, tokens, types)

    def named(which: str) -> int | None:
        value = metadata.get(f"{_PREFIX}{which}_token_id")
        return value if isinstance(value, int) and 0 <= value < len(tokens) else None

    ends = [named("eos"), named("eot"), *(core.token_to_id(end) for end in ENDS)]
    controls = {i for i, kind_ in enumerate(types) if kind_ == CONTROL}
    bos = named("bos")
    adds_bos = metadata.get(f"{_PREFIX}add_bos_token", kind == "llama")
    special = {
        f"{which}_token": tokens[found]
        for which, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"))
        if (found := named(key)) is not None
    }
    eos = [end for end in ends if end is not None and (end in controls or end == named("eos"))]
    template = metadata.get("tokenizer.chat_template", "")
    return Tokenizer(core, eos=eos, bos=bos if adds_bos else None, template=template, special=special, name=name)


def _byte_level(metadata: Mapping[str, Any], tokens: list[str], name: str) -> tokenizers.Tokenizer:
    from tokenizers import Regex, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as Core

    pre = metadata.get(f"{_PREFIX}pre", "default")
    if pre not in _SPLITS:
        raise UnsupportedModel(f"{name}: text splitting {pre!r} is not supported; supported are {', '.join(_SPLITS)}")
    pattern, digits = _SPLITS[pre]
    merges = [tuple(merge.split(" ", 1)) for merge in metadata.get(f"{_PREFIX}merges", [])]
    if any(len(merge) != 2 for merge in merges):
        raise CorruptModel(f"{name}: a merge rule of the tokenizer has not two parts")
    vocabulary = {token: i for i, token in enumerate(tokens)}
    try:
        core = Core(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=pattern is _LLAMA3))
    except Exception as exc:
        raise CorruptModel(f"{name}: the tokenizer's merges do not fit its tokens: {exc}") from exc
    splits: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if digits else []
    if pattern is _GPT2:
        splits.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True))
    else:
        splits += [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    core.pre_tokenizer = pre_tokenizers.Sequence(splits)
    core.decoder = decoders.ByteLevel()
    return core


def _sentencepiece(metadata: Mapping[str, Any], tokens: list[str], types: list[int], name: str) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer as Core
    from tokenizers import decoders, models, normalizers

    scores = metadata.get(f"{_PREFIX}scores")
    if not isinstance(scores, list) or len(scores) != len(tokens):
        raise CorruptModel(f"{name}: the tokenizer has no score for each token")
    vocabulary = {token: i for i, token in enumerate(tokens)}
    # SentencePiece's BPE merges the pair whose result scores best; as merge rules, in order of that score.
    merges: list[tuple[int, tuple[str, str]]] = []
    for i, token in enumerate(tokens):
        if types[i] in (CONTROL, BYTE):
            continue
        merges += [
            (i, (token[:at], token[at:]))
            for at in range(1, len(token))
            if token[:at] in vocabulary and token[at:] in vocabulary
        ]
    merges.sort(key=lambda rule: (-scores[rule[0]], vocabulary[rule[1][0]], vocabulary[rule[1][1]]))
    unknown = next((token for token in tokens if re.fullmatch(r"<unk>", token)), None)
    core = Core(
        models.BPE(
            vocab=vocabulary,
            merges=[rule for _, rule in merges],
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    prefix = bool(metadata.get(f"{_PREFIX}add_space_prefix", True))
    steps: list[Any] = [normalizers.Prepend("▁")] if prefix else []
    core.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    tail: list[Any] = [decoders.Strip(" ", 1, 0)] if prefix else []
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *tail])
    return core


def _add_special(core: tokenizers.Tokenizer, tokens: list[str], types: list[int]) -> None:
    from tokenizers import AddedToken

    for wanted, special in ((CONTROL, True), (USER_DEFINED, False)):
        texts = [token for token, kind in zip(tokens, types, strict=True) if kind == wanted]
        added = [AddedToken(text, special=special, normalized=False) for text in texts]
        (core.add_special_tokens if special else core.add_tokens)(added)
