"""GGUF files that lie: every one is refused with a sentence, none crashes, none fills the memory."""

from __future__ import annotations

import contextlib
import random
import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exo_lab.core.errors import CorruptModel, ModelError, UnsupportedModel
from exo_lab.core.weights_messages import HeldFile
from exo_lab.models import gguf_header
from exo_lab.models.gguf import open_gguf
from exo_lab.models.gguf_header import read_header
from exo_lab.models.outline import Outline
from exo_lab.models.tokenizer_gguf import tokenizer_from_gguf
from tests.tiny import tiny_config, write_gguf

MIB = 1 << 20
FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def tensor(name: str = "t", shape: tuple[int, ...] = (32,), kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def gguf_file(
    *,
    keys: list[bytes] | None = None,
    tensors: list[bytes] | None = None,
    version: int = 3,
    data: int = 256,
    **counts: int,
) -> bytes:
    """A file by hand. `counts` may lie: n_tensors, n_keys."""
    keys, tensors = keys or [], tensors or []
    head = b"GGUF" + struct.pack(
        "<IQQ", version, counts.get("n_tensors", len(tensors)), counts.get("n_keys", len(keys))
    )
    head += b"".join(keys) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + bytes(data)


def refused(tmp_path: Path, content: bytes, words: str, error: type[ModelError] = CorruptModel) -> None:
    """Is it refused with these words, without much memory?"""
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(error, match=words):
            read_header(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * MIB
    with pytest.raises(ModelError, match=r"m\.gguf"):
        open_gguf(path, "m")


def test_the_hand_written_file_itself_is_fine(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf_file(keys=[text("k") + struct.pack("<IB", 0, 7)], tensors=[tensor()]))
    header = read_header(path)
    assert header.metadata == {"k": 7}
    assert header.tensors["t"].shape == (32,)


HUGE = 2**63
LIES = {
    "empty": (b"", "too few"),
    "short": (b"GGUF\x03", "too few"),
    "another format": (b"PK\x03\x04" + bytes(60), "not a GGUF file"),
    "tensor count": (gguf_file(n_tensors=HUGE), "9223372036854775808 tensors"),
    "key count": (gguf_file(n_keys=2**40), "metadata keys"),
    "more keys than any file has": (gguf_file(n_keys=70_000, data=70_000), "70000 metadata keys; 65536 are allowed"),
    "more tensors than any file has": (gguf_file(n_tensors=1_000_001, data=1_000_001), "1000001 tensors; 1000000 are"),
    "key count that fits the file": (gguf_file(n_keys=200), "is there twice"),
    "key length": (gguf_file(keys=[struct.pack("<Q", HUGE)]), "past the end"),
    "long key": (gguf_file(keys=[text("k" * 5000)]), "5000 bytes"),
    "key that is no text": (gguf_file(keys=[text(b"\xff\xfe")]), "not UTF-8"),
    "key with control characters": (gguf_file(keys=[text("a\x1b[2J")]), "is called"),
    "string length": (gguf_file(keys=[text("k") + struct.pack("<IQ", 8, HUGE)]), "past the end"),
    "value type": (gguf_file(keys=[text("k") + struct.pack("<I", 99)]), "unknown type 99"),
    "array length": (gguf_file(keys=[text("k") + struct.pack("<IIQ", 9, 4, HUGE)]), "array elements"),
    "array of strings": (gguf_file(keys=[text("k") + struct.pack("<IIQ", 9, 8, 200)]), "past the end"),
    "array type": (gguf_file(keys=[text("k") + struct.pack("<IIQ", 9, 77, 1)]), "unknown type 77"),
    "array depth": (
        gguf_file(keys=[text("k") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 9]),
        "unknown type 9",
    ),
    "alignment": (gguf_file(keys=[text("general.alignment") + struct.pack("<II", 4, 0)]), "alignment"),
    "alignment text": (gguf_file(keys=[text("general.alignment") + struct.pack("<I", 8) + text("x")]), "alignment"),
    "dimensions": (gguf_file(tensors=[tensor(shape=(1,) * 9)]), "9 dimensions"),
    "no dimensions": (gguf_file(tensors=[tensor(shape=())]), "0 dimensions"),
    "a side of nothing": (gguf_file(tensors=[tensor(shape=(32, 0))]), "cannot have shape"),
    "sides that overflow": (gguf_file(tensors=[tensor(shape=(2**32, 2**32))]), "cannot have shape"),
    "sides that overflow to little": (gguf_file(tensors=[tensor(shape=(2**63, 2, 32))]), "cannot have shape"),
    "a row that is no block": (gguf_file(tensors=[tensor(shape=(33,), kind=2)]), "cannot have shape"),
    "offset": (gguf_file(tensors=[tensor(offset=HUGE)]), "cut off"),
    "offset off the grid": (gguf_file(tensors=[tensor(offset=8)]), "not aligned"),
    "past the end": (gguf_file(tensors=[tensor(shape=(128,))]), "cut off"),
    "overlap": (gguf_file(tensors=[tensor("a"), tensor("b", offset=96)]), "a and b overlap"),
    "two of a name": (gguf_file(tensors=[tensor(), tensor(offset=128)]), "is there twice"),
    "name of a tensor": (gguf_file(tensors=[tensor("n" * 3000)]), "3000 bytes"),
}


@pytest.mark.parametrize(("shape", "kind"), [((1 << 28,), 0), ((64, 1), 0), ((64,), 2)])
def test_a_table_of_frequencies_that_is_none_is_not_read(tmp_path, shape, kind):
    path, frequencies = tmp_path / "m.gguf", tensor("rope_freqs.weight", shape, kind)
    size = 1 << 30
    with path.open("wb") as file:  # with a hole as large as the table
        file.write(gguf_file(tensors=[frequencies], data=0))
        file.truncate(file.tell() + size)
    outline = Outline(tmp_path / "parts", [HeldFile(kind="gguf", size=path.stat().st_size, header=256, tensors=())])
    outline.write(0, 0, gguf_file(tensors=[frequencies], data=0))
    tracemalloc.start()
    try:
        for read in (lambda: open_gguf(path, "m"), lambda: outline.tables(0)):
            with pytest.raises(UnsupportedModel, match="vector of at most 4096 floats"):
                read()
        assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    finally:
        tracemalloc.stop()
        outline.discard()


@pytest.mark.parametrize("case", LIES)
def test_a_header_that_lies_is_refused_with_a_sentence(tmp_path, case):
    content, words = LIES[case]
    refused(tmp_path, content, words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (gguf_file(version=1), "version 1; versions 2 and 3 are read"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0) + bytes(64), "big-endian"),
        (gguf_file(tensors=[tensor(kind=16)]), "ggml type 16; we read F32, F16"),
    ],
)
def test_a_sound_file_that_we_do_not_read_is_called_unsupported(tmp_path, content, words):
    refused(tmp_path, content, words, UnsupportedModel)


