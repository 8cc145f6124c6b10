"""`{name}` in prompts: looked up, never evaluated."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exo_lab.core.errors import ConfigError
from exo_lab.front.interpolate import interpolate

NAMES = {
    "city": "Paris",
    "rows": [{"text": "a", "n": 1}, {"text": "b", "n": 2}],
    "it": SimpleNamespace(name="x", inner=SimpleNamespace(list=[10, 20])),
    "größe": 3,
}


@pytest.mark.parametrize(
    ("prompt", "result"),
    [
        ("in {city}!", "in Paris!"),
        ("{ city }", "Paris"),
        ('{rows[0]["text"]}{rows[-1]["n"]}', "a2"),
        ("{it.inner.list[1]}", "20"),
        ("{rows[0]['text']}", "a"),
        ("{größe}", "3"),
        ("{{city}} {{}}", "{city} {}"),
        ("{{{city}}}", "{Paris}"),
        ("no braces", "no braces"),
    ],
)
def test_names_attributes_and_items_are_filled_in(prompt, result):
    assert interpolate(prompt, NAMES) == result


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("{nowhere}", "'nowhere'"),
        ("{city.nothing}", ".nothing failed: AttributeError"),
        ("{rows[9]}", "[9] failed: IndexError"),
        ('{rows[0]["no"]}', "KeyError"),
        ("{city()}", "nothing is evaluated"),
        ("{city + city}", "nothing is evaluated"),
        ("{rows[city]}", "nothing is evaluated"),
        ("{city!r}", "nothing is evaluated"),
        ("{it.__class__}", "begin with _"),
        ("{}", "not a variable"),
        ('{"a": 1}', "not a variable"),
        ("{1}", "not a variable"),
        ("a { b", "a single {"),
        ("a }\nb", "a single }"),
        ("x\ny {z", "line 2"),
    ],
)
def test_everything_else_is_a_mistake_that_is_named(prompt, said):
    with pytest.raises(ConfigError) as caught:
        interpolate(prompt, NAMES)
    assert said in str(caught.value)


@given(st.text())
def test_a_doubled_brace_stands_for_itself_so_any_text_can_be_said(text):
    assert interpolate(text.replace("{", "{{").replace("}", "}}"), {}) == text


@given(st.text(alphabet="{}[].ab\"'01 _()"))
def test_any_prompt_gives_a_text_or_our_error(text):
    with contextlib.suppress(ConfigError):
        assert isinstance(interpolate(text, {"a": ["x"], "b": {"a": 1}}), str)


@given(st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), st.text(), min_size=1))
def test_what_is_filled_in_is_not_looked_at_again(names):
    name, value = next(iter(names.items()))
    assert interpolate(f"{{{name}}}", names) == value
