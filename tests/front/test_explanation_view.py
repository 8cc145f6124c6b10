"""What a plan is predicted to do: said as a prediction, with where its numbers come from."""

from __future__ import annotations

import re

import pytest

from exo_lab.front.explanation_view import explanation_html, explanation_text, origins, predicted
from exo_lab.front.views import PlanView
from tests.front.fakes import FakeCluster


@pytest.fixture
def made():
    return FakeCluster().explain("smollm2-135m")


def test_the_prediction_says_that_it_is_one_and_where_its_numbers_come_from(made):
    view = PlanView.of_preview(made.preview, made.links, explanation=made.explanation)
    for shown in (view.text(), view.html()):
        assert "predicted" in shown
        assert "assumed" in shown
        assert "first token of a prompt of 512" in shown
    assert f"{made.explanation.prediction.tokens_per_s:.3g} tokens/s" in predicted(made.explanation)
    assert origins(made.explanation)[-1] == "assumed"


def test_reasons_and_every_number_are_shown_when_they_are_asked_for(made):
    explanation = made.explanation
    brief, full = ("\n".join(explanation_text(explanation, in_full=in_full)) for in_full in (False, True))
    assert explanation.summary not in brief
    assert explanation.summary in full
    for one in explanation.tables:
        for row in one.rows:
            assert row[0] in full
    assert "overhead of a stage" in full
    assert len(re.findall("<table", explanation_html(explanation, in_full=True))) == 3
    assert "<table" not in explanation_html(explanation, in_full=False)


def test_a_plan_without_an_explanation_predicts_nothing(made):
    view = PlanView.of_preview(made.preview)
    assert "predicted" not in view.text()
    assert "predicted" not in view.html()
