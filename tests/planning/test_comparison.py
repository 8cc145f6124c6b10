"""The published comparison: near the source's six numbers, and computed by what really plans and simulates."""

from __future__ import annotations

from pathlib import Path

import pytest

from exo_lab.front.comparison_svg import comparison_svg
from exo_lab.front.svg import as_file
from exo_lab.planning import comparison
from exo_lab.planning.choose import choose
from exo_lab.planning.comparison import PUBLISHED, SETTING, STRATEGIES, compare, most_sessions
from exo_lab.telemetry.chip_table import chip_table

DOCS = Path(__file__).parents[2] / "docs"
POINTS, SECONDS = 0.02, 1.5  # how near


@pytest.fixture(scope="module")
def rows():
    return {row.strategy: row for row in compare()}


@pytest.mark.parametrize("strategy", PUBLISHED)
def test_memory_use_and_completion_time_come_near_what_the_source_states(rows, strategy):
    stated, row = PUBLISHED[strategy], rows[strategy]
    assert row.memory_use == pytest.approx(stated.memory_use, abs=POINTS)
    assert row.completion_s == pytest.approx(stated.completion_s, abs=SECONDS)


def test_optimal_beats_all_three_on_completion_time(rows):
    assert tuple(rows) == STRATEGIES
    best = rows["optimal"].completion_s
    assert all(best < rows[name].completion_s for name in PUBLISHED)


@pytest.mark.parametrize("strategy", PUBLISHED)
def test_the_plans_are_those_of_the_strategies_and_one_more_request_would_not_fit(rows, strategy):
    problem, row = SETTING.problem(), rows[strategy]
    assert row.plan == choose(problem, strategy)
    assert row.sessions == most_sessions(problem, row.plan) > 0


def test_every_request_of_the_workload_is_answered_and_the_time_is_that_of_the_last_token(rows):
    for row in rows.values():
        assert row.simulation.tokens == SETTING.requests * SETTING.answer_tokens
        assert row.completion_s == max(session.token_s[-1] for session in row.simulation.sessions)


def test_what_the_docs_show_is_what_is_computed(rows):
    page = (DOCS / "planning.md").read_text(encoding="utf-8")
    for row in rows.values():
        cells = [row.strategy, " ".join(map(str, row.layers)), str(row.sessions)]
        stated = PUBLISHED.get(row.strategy)
        cells.append(
            f"{row.memory_use * 100:.1f} %" + (f" ({stated.memory_use:.0%})".replace("%", " %") if stated else "")
        )
        cells.append(f"{row.completion_s:.1f} s" + (f" ({stated.completion_s:g} s)" if stated else ""))
        assert f"| {' | '.join(cells)} |" in page
    drawn = (DOCS / "images" / "comparison.svg").read_text(encoding="utf-8")
    assert drawn.strip() == as_file(comparison_svg(tuple(rows.values()), PUBLISHED)), (
        "run python -m benchmarks.comparison"
    )


def test_figures_follow_the_setting_and_are_not_typed_in():
    half = compare(SETTING._replace(requests=SETTING.requests // 2))
    assert half[0].completion_s < 0.6 * PUBLISHED["uniform"].completion_s
    equal = compare(SETTING._replace(devices=(comparison.LARGE,) * 3, requests=2))
    assert max(row.memory_use for row in equal[:3]) - min(row.memory_use for row in equal[:3]) < 0.02


@pytest.mark.parametrize("kind", [comparison.SMALL, comparison.LARGE], ids=lambda kind: kind.name)
def test_the_devices_of_the_cluster_are_rows_of_the_chip_table(kind):
    chip = chip_table().match(kind.chip)
    assert chip is not None
    assert (chip.flops.fp32, chip.flops.fp16) == (kind.fp32_tflops, kind.fp16_tflops)
    assert chip.memory_bandwidth_bytes_per_s == kind.bandwidth_gb_per_s * 1e9
    assert chip.memory_bytes == kind.memory_gib << 30
