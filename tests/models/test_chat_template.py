"""Chat templates: the text of Transformers for the templates of common families, and no way out of the sandbox."""

from __future__ import annotations

import datetime

import pytest

from exo_lab.core.errors import ModelError, UnsupportedModel
from exo_lab.models.chat_template import ChatTemplate

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": 'Say "hé" & <b>'},
    {"role": "assistant", "content": " Hé. "},
    {"role": "user", "content": "Again"},
]
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
# The ways of writing templates that common families use, in short.
FAMILIES = {
    "chatml": (
        "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>'}}\n"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "llama": (
        "{{- bos_token }}\n{%- if not tools is defined %}\n    {%- set tools = none %}\n{%- endif %}\n"
        "{%- if tools is not none %}\n    {{- 'tools' }}\n{%- endif %}\n"
        "{%- for m in messages %}\n    {{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n'"
        " + m['content'] | trim + '<|eot_id|>' }}\n{%- endfor %}\n"
        "{%- if add_generation_prompt %}\n    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}\n{%- endif %}"
    ),
    "mistral": (
        "{%- set ns = namespace(index=0, text='') %}{%- for m in messages if m.role != 'system' %}"
        "{%- set ns.index = ns.index + 1 %}{%- if (m.role == 'user') != (ns.index % 2 == 1) %}"
        "{{- raise_exception('roles must alternate') }}{%- endif %}"
        "{%- if m.role == 'user' %}{{- ' [INST] ' + m.content + ' [/INST]' }}{%- else %}{{- m.content + eos_token }}"
        "{%- endif %}{%- endfor %}"
    ),
    "json": "{% for m in messages %}{{ m | tojson }}{{ m | tojson(indent=2) }}{{ dict(a=1) | tojson }}{% endfor %}",
    "loop controls": "{% for m in messages %}{% if loop.index == 3 %}{% break %}{% endif %}{{ m.role }},{% endfor %}",
    "generation": "{% for m in messages %}{% generation %}  {{ m.content }}\n  {% endgeneration %}\n{% endfor %}end",
    "blocks": "  {% if true %}\n    kept\n  {% endif %}\n  {# note #}\nlast",
}


def transformers_text(source: str, messages: list[dict[str, str]], more: bool) -> str:
    from transformers.utils.chat_template_utils import render_jinja_template

    (text,), _ = render_jinja_template(
        conversations=[messages], chat_template=source, add_generation_prompt=more, **SPECIAL
    )
    return text


@pytest.mark.parametrize("more", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_template_gives_the_text_that_transformers_gives(family, more):
    ours = ChatTemplate(FAMILIES[family], SPECIAL, "m").render(MESSAGES, add_generation_prompt=more)
    assert ours == transformers_text(FAMILIES[family], MESSAGES, more)


def test_a_template_that_writes_the_date_writes_the_time_that_it_is_given():
    template = ChatTemplate(
        "{{ strftime_now('%d %b %Y') }}", {}, "m", now=lambda: datetime.datetime(2026, 7, 26, tzinfo=datetime.UTC)
    )
    assert template.render(MESSAGES) == "26 Jul 2026"


def test_what_a_template_says_against_the_messages_reaches_the_user():
    template = ChatTemplate(FAMILIES["mistral"], SPECIAL, "tiny")
    with pytest.raises(ModelError, match="chat template of tiny does not take these messages: roles must alternate"):
        template.render([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}])


@pytest.mark.parametrize(
    "source",
    [
        "{{ 1 / 0 }}",
        "{{ messages[99].content.strip() }}",
        "{{ messages + 1 }}",
        "{% for i in range(999999999) %}{% endfor %}",
        "{{ absent() }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    ],
)
def test_whatever_goes_wrong_in_a_template_is_one_kind_of_error(source):
    with pytest.raises(ModelError, match="does not take these messages"):
        ChatTemplate(source, {}, "m").render(MESSAGES)


@pytest.mark.parametrize("source", ["{% for %}", "{{ 'open", "{% nonsense %}", "{{ x | nonsense }}"])
def test_what_is_no_template_is_refused_when_it_is_used(source):
    with pytest.raises(UnsupportedModel, match="chat template of m cannot be read"):
        ChatTemplate(source, {}, "m").render(MESSAGES)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__class__ }}",
        "{{ raise_exception.__globals__ }}",
        "{{ strftime_now.__globals__['datetime'] }}",
        "{{ namespace.__globals__ }}",
        "{{ dict.__globals__ }}",
        "{{ (messages | attr('__class__')) }}",
        "{{ '{0.__class__}'.format(messages) }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(role='x') }}",
        "{% set n = namespace() %}{% set n.__class__ = 1 %}{{ n }}",
        "{{ namespace(__class__=1) }}",
        "{{ self.__init__.__globals__ }}",
        "{{ lipsum.__globals__['os'] }}",
        "{{ cycler.__init__.__globals__ }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}{{ os.name }}",
    ],
)
def test_a_template_cannot_leave_its_sandbox_or_change_what_it_was_given(source):
    messages = [dict(message) for message in MESSAGES]
    try:
        text = ChatTemplate(source, {}, "m").render(messages)
    except ModelError:
        text = ""  # refused: good
    assert text == ""  # else it sees nothing at all
    assert messages == MESSAGES
