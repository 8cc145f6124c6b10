"""The codec: messages to bytes and back, with every limit checked before anything is used.

Data, multipart: `[kind, version][msgpack header][raw tensor bytes]`, the last part only if there is a tensor; its
bytes are never copied here. Control, one part: `[kind, version]` and msgpack. Everything that is wrong with what
came in ends in a `Malformed`, which is a `FrameError`. Knows no socket, and no plan: whether a shape fits the model
is for the stage to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from exo_lab.core.errors import ExoError, FrameError
from exo_lab.core.messages import PROTOCOL_VERSION, ControlMessage, DataMessage
from exo_lab.core.tensor import ITEM_BYTES, Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_HEADER_BYTES = 1 << 20  # a header may hold a prompt (SessionSpec.history), nothing larger
MAX_TENSOR_BYTES = 1 << 30
MAX_CONTROL_BYTES = 16 << 20
MAX_DIMENSIONS = 4
MAX_SIDE = 1 << 40
MAX_PARTS = 3

KIND_DATA = 0x44  # D
KIND_CONTROL = 0x43  # C
_NAMES = {KIND_DATA: "data", KIND_CONTROL: "control"}

Buffer = bytes | bytearray | memoryview
Part = bytes | memoryview


class Malformed(FrameError):
    """A refused frame. `reason` is one of a few fixed words, to count by; the text has the particulars."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class _Header(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    message: DataMessage
    dtype: str = ""
    shape: Annotated[
        tuple[Annotated[int, msgspec.Meta(ge=0, le=MAX_SIDE)], ...], msgspec.Meta(max_length=MAX_DIMENSIONS)
    ] = ()


_DATA_HEAD = bytes((KIND_DATA, PROTOCOL_VERSION))
_CONTROL_HEAD = bytes((KIND_CONTROL, PROTOCOL_VERSION))
_encoder = msgspec.msgpack.Encoder()
_header_decoder = msgspec.msgpack.Decoder(_Header)
# A union alias is a value at run time, which the type checker cannot see through.
_control_decoder: msgspec.msgpack.Decoder[ControlMessage] = msgspec.msgpack.Decoder(ControlMessage)  # pyright: ignore

# What decoding may raise: msgspec's own, what a core struct says of impossible values, and what a hostile nesting
# or text does to Python itself.
_DECODING = (msgspec.MsgspecError, ExoError, ValueError, TypeError, OverflowError, RecursionError)


def encode(message: DataMessage, tensor: Tensor | None = None) -> list[Part]:
    """The parts of a data frame. The tensor's bytes are passed on, not copied.

    Raises:
        FrameError: the header is larger than `MAX_HEADER_BYTES`, the tensor larger than `MAX_TENSOR_BYTES`, has more
            than `MAX_DIMENSIONS` dimensions, or is not C-contiguous.
    """
    if tensor is None:
        header = _encoder.encode(_Header(message))
        parts: list[Part] = [_DATA_HEAD, header]
    else:
        if len(tensor.shape) > MAX_DIMENSIONS:
            raise Malformed("too many dimensions", f"a tensor of {len(tensor.shape)} dimensions; at most 4 are sent")
        if tensor.nbytes > MAX_TENSOR_BYTES:
            raise Malformed("tensor too large", _too_large("tensor", tensor.nbytes, MAX_TENSOR_BYTES))
        header = _encoder.encode(_Header(message, tensor.dtype, tensor.shape))
        parts = [_DATA_HEAD, header, _flat(tensor.data)]
    if len(header) > MAX_HEADER_BYTES:
        raise Malformed("header too large", _too_large("header", len(header), MAX_HEADER_BYTES))
    return parts


