"""Tokenizers: the tokens of the libraries that the models were trained with, and text that streams without breaking."""

from __future__ import annotations

import json
import random
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Core
from tokenizers import decoders, models

from exo_lab.core.errors import CorruptModel, ModelError, UnsupportedModel
from exo_lab.models.gguf_header import read_header
from exo_lab.models.open import open_tokenizer
from exo_lab.models.tokenizer import Tokenizer
from exo_lab.models.tokenizer_gguf import SPLITS, tokenizer_from_gguf
from tests.tiny import tiny_config, write_gguf, write_safetensors
from tests.tiny_tokenizer import SPECIAL, VOCAB_SIZE

ANY = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PREFIX = "tokenizer.ggml."
TEXTS = (
    "", " ", "a", "Hello world", "  two  spaces  ", "new\nline\r\n\n", "1234567890 3.14", "don't I'LL we've",
    "naïve café", "漢字とかな", "🎉🎉 party 👩‍👩‍👧‍👦", "tabs\tand\u00a0nbsp", "e\u0301 decomposed",
    "مرحبا بالعالم", "Привет, мир!",
    "def f(x):\n    return x ** 2  # square\n", "<|im_start|>user\nhi<|im_end|>", "\x00\x7f control", "ÀÉÎ ǅ ʰ",
)  # fmt: skip
PIECES = st.text(st.characters(codec="utf-8"), max_size=40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("tokenizers")
    write_gguf(made / "tiny.gguf")
    write_safetensors(made / "hub")
    return made


@pytest.fixture(scope="module")
def byte_level(folder) -> Tokenizer:
    return open_tokenizer(str(folder / "tiny.gguf"))


@pytest.fixture(scope="module")
def trained() -> dict[str, Any]:
    """A vocabulary that SentencePiece 0.2.3 trained on this project's README and licence (BPE, byte fallback, 420
    pieces), with its own encodings of some texts."""
    return json.loads(Path(__file__).with_name("sentencepiece.json").read_text(encoding="utf-8"))


def piece_metadata(trained: dict[str, Any], **changes: Any) -> dict[str, Any]:
    fields = {"model": "llama", "bos_token_id": trained["bos"], "eos_token_id": trained["eos"]}
    fields |= {key: trained[key] for key in ("tokens", "scores", "token_type")}
    return {PREFIX + key: value for key, value in {**fields, **changes}.items()}


@pytest.fixture(scope="module")
def pieces(trained) -> Tokenizer:
    return tokenizer_from_gguf(piece_metadata(trained), "pieces")


# -- the same tokens as others ---------------------------------------------------------------------------


@pytest.mark.real_model
def test_the_real_tokenizer_gives_the_tokens_of_transformers(both):
    ours, theirs = both
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False), text


@pytest.mark.real_model
@ANY
@given(text=PIECES)
def test_the_real_tokenizer_gives_the_tokens_of_transformers_for_any_text(both, text):
    ours, theirs = both
    ids = ours.encode(text)
    assert ids == theirs.encode(text, add_special_tokens=False)
    assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


@pytest.mark.real_model
def test_the_real_model_chats_in_the_words_of_transformers(both):
    ours, theirs = both
    for messages in (
        [{"role": "user", "content": "What is 2 + 2?"}],
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}],
    ):
        for more in (True, False):
            text = ours.chat(messages, add_generation_prompt=more)
            assert text == theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=more)
            assert ours.encode(text, bos=False) == theirs.encode(text, add_special_tokens=False)


@pytest.mark.real_model
def test_the_real_models_answers_end_at_the_end_of_a_turn_or_of_the_text(both):
    ours, _ = both
    assert [ours.token_text(token) for token in ours.eos] == ["<|im_end|>", "<|endoftext|>"]


@pytest.mark.parametrize("pre", ["smollm", "llama-bpe", "tekken", "qwen2", "gpt-2"])
@ANY
@given(text=PIECES)
def test_text_is_split_as_transformers_splits_it(tmp_path_factory, pre, text):
    ours, theirs = pair(pre, tmp_path_factory)
    assert ours.encode(text, bos=False) == theirs.encode(text, add_special_tokens=False)


_PAIRS: dict[str, tuple[Tokenizer, Any]] = {}