def test_a_header_that_would_fill_the_memory_is_refused_before_it_does(tmp_path, monkeypatch):
    """Arrays are short on disk and long in memory, so there is a limit for all of them together."""
    monkeypatch.setattr(gguf_header, "MAX_ELEMENTS", 1000)
    array = struct.pack("<IIQ", 9, 0, 300) + bytes(300)
    refused(tmp_path, gguf_file(keys=[text(f"k{i}") + array for i in range(4)]), "more than 1000 elements")
    monkeypatch.setattr(gguf_header, "MAX_HEADER_BYTES", 1000)
    refused(tmp_path, gguf_file(keys=[text("k") + struct.pack("<I", 8) + text("x" * 2000)]), "header is larger")


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("sound") / "m.gguf"
    write_gguf(path, tiny_config("qwen3", n_layers=2), kind="Q4_0")
    return path.read_bytes()


@pytest.fixture(scope="module")
def header_bytes(sound, tmp_path_factory) -> int:
    path = tmp_path_factory.mktemp("header") / "m.gguf"
    path.write_bytes(sound)
    return min(info.offset for info in read_header(path).tensors.values())


def opened(path: Path) -> None:
    """Open a file as far as it goes: header, config, tensors, tokenizer. Only our own errors may come out."""
    with contextlib.suppress(ModelError), contextlib.closing(open_gguf(path, "m")) as source:
        for name in ("token_embd.weight", "blk.0.attn_k.weight", "blk.1.attn_q_norm.weight"):
            source.weight(name).to_float32()
        tokenizer_from_gguf(read_header(path).metadata, "m").encode("Hello")


@FUZZ
@given(seed=st.integers(0, 2**32))
def test_whatever_bytes_of_a_header_are_changed_nothing_but_our_own_errors_comes_out(
    tmp_path, sound, header_bytes, seed
):
    rng = random.Random(seed)
    content = bytearray(sound)
    for _ in range(rng.choice((1, 2, 8))):
        at = rng.randrange(4, header_bytes)
        match rng.randrange(4):
            case 0:
                content[at] = rng.randrange(256)
            case 1:
                content[at] ^= 1 << rng.randrange(8)
            case 2:
                content[at : at + 8] = struct.pack("<Q", rng.choice((0, 1, 2**31, 2**32, 2**63, 2**64 - 1)))
            case _:
                content[at : at + rng.randrange(16)] = rng.randbytes(rng.randrange(16))
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    opened(path)


@FUZZ
@given(data=st.data())
def test_a_file_that_was_cut_off_anywhere_is_refused(tmp_path, sound, data):
    path = tmp_path / "m.gguf"
    path.write_bytes(sound[: data.draw(st.integers(0, len(sound) - 64))])
    with pytest.raises(CorruptModel):
        open_gguf(path, "m")


@FUZZ
@given(content=st.binary(max_size=400))
def test_bytes_of_any_kind_are_refused(tmp_path, content):
    path = tmp_path / "m.gguf"
    for start in (b"", b"GGUF\x03\x00\x00\x00"):
        path.write_bytes(start + content)
        with pytest.raises(ModelError):
            open_gguf(path, "m")
