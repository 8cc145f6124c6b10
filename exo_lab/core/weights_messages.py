"""How nodes ask each other for the weights of a model. Control messages; see `messages`.

A model is a few files, numbered as `WeightsHeld` lists them; what is asked for are bytes of a file. Files have kinds
and no names: what a peer says never becomes a path. Which bytes are which tensor, both sides read from the header,
which the digest vouches for.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

MAX_RANGES = 4096
MAX_READ_BYTES = 512 << 10  # of all ranges of one question together
MAX_FILES = 1024
MAX_NAME_CHARACTERS = 1024

FileKind = Literal[
    "gguf",
    "safetensors",
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
]
Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 50)]
Range = tuple[Count, Count]  # half-open, bytes of a file
Ranges = Annotated[tuple[Range, ...], msgspec.Meta(max_length=MAX_RANGES)]
Digest = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")]
FileNumber = Annotated[int, msgspec.Meta(ge=0, lt=MAX_FILES)]


class FindWeights(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Have you this model? With an empty digest: whatever weights you call so. Answered by `WeightsHeld`."""

    name: Annotated[str, msgspec.Meta(max_length=MAX_NAME_CHARACTERS)]
    digest: Digest = ""


class HeldFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a model: its size, how many bytes come before the first tensor, and which bytes of tensors are here.

    Of a file without tensors, all bytes come before the first one.
    """

    kind: FileKind
    size: Count
    header: Count
    tensors: Annotated[tuple[Range, ...], msgspec.Meta(max_length=1 << 16)] = ()


class WeightsHeld(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What a node has of the model with this digest."""

    digest: Digest
    files: Annotated[tuple[HeldFile, ...], msgspec.Meta(min_length=1, max_length=MAX_FILES)]


class ReadWeights(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Give me these bytes of a file, at most `MAX_READ_BYTES`. Answered by `WeightBytes`."""

    digest: Digest
    file: FileNumber
    ranges: Ranges


class WeightBytes(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The bytes of all ranges, one after the other."""

    data: bytes


class CheckWeights(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What is the SHA-256 of this tensor, or of this whole file without tensors? Answered by `WeightsChecksum`."""

    digest: Digest
    file: FileNumber
    range: Range


class WeightsChecksum(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The checksum of the bytes as they are on the disk now."""

    sha256: bytes


WeightsQuestion = FindWeights | ReadWeights | CheckWeights
WeightsMessage = WeightsQuestion | WeightsHeld | WeightBytes | WeightsChecksum
