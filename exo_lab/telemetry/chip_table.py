"""The chip table that comes with the package. Read when it is first asked for, and kept."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

from exo_lab.core.chips import ChipTable, read_rows
from exo_lab.core.errors import ConfigError


@lru_cache(maxsize=1)
def chip_table() -> ChipTable:
    """The table of `exo_lab/data/chips.csv`.

    Raises:
        ConfigError: the file is missing or broken; the installation is then.
    """
    path = files("exo_lab") / "data" / "chips.csv"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as exc:
        raise ConfigError(f"the chip table {path} cannot be read ({exc}); reinstall exo-lab") from exc
    return ChipTable(read_rows(text))
