"""The heatmap loses no time: what stages spent and what lay between them make up every token's interval."""

from __future__ import annotations

import csv
import io
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exo_lab.core.messages import StageTiming
from exo_lab.core.status import TokenEvent
from exo_lab.front.widgets.heat import heat
from exo_lab.front.widgets.heat_svg import TOKENS, scale_of
from exo_lab.front.widgets.heat_view import NOTHING, HeatView
from tests.front import scenes

MEMBERS = scenes.devices()
IDS = tuple(one.id for one in MEMBERS)
STAGE = st.tuples(st.floats(0, 0.01), st.floats(0, 0.003))


def tokens(stages: list[list[tuple[float, float]]], wire_s: float = 0.002, texts: str = "abc") -> list[TokenEvent]:
    """Tokens whose stages compute and hold so long, and that spend `wire_s` between them."""
    at_s, made = 0.5, []
    for i, spent in enumerate(stages):
        at_s += wire_s + sum(c + q for c, q in spent) if i else 0.0
        timings = tuple(StageTiming(id_, c, c + q) for id_, (c, q) in zip(IDS, spent, strict=True))
        made.append(TokenEvent(index=i, token=i, text=texts, logprob=-0.1, at_s=at_s, timings=timings))
    return made


def view(count: int = 30, **options) -> HeatView:
    made = tokens([[(0.004, 0.0004), (0.008, 0.0002), (0.002, 0.001)]] * count)
    return HeatView(made, scenes.stats(tokens=count), MEMBERS, **options)


@given(st.lists(st.lists(STAGE, min_size=3, max_size=3), min_size=2, max_size=40), st.floats(0, 0.02))
def test_computing_waiting_and_wire_make_up_the_time_between_two_tokens(stages, wire_s):
    made = heat(tokens(stages, wire_s), IDS)
    assert [split.index for split in made.splits] == list(range(1, len(stages)))
    for split in made.splits:
        assert sum(split.compute_s) + sum(split.queue_s) + split.wire_s == pytest.approx(split.total_s, abs=1e-9)
        assert split.wire_s == pytest.approx(wire_s, abs=1e-9)


def test_clocks_that_disagree_give_no_negative_wire():
    events = tokens([[(0.001, 0.0)] * 3] * 3, wire_s=0.0)
    hurried = [TokenEvent(index=e.index, token=0, text="", logprob=0.0, at_s=0.5, timings=e.timings) for e in events]
    assert all(split.wire_s == 0.0 and split.total_s == 0.0 for split in heat(hurried, IDS).splits)


def test_a_device_of_an_earlier_plan_keeps_its_time():
    events = tokens([[(0.001, 0.0)] * 3] * 3)
    made = heat(events, IDS[:2])
    assert made.devices == IDS
    assert made.splits[0].compute_s[2] == 0.001
    stats = scenes.stats(plan=scenes.plan(MEMBERS[:2], (20, 10)))
    assert "an earlier plan" in HeatView(events, stats, MEMBERS).html()


def test_the_prompt_s_time_is_left_out_and_one_token_is_too_few():
    assert view(1).heat.splits == ()
    assert "two tokens at least" in view(1).html()
    assert NOTHING in view(0).text()
    assert [split.index for split in view(5).heat.splits] == [1, 2, 3, 4]


def test_the_picture_is_well_formed_bounded_and_says_its_means_in_words():
    picture = view(2000).html()
    drawn = ElementTree.fromstring(picture[picture.index("<svg") : picture.index("</svg>") + 6])
    titles = list(drawn.iter("{http://www.w3.org/2000/svg}title"))
    assert len(titles) == TOKENS
    assert len(picture) < 150_000
    assert "kernel-2 computes 8.00 ms" in drawn.get("aria-label", "")
    assert f"the latest {TOKENS} drawn" in picture


def test_one_slow_token_does_not_make_all_others_pale():
    stages = [[(0.004, 0.0001)] * 3 for _ in range(100)]
    stages[50] = [(4.0, 0.0001)] * 3
    assert scale_of(heat(tokens(stages), IDS).splits, [1, 1, 1]).layer_s == pytest.approx(0.004)


def test_only_the_latest_tokens_if_so_asked():
    assert [split.index for split in view(30, last=4).heat.splits] == [26, 27, 28, 29]


def test_the_shares_of_the_table_add_up():
    rows = view()._rows(in_html=False)
    assert sum(int(row[-1].rstrip("%")) for row in rows) == pytest.approx(100, abs=2)
    assert rows[-1][1] == "between the stages"
    assert "kernel-2 (emulated: memory 96 MB, 2x slower)" in view().text()


def test_the_csv_has_every_token_and_every_stage(tmp_path):
    path = tmp_path / "heat.csv"
    text = view(5).csv(path)
    assert path.read_text() == text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 4
    assert float(rows[0]["stage 1 kernel-2 compute_s"]) == pytest.approx(0.008)
    assert float(rows[0]["wire_s"]) == pytest.approx(0.002)


def test_a_token_s_text_stays_text():
    made = tokens([[(0.001, 0.0)] * 3] * 3, texts='</title><script>"')
    assert "<script" not in HeatView(made, scenes.stats(), MEMBERS).html()
