"""The tokenizer of tiny models: three special tokens, every byte, a few merges, and ChatML. In both file formats."""

from __future__ import annotations

import json
from pathlib import Path

import gguf

# Chat in the form of ChatML, as SmolLM2 and Qwen do it.
TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
N_BYTES = 256
VOCAB_SIZE = 288  # three special tokens, 256 bytes, and merges that follow from nothing but their order


def vocabulary(size: int) -> tuple[list[str], list[str]]:
    """Tokens and merges of a byte-level tokenizer of that many tokens: specials, bytes, then pairs of letters."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    merges = [f"{a} {b}" for a in "etaoinshrdlu" for b in "etaoinshrdlu"]
    merges = merges[: max(0, size - len(SPECIAL) - N_BYTES)]
    tokens = [*SPECIAL, *letters, *(merge.replace(" ", "") for merge in merges)]
    if size < len(SPECIAL) + N_BYTES:
        raise ValueError(f"a byte-level vocabulary needs {len(SPECIAL) + N_BYTES} tokens, not {size}")
    return [*tokens, *(f"<unused{i}>" for i in range(size - len(tokens)))], merges


def add_tokenizer(writer: gguf.GGUFWriter, size: int, pre: str) -> None:
    """Into a GGUF file's metadata."""
    tokens, merges = vocabulary(size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if i < len(SPECIAL) else 1 for i in range(len(tokens))])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def write_tokenizer_json(folder: Path, size: int) -> None:
    """As the hub has it: tokenizer.json and tokenizer_config.json."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens, merges = vocabulary(size)
    core = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, [tuple(m.split(" ")) for m in merges]))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    core.save(str(folder / "tokenizer.json"))
    settings = {"bos_token": SPECIAL[0], "eos_token": {"content": SPECIAL[2]}, "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
