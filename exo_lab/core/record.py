"""The record of a run: what was asked of which model, on which plan, devices and versions, and what came.

Plain values as JSON, of bounded size, with a version and a checksum. Reading one checks everything and runs nothing.
The checksum tells a record that was damaged or edited from one that was not; it is no signature: who edits a record can
compute it anew. Pure.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Literal

import msgspec

from exo_lab.core.errors import ConfigError, ExoError
from exo_lab.core.messages import FinishReason
from exo_lab.core.plan import Plan
from exo_lab.core.sampling import SamplingParams
from exo_lab.core.session import StageTiming

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.core.device import Device
    from exo_lab.core.status import TokenEvent

VERSION = 2
MAX_BYTES = 16 << 20
MAX_TIMED = 4096  # tokens whose stage timings are kept: the first ones
NO_RECORD = "this is no run record that can be replayed"


class RunDevice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A device of the plan, as it was. `emulated` says what was emulated; empty for a real one."""

    id: str
    name: str
    model: str = ""
    chip: str = ""
    computes_on: str = ""
    memory_bytes: int = 0
    emulated: str = ""


class RunToken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A token of the answer. `at_s`: seconds since the request was sent; see `StageTiming` for what stages spent."""

    token: int
    text: str
    logprob: float
    at_s: float
    timings: tuple[StageTiming, ...] = ()


class RunRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """See the module. `prompt` is the text that the model saw, `prompt_tokens` what was sent.

    `made_at_s`: when the request was sent, seconds since the epoch (UTC). `total_s`: until its end.
    """

    format: Literal["exo_lab.run"] = "exo_lab.run"
    version: int = VERSION
    made_at_s: float
    digest: str
    versions: dict[str, str]
    plan: Plan
    devices: tuple[RunDevice, ...]
    sampling: SamplingParams
    prompt: str
    prompt_tokens: tuple[int, ...]
    text: str
    tokens: tuple[RunToken, ...]
    finish: FinishReason | None = None
    total_s: float = 0.0
    prompt_tokens_reused: int = 0
    notices: tuple[str, ...] = ()
    checksum: str = ""

    @property
    def token_ids(self) -> tuple[int, ...]:
        """What was drawn."""
        return tuple(one.token for one in self.tokens)

    @property
    def ttft_s(self) -> float | None:
        """Measured time to first token; None without one."""
        return self.tokens[0].at_s if self.tokens else None

    @property
    def tokens_per_s(self) -> float | None:
        """Measured decode rate, (tokens - 1) / (last - first); None with fewer than two tokens."""
        span_s = self.tokens[-1].at_s - self.tokens[0].at_s if self.tokens else 0.0
        return (len(self.tokens) - 1) / span_s if span_s > 0 else None


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """A run and the same one again."""

    then: RunRecord
    now: RunRecord

    @property
    def first_difference(self) -> int | None:
        """The index of the first token that is another one, or is there only once; None: the same tokens."""
        then, now = self.then.token_ids, self.now.token_ids
        if then == now:
            return None
        pairs = enumerate(zip(then, now, strict=False))
        return next((index for index, (a, b) in pairs if a != b), min(len(then), len(now)))


def run_device(device: Device) -> RunDevice:
    """What a record keeps of a device."""
    return RunDevice(**{name: getattr(device, name) for name in RunDevice.__struct_fields__})


def run_tokens(events: Sequence[TokenEvent]) -> tuple[RunToken, ...]:
    """What a record keeps of tokens."""
    return tuple(
        RunToken(
            token=event.token,
            text=event.text,
            logprob=event.logprob,
            at_s=event.at_s,
            timings=event.timings if event.index < MAX_TIMED else (),
        )
        for event in events
    )


def sealed(record: RunRecord) -> RunRecord:
    """The record with its checksum."""
    return msgspec.structs.replace(record, checksum=_checksum(record))


def encode(record: RunRecord) -> str:
    """JSON of a sealed record.

    Raises:
        ConfigError: it is larger than any that would be read again.
    """
    made = msgspec.json.encode(record, order="deterministic")
    if len(made) > MAX_BYTES:
        raise ConfigError(f"the record of this run has {len(made):,} bytes, and at most {MAX_BYTES:,} are kept")
    return made.decode()


def decode(text: str | bytes) -> RunRecord:
    """A record from JSON, checked.

    Raises:
        ConfigError: it is none, damaged or edited, of another version, or says what cannot be; with the reason.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{NO_RECORD}: it has more than {MAX_BYTES:,} bytes")
    try:
        head = msgspec.json.decode(text, type=_Head)
        if head.format != "exo_lab.run":
            raise ConfigError(f"{NO_RECORD}: it says that it is {head.format[:40]!r}")
        if head.version != VERSION:
            raise ConfigError(f"{NO_RECORD}: it is of version {head.version}, and this program reads {VERSION}")
        record = msgspec.json.decode(text, type=RunRecord)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ConfigError(f"{NO_RECORD}: {exc}") from exc
    except ExoError as exc:
        raise exc if str(exc).startswith(NO_RECORD) else ConfigError(f"{NO_RECORD}: {exc}") from exc
    if record.checksum != _checksum(record):
        raise ConfigError(f"{NO_RECORD}: its checksum is not that of its contents, so it was damaged or edited")
    for good, what in _checks(record):
        if not good:
            raise ConfigError(f"{NO_RECORD}: {what}")
    return record


class _Head(msgspec.Struct):
    format: str = ""
    version: int = 0


def _checks(record: RunRecord) -> list[tuple[bool, str]]:
    ids = (*record.prompt_tokens, *record.token_ids)
    figures = [
        record.made_at_s,
        record.total_s,
        *(figure for one in record.tokens for figure in (one.at_s, *_seconds(one.timings))),
    ]
    return [
        (bool(record.prompt_tokens), "its prompt has no tokens"),
        (all(0 <= one < 1 << 31 for one in ids), "it has tokens that cannot be"),
        (len(record.tokens) <= record.sampling.max_tokens, "its answer is longer than max_tokens"),
        (all(math.isfinite(one) and one >= 0 for one in figures), "it has times that cannot be"),
        (all(math.isfinite(one.logprob) for one in record.tokens), "it has probabilities that cannot be"),
    ]


def _seconds(timings: tuple[StageTiming, ...]) -> list[float]:
    return [figure for one in timings for figure in (one.compute_s, one.handling_s)]


def _checksum(record: RunRecord) -> str:
    bare = msgspec.structs.replace(record, checksum="")
    return hashlib.sha256(msgspec.json.encode(bare, order="deterministic")).hexdigest()
