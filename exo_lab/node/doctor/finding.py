"""What the doctor says of one step."""

from __future__ import annotations

from typing import Literal

import msgspec

Verdict = Literal["ok", "warn", "fail"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One step: what was seen, and what to do about it (empty if nothing)."""

    step: str
    verdict: Verdict
    seen: str
    do: str = ""
