"""A tokenizer out of a GGUF file's metadata: byte-level BPE ("gpt2") and SentencePiece ("llama")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from exo_lab.core.errors import CorruptModel, ModelError, UnsupportedModel
from exo_lab.models.tokenizer import ENDS, Tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping

    import tokenizers

UNKNOWN, CONTROL, USER_DEFINED, BYTE = 2, 3, 4, 6  # llama.cpp's token types
MAX_TOKEN_CHARACTERS = 1024  # SentencePiece's rules are found by cutting every token everywhere
_PREFIX = "tokenizer.ggml."

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_UPPER, _LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class Split(NamedTuple):
    """How text is split before merging. `whole`: a word that is a token is that token, whatever the merges say."""

    pattern: str
    digits: bool = False  # single digits are split off first
    whole: bool = False
    bos: bool = False  # a text begins with the first token unless the file says otherwise
    composed: bool = False  # Unicode's composed form (NFC) first; llama.cpp leaves that out, the model was trained so


# By llama.cpp's names (`llama-vocab.cpp`); the patterns are those of the models' own tokenizer.json.
SPLITS: dict[str, Split] = {
    **dict.fromkeys(("default", "gpt-2"), Split(_GPT2)),
    **dict.fromkeys(("smollm", "starcoder", "refact", "codeshell"), Split(_GPT2, digits=True)),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3"), Split(_LLAMA3, whole=True, bos=True)),
    "smaug-bpe": Split(_LLAMA3),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen"), Split(_QWEN2, composed=True)),
    "tekken": Split(_TEKKEN, whole=True, bos=True),
}


def tokenizer_from_gguf(metadata: Mapping[str, Any], name: str) -> Tokenizer:
    """The tokenizer that a GGUF file describes.

    Raises:
        UnsupportedModel: a kind of tokenizer, or of splitting, that we do not have.
        CorruptModel: the description is incomplete or contradicts itself.
    """
    kind = metadata.get(f"{_PREFIX}model")
    tokens = _list(metadata, "tokens", str, name)
    if not tokens:
        raise CorruptModel(
            f"{name}: the file has no tokenizer (tokenizer.ggml.tokens). Try another file of this model."
        )
    types = _list(metadata, "token_type", int, name) or [1] * len(tokens)
    if len(types) != len(tokens):
        raise CorruptModel(f"{name}: {len(tokens)} tokens but {len(types)} token types")
    begins = kind == "llama"
    try:
        match kind:
            case "gpt2":
                split = _split(metadata, name)
                begins = split.bos
                core = _byte_level(split, tokens, _list(metadata, "merges", str, name))
            case "llama":
                scores = _list(metadata, "scores", float, name)
                core = _sentencepiece(tokens, types, scores, metadata.get(f"{_PREFIX}add_space_prefix", True))
            case _:
                raise UnsupportedModel(f"{name}: tokenizer {kind!r} is not supported; supported are gpt2 and llama")
        _add_special(core, tokens, types)
    except ModelError:
        raise
    except Exception as exc:  # the library's own class: the parts do not fit each other
        raise CorruptModel(f"{name}: its tokenizer contradicts itself: {exc}. Try another file of this model.") from exc

    def named(which: str) -> int | None:
        value = metadata.get(f"{_PREFIX}{which}_token_id")
        return value if isinstance(value, int) and 0 <= value < len(tokens) else None

    special = {
        f"{which}_token": tokens[found]
        for which, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"))
        if (found := named(key)) is not None
    }
    by_name = [core.token_to_id(end) for end in ENDS]
    ends = [named("eos"), named("eot"), *(end for end in by_name if end is not None and types[end] == CONTROL)]
    template = metadata.get("tokenizer.chat_template", "")
    return Tokenizer(
        core,
        eos=[end for end in ends if end is not None],
        bos=named("bos") if metadata.get(f"{_PREFIX}add_bos_token", begins) else None,
        template=template if isinstance(template, str) else "",
        special=special,
        name=name,
    )


def _list(metadata: Mapping[str, Any], key: str, kind: type, name: str) -> list[Any]:
    """A list of the metadata, empty if there is none; CorruptModel if it holds something else."""
    found = metadata.get(_PREFIX + key, [])
    if not isinstance(found, list) or not all(isinstance(one, kind) for one in found):
        raise CorruptModel(f"{name}: {_PREFIX}{key} is not a list of {kind.__name__}. Try another file of this model.")
    return found


def _split(metadata: Mapping[str, Any], name: str) -> Split:
    pre = metadata.get(f"{_PREFIX}pre", "default")
    if pre not in SPLITS:
        raise UnsupportedModel(f"{name}: text splitting {pre!r} is not supported; supported are {', '.join(SPLITS)}")
    return SPLITS[pre]


def _byte_level(split: Split, tokens: list[str], merges: list[str]) -> tokenizers.Tokenizer:
    from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers
    from tokenizers import Tokenizer as Core

    vocabulary = {token: i for i, token in enumerate(tokens)}
    pairs: list[Any] = [tuple(merge.split(" ", 1)) for merge in merges]
    core = Core(models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=split.whole))
    if split.composed:
        core.normalizer = normalizers.NFC()
    steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if split.digits else []
    steps.append(pre_tokenizers.Split(Regex(split.pattern), "isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    core.pre_tokenizer = pre_tokenizers.Sequence(steps)
    core.decoder = decoders.ByteLevel()
    return core


def _sentencepiece(tokens: list[str], types: list[int], scores: list[float], prefix: object) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer as Core
    from tokenizers import decoders, models, normalizers

    if len(scores) != len(tokens):
        raise ValueError(f"{len(tokens)} tokens but {len(scores)} scores")
    if max(map(len, tokens)) > MAX_TOKEN_CHARACTERS:
        raise ValueError(f"a token has more than {MAX_TOKEN_CHARACTERS} characters")
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
    unknown = next((token for token, kind in zip(tokens, types, strict=True) if kind == UNKNOWN), None)
    pairs = [rule for _, rule in merges]
    core = Core(models.BPE(vocab=vocabulary, merges=pairs, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    steps: list[Any] = [normalizers.Prepend("▁")] if prefix else []
    core.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    tail: list[Any] = [decoders.Strip(" ", 1, 0)] if prefix else []
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *tail])
    return core


def _add_special(core: tokenizers.Tokenizer, tokens: list[str], types: list[int]) -> None:
    from tokenizers import AddedToken

    for wanted, special in (((UNKNOWN, CONTROL), True), ((USER_DEFINED,), False)):
        texts = [token for token, kind in zip(tokens, types, strict=True) if kind in wanted]
        added = [AddedToken(text, special=special, normalized=False) for text in texts]
        (core.add_special_tokens if special else core.add_tokens)(added)