def decode(parts: Sequence[Buffer], max_tensor_bytes: int = MAX_TENSOR_BYTES) -> tuple[DataMessage, Tensor | None]:
    """The message and tensor of a data frame. The tensor is a view of the last part, which it keeps alive.

    Raises:
        Malformed: a FrameError that says what is wrong: number of parts, kind, version, sizes, dtype, shape, header.
    """
    count = len(parts)
    if not 2 <= count <= MAX_PARTS:
        raise Malformed("number of parts", f"a data frame has 2 or 3 parts, this one has {count}")
    head = parts[0]
    if head != _DATA_HEAD:
        raise _wrong_head(head, KIND_DATA)
    packed = parts[1]
    if len(packed) > MAX_HEADER_BYTES:
        raise Malformed("header too large", _too_large("header", len(packed), MAX_HEADER_BYTES))
    try:
        header = _header_decoder.decode(packed)
    except _DECODING as exc:
        raise Malformed("header", f"the header is not a data message: {_brief(exc)}") from exc
    if count == 2:
        if header.dtype or header.shape:
            raise Malformed(
                "tensor missing", f"the header announces {header.dtype[:32]!r} {header.shape}, no tensor came"
            )
        return header.message, None
    raw = parts[2]
    size = raw.nbytes if isinstance(raw, memoryview) else len(raw)
    if size > max_tensor_bytes:
        raise Malformed("tensor too large", _too_large("tensor", size, max_tensor_bytes))
    if header.dtype not in ITEM_BYTES:
        raise Malformed("dtype", f"dtype {header.dtype[:32]!r} is not one of {', '.join(ITEM_BYTES)}")
    try:
        return header.message, Tensor(header.dtype, header.shape, raw)
    except FrameError as exc:
        raise Malformed("tensor size", str(exc)) from exc


def encode_control(message: ControlMessage) -> bytes:
    """A control message as bytes.

    Raises:
        FrameError: it is larger than `MAX_CONTROL_BYTES`.
    """
    body = _encoder.encode(message)
    if len(body) > MAX_CONTROL_BYTES:
        raise Malformed("message too large", _too_large(type(message).__name__, len(body), MAX_CONTROL_BYTES))
    return _CONTROL_HEAD + body


def decode_control(frame: Buffer) -> ControlMessage:
    """The control message in `frame`.

    Raises:
        Malformed: a FrameError that says what is wrong: kind, version, size or contents.
    """
    view = memoryview(frame)
    if bytes(view[:2]) != _CONTROL_HEAD:
        raise _wrong_head(view[:2], KIND_CONTROL)
    if view.nbytes - 2 > MAX_CONTROL_BYTES:
        raise Malformed("message too large", _too_large("message", view.nbytes, MAX_CONTROL_BYTES))
    try:
        return _control_decoder.decode(view[2:])
    except _DECODING as exc:
        raise Malformed("contents", f"not a control message: {_brief(exc)}") from exc


def _flat(data: memoryview[Any]) -> Part:
    """One-dimensional bytes of a tensor's buffer, without a copy."""
    if data.format == "B" and data.ndim == 1 and data.c_contiguous:
        return data
    if data.nbytes == 0:
        return b""
    if not data.c_contiguous:
        raise Malformed("not contiguous", "a tensor's buffer must be contiguous, in C order")
    return data.cast("B")


def _wrong_head(head: Buffer, kind: int) -> Malformed:
    got = bytes(head[:3])
    if len(head) != 2:
        return Malformed("kind", f"a frame starts with 2 bytes, kind and version; this one with {got!r}")
    if got[0] not in _NAMES:
        return Malformed("kind", f"unknown kind of frame 0x{got[0]:02x}; this socket takes {_NAMES[kind]} frames")
    if got[1] != PROTOCOL_VERSION:
        return Malformed(
            "protocol version",
            f"the sender speaks protocol {got[1]}, this node speaks {PROTOCOL_VERSION}; "
            "update exo_lab on the older one",
        )
    return Malformed("kind", f"a {_NAMES[got[0]]} frame came to a socket that takes {_NAMES[kind]} frames")


def _too_large(what: str, got: int, limit: int) -> str:
    return f"{what} of {got} bytes; at most {limit} are accepted"


def _brief(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {str(exc)[:200]}"
