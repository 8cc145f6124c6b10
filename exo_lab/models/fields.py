"""Numbers out of a model file's own description, checked before they are believed. Shared by every format. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from exo_lab.core.errors import CorruptModel

if TYPE_CHECKING:
    from collections.abc import Mapping

LARGEST = 1 << 31  # of a size or count; no model comes near


class Fields:
    """A table of named values.

    Args:
        data: the table.
        where: the file or model that it describes, for messages.
        prefix: of every key.
    """

    def __init__(self, data: Mapping[str, object], where: str, prefix: str = "") -> None:
        self._data, self._where, self._prefix = data, where, prefix

    def get(self, key: str) -> object:
        """The value as it is, None if there is none."""
        return self._data.get(self._prefix + key)

    def whole(self, key: str, default: int | None = None) -> int:
        """A whole number in [1, 2^31); CorruptModel if it is missing without a default, or something else."""
        value = self.get(key)
        value = default if value is None else value
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < LARGEST:
            raise self._wrong(key, value, "a whole number above 0")
        return value

    def real(self, key: str, default: float | None = None) -> float:
        """A finite number above 0; CorruptModel if it is missing without a default, or something else."""
        value = self.get(key)
        value = default if value is None else value
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
            raise self._wrong(key, value, "a number above 0")
        return float(value)

    def _wrong(self, key: str, value: object, wanted: str) -> CorruptModel:
        found = "missing" if value is None else repr(value)[:80]
        return CorruptModel(
            f"{self._where}: {self._prefix}{key} is {found}; {wanted} is needed. Try another file of this model."
        )