def pair(pre: str, factory: pytest.TempPathFactory) -> tuple[Tokenizer, Any]:
    """Our tokenizer of a tiny file, and one of Transformers that is known to split the same way."""
    if pre not in _PAIRS:
        from transformers import AutoTokenizer, GPT2Tokenizer, Qwen2Tokenizer

        made = factory.mktemp(pre)
        write_gguf(made / "m.gguf", tiny_config("qwen2" if pre == "qwen2" else "llama"), pre=pre)
        metadata = read_header(made / "m.gguf").metadata
        vocabulary = {token: i for i, token in enumerate(metadata[f"{PREFIX}tokens"])}
        merges = [tuple(merge.split(" ")) for merge in metadata[f"{PREFIX}merges"]]
        match pre:
            case "qwen2":  # not by its conversion of GGUF, which leaves out the composed form
                theirs = Qwen2Tokenizer(vocab=vocabulary, merges=merges, additional_special_tokens=list(SPECIAL))
            case "gpt-2":
                theirs = GPT2Tokenizer(vocab=vocabulary, merges=merges, additional_special_tokens=list(SPECIAL))
            case _:
                theirs = AutoTokenizer.from_pretrained(made, gguf_file="m.gguf")
        _PAIRS[pre] = open_tokenizer(str(made / "m.gguf")), theirs
    return _PAIRS[pre]


def test_digits_are_split_off_one_by_one_where_the_model_was_trained_so():
    words = {"<s>": 0, "1": 1, "2": 2, "12": 3}
    for pre, expected in (("smollm", [1, 2]), ("gpt-2", [3])):
        metadata = {f"{PREFIX}model": "gpt2", f"{PREFIX}pre": pre, f"{PREFIX}tokens": list(words)}
        metadata |= {f"{PREFIX}merges": ["1 2"], f"{PREFIX}token_type": [3, 1, 1, 1]}
        assert tokenizer_from_gguf(metadata, "m").encode("12") == expected


def test_a_word_that_is_a_token_is_that_token_where_the_model_was_trained_so():
    metadata = {f"{PREFIX}model": "gpt2", f"{PREFIX}tokens": ["a", "b", "c", "bc", "abc"], f"{PREFIX}merges": ["b c"]}
    for pre, expected in (("llama-bpe", [4]), ("tekken", [4]), ("qwen2", [0, 3])):
        assert tokenizer_from_gguf({**metadata, f"{PREFIX}pre": pre}, "m").encode("abc", bos=False) == expected


def test_sentencepiece_itself_gives_the_same_tokens_and_the_same_text(pieces, trained):
    for text, ids, decoded in trained["samples"]:
        assert pieces.encode(text, bos=False) == ids, text
        assert pieces.decode(ids) == decoded, text


@ANY
@given(text=PIECES)
def test_a_gguf_file_and_a_tokenizer_json_of_one_tokenizer_agree_on_any_text(folder, byte_level, text):
    other = open_tokenizer(str(folder / "hub"))
    ids = byte_level.encode(text)
    assert other.encode(text) == ids
    assert other.decode(ids) == byte_level.decode(ids)
    assert other.eos == byte_level.eos
    assert other.vocab_size == byte_level.vocab_size == VOCAB_SIZE


# -- text that streams -----------------------------------------------------------------------------------


def streamed(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    stream = tokenizer.stream()
    return [*map(stream.add, ids), stream.flush()]


@ANY
@given(ids=st.lists(st.integers(0, VOCAB_SIZE + 5), max_size=40))
def test_streamed_pieces_put_together_are_the_decoded_text_for_any_tokens(byte_level, ids):
    assert "".join(streamed(byte_level, ids)) == byte_level.decode(ids)


@ANY
@given(ids=st.lists(st.integers(0, 425), max_size=40))
def test_streamed_pieces_of_sentencepiece_put_together_are_the_decoded_text_for_any_tokens(pieces, ids):
    assert "".join(streamed(pieces, ids)) == pieces.decode(ids)


@ANY
@given(ids=st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=40))
def test_any_tokens_decode_as_the_library_decodes_them(folder, byte_level, ids):
    """Broken characters included: these are bytes at random."""
    core = Core.from_file(str(folder / "hub" / "tokenizer.json"))
    assert byte_level.decode(ids) == core.decode(ids)


@ANY
@given(text=PIECES, data=st.data())
def test_no_piece_ever_holds_half_a_character(byte_level, pieces, text, data):
    tokenizer = data.draw(st.sampled_from([byte_level, pieces]))
    # Text that is what it says: no special tokens, no character that stands for a broken one.
    ids = tokenizer.encode(text, special=False, bos=False)
    parts = streamed(tokenizer, ids)
    if "\ufffd" not in text:
        assert not any("\ufffd" in part for part in parts)
    assert "".join(parts) == tokenizer.decode(ids)
    if tokenizer is byte_level:
        assert "".join(parts) == text


def test_a_character_of_four_tokens_comes_with_the_last_of_them(byte_level):
    ids = byte_level.encode("🎉!")
    assert streamed(byte_level, ids) == ["", "", "", "🎉", "!", ""]
    assert streamed(byte_level, ids[:2]) == ["", "", "\ufffd"]


