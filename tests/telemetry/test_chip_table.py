"""The table that comes with the package."""

from __future__ import annotations

from exo_lab.telemetry.chip_table import chip_table


def test_the_package_brings_its_table_and_reads_it_once():
    assert chip_table() is chip_table()
    assert chip_table().match("Apple M3 Max").flops.int8 == 56.8