def test_special_tokens_are_silent_in_a_stream_even_within_a_character(byte_level):
    first, *rest = byte_level.encode("é")
    assert streamed(byte_level, [1, first, 2, *rest, 0]) == ["", "", "", "é", "", ""]


def test_a_leading_space_is_dropped_from_the_beginning_of_a_text_only(pieces):
    hello = pieces.encode("a a", bos=False)
    assert "".join(streamed(pieces, hello)) == "a a"
    stream = pieces.stream()
    assert (stream.add(pieces.eos[0]), stream.add(hello[0]), stream.add(hello[0])) == ("", "a", " a")


# -- special tokens --------------------------------------------------------------------------------------


def test_special_tokens_in_a_text_are_tokens_or_mere_text_as_asked(byte_level):
    text = "<|im_start|>user"
    assert byte_level.encode(text)[0] == 1
    literal = byte_level.encode(text, special=False)
    assert not set(literal) & {0, 1, 2}
    assert byte_level.decode(literal) == text
    assert byte_level.encode(text)[0] == 1  # asking for the one does not change the other


def test_both_ways_of_reading_work_side_by_side_in_threads(byte_level):
    text = "<|im_end|>" * 50
    wrong: list[list[int]] = []

    def read(special: bool) -> None:
        for _ in range(100):
            ids = byte_level.encode(text, special=special)
            if (set(ids) == {2}) != special:
                wrong.append(ids)

    threads = [threading.Thread(target=read, args=(special,)) for special in (True, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong


def test_a_token_for_people_is_its_text_or_its_name(byte_level, pieces):
    assert byte_level.token_text(byte_level.encode("x")[0]) == "x"
    assert byte_level.token_text(1) == "<|im_start|>"
    assert byte_level.token_text(99_999) == "<99999>"
    first = byte_level.encode("🎉")[0]
    assert byte_level.token_text(first) == "ð"  # half a character, by the name that the vocabulary gives it
    assert pieces.token_text(pieces.encode("🎉", bos=False)[-1]) == "<0x89>"
    assert pieces.token_text(pieces.encode("a", bos=False)[0]) == " a"


@pytest.mark.parametrize(
    ("changes", "begins"),
    [
        ({"pre": "llama-bpe"}, True),
        ({"pre": "tekken"}, True),
        ({"pre": "llama-bpe", "add_bos_token": False}, False),
        ({"pre": "smollm"}, False),
        ({"pre": "qwen2", "add_bos_token": True}, True),
        ({"pre": "llama-bpe", "bos_token_id": 10_000}, False),
    ],
)
def test_a_text_begins_with_the_first_token_where_the_model_wants_it(folder, changes, begins):
    metadata = dict(read_header(folder / "tiny.gguf").metadata)
    del metadata[f"{PREFIX}add_bos_token"]
    tokenizer = tokenizer_from_gguf({**metadata, **{PREFIX + key: value for key, value in changes.items()}}, "m")
    assert (tokenizer.encode("a") == [0, *tokenizer.encode("a", bos=False)]) == begins


def test_sentencepiece_texts_begin_with_the_first_token(pieces, trained):
    assert pieces.encode("a") == [trained["bos"], *pieces.encode("a", bos=False)]


# -- tokenizer.json --------------------------------------------------------------------------------------


def change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_tokenizer_json_that_cuts_off_or_fills_up_does_neither_here(tmp_path):
    write_safetensors(tmp_path)
    core = Core.from_file(str(tmp_path / "tokenizer.json"))
    core.enable_truncation(3)
    core.enable_padding(length=50)
    core.save(str(tmp_path / "tokenizer.json"))
    assert open_tokenizer(str(tmp_path)).encode("abcdef") == open_tokenizer(str(tmp_path)).encode(
        "abc"
    ) + open_tokenizer(str(tmp_path)).encode("def")


def test_what_tokenizer_json_puts_at_the_beginning_is_the_first_token_and_what_it_puts_at_the_end_is_not(tmp_path):
    from tokenizers.processors import TemplateProcessing

    for template, bos in (("<|endoftext|> $A", 0), ("$A <|im_end|>", None), ("<|endoftext|> $A <|im_end|>", 0)):
        write_safetensors(tmp_path)
        core = Core.from_file(str(tmp_path / "tokenizer.json"))
        core.post_processor = TemplateProcessing(single=template, special_tokens=[(SPECIAL[0], 0), (SPECIAL[2], 2)])
        core.save(str(tmp_path / "tokenizer.json"))
        tokenizer = open_tokenizer(str(tmp_path))
        assert tokenizer.encode("a")[:-1] == ([] if bos is None else [bos])


@pytest.mark.parametrize(("eos", "expected"), [(7, (7, 2, 0)), ([7, 8], (7, 8, 2, 0)), (None, (2, 0))])
def test_the_ends_of_an_answer_come_from_every_file_that_names_one(tmp_path, eos, expected):
    write_safetensors(tmp_path)
    change(tmp_path / "config.json", eos_token_id=eos)
    assert open_tokenizer(str(tmp_path)).eos == expected
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": 9}))
    assert open_tokenizer(str(tmp_path)).eos == (9, 2, 0)


def test_a_chat_template_is_found_wherever_it_may_be(tmp_path):
    write_safetensors(tmp_path)
    settings_file = tmp_path / "tokenizer_config.json"
    chat = [{"role": "user", "content": "x"}]
    change(settings_file, chat_template=[{"name": "tool", "template": "t"}, {"name": "default", "template": "d"}])
    assert open_tokenizer(str(tmp_path)).chat(chat) == "d"
    (tmp_path / "chat_template.jinja").write_text("apart {{ eos_token }}")
    assert open_tokenizer(str(tmp_path)).chat(chat) == "apart <|im_end|>"
    (tmp_path / "chat_template.jinja").unlink()
    change(settings_file, chat_template=None)
    assert not open_tokenizer(str(tmp_path)).has_template
    with pytest.raises(ModelError, match=r"has no chat template: it is a base model\. Use --raw"):
        open_tokenizer(str(tmp_path)).chat(chat)


# -- what we do not have, and what is broken -------------------------------------------------------------


def test_a_tokenizer_that_we_do_not_have_is_refused_with_those_that_we_have(folder, tmp_path):
    metadata = read_header(folder / "tiny.gguf").metadata
    with pytest.raises(UnsupportedModel, match=r"tokenizer 'bert' is not supported; supported are gpt2 and llama"):
        tokenizer_from_gguf({**metadata, f"{PREFIX}model": "bert"}, "m")
    with pytest.raises(
        UnsupportedModel, match=f"splitting 'gpt-4o' is not supported; supported are {', '.join(SPLITS)}"
    ):
        tokenizer_from_gguf({**metadata, f"{PREFIX}pre": "gpt-4o"}, "m")
    with pytest.raises(UnsupportedModel, match="decodes with WordPiece; supported are byte-level and SentencePiece"):
        core = Core(models.WordPiece({"a": 0}, unk_token="a"))
        core.decoder = decoders.WordPiece()
        Tokenizer(core, eos=[])
    with pytest.raises(UnsupportedModel, match="decodes with nothing"):
        Tokenizer(Core(models.BPE()), eos=[])
    write_safetensors(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(UnsupportedModel, match=r"tokenizer\.json is missing"):
        open_tokenizer(str(tmp_path))


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[" * 50_000, b"\xff"])
def test_a_broken_file_is_named(tmp_path, name, content):
    write_safetensors(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorruptModel, match=name):
        open_tokenizer(str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tokens": []}, "the file has no tokenizer"),
        ({"tokens": [1, 2]}, "tokens is not a list of str"),
        ({"token_type": [1]}, "288 tokens but 1 token types"),
        ({"merges": ["nospace"]}, "contradicts itself"),
        ({"merges": ["absent token"]}, "contradicts itself"),
        ({"model": "llama"}, "288 tokens but 0 scores"),
        ({"model": "llama", "scores": [0.0] * 288, "tokens": ["x" * 5000] + ["a"] * 287}, "more than 1024 characters"),
    ],
)
def test_a_description_that_contradicts_itself_is_refused(folder, changes, words):
    metadata = read_header(folder / "tiny.gguf").metadata
    with pytest.raises(CorruptModel, match=words):
        tokenizer_from_gguf({**metadata, **{PREFIX + key: value for key, value in changes.items()}}, "m")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_any_description_gives_a_tokenizer_or_one_of_our_own_errors(folder, trained, seed):
    rng = random.Random(seed)
    metadata = dict(rng.choice((read_header(folder / "tiny.gguf").metadata, piece_metadata(trained))))
    for _ in range(rng.choice((1, 2, 4))):
        key = rng.choice([key for key in metadata if key.startswith("tokenizer.")])
        value = metadata[key]
        if isinstance(value, list) and value and rng.random() < 0.8:
            value = list(value)
            for _ in range(rng.choice((1, 20))):
                value[rng.randrange(len(value))] = rng.choice(("", " ", "a b", "x" * 2000, 3, -1.5, 2**40, value[0]))
        else:
            value = rng.choice((None, "", "llama", "gpt2", -1, 2**40, [], ["a"], [3], 1.5, True))
        metadata[key] = value
    try:
        tokenizer = tokenizer_from_gguf(metadata, "m")
        tokenizer.decode(tokenizer.encode("Hello 12 <|im_end|>"))
    except ModelError as error:
        assert "m" in str(error)  # noqa: PT017 - most descriptions are still fine, so nothing must raise
