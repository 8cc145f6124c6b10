"""Chat templates: the text of Transformers for the templates of common families, and no way out of the sandbox."""

from __future__ import annotations

import datetime
import tracemalloc

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


DOUBLING = "{{% set n = namespace(x='a') %}}{{% for i in range(60) %}}{{% set n.x = {} %}}{{% endfor %}}{{{{ n.x }}}}"
LONG = "{% set a = 'a' * 5000000 %}"
BOMBS = [
    "{{ 'a' * 10**10 }}",
    "{{ 10**10 * 'a' }}",
    "{{ [0] * 10**10 }}",
    "{{ 9 ** 9 ** 9 ** 9 ** 9 ** 9 }}",
    "{% set n = namespace(x=9) %}{% for i in range(60) %}{% set n.x = n.x * n.x %}{% endfor %}",
    DOUBLING.format("n.x + n.x"),
    DOUBLING.format("n.x ~ n.x"),
    DOUBLING.format("[n.x, n.x]"),
    DOUBLING.format("[n.x, n.x] | join"),
    DOUBLING.format("[n.x, n.x] | tojson"),
    DOUBLING.format("'{0}{0}'.format(n.x)"),
    DOUBLING.format("'%s%s' % (n.x, n.x)"),
    DOUBLING.format("'%s%s' | format(n.x, n.x)"),
    DOUBLING.format("n.x | replace('a', 'aaaa')"),
    DOUBLING.format("n.x.replace('a', 'aaaa')"),
    "{{ '%10000000000d' % 1 }}",
    "{{ '%*d' % (10**10, 1) }}",
    "{{ '{:>10000000000}'.format(1) }}",
    "{{ '{:>{}}'.format(1, 10**10) }}",
    "{{ 'a'.ljust(10**10) }}{{ 'a' | center(10**10) }}",
    "{{ 'a'.zfill(10**10) }}",
    "{{ [1] | batch(10**10, 0) | list }}",
    "{{ 'a\n\na' | indent(10**10) }}",
    "{{ '\t'.expandtabs(10**10) }}",
    "{{ 'aaaa'.translate({97: 'a' * 10}) }}{{ 'a' * 10**10 }}",
    "{{ lipsum(n=10**6) }}",
    LONG + "{{ [a, a, a] | join }}",
    LONG + "{{ ''.join([a, a, a]) }}",
    LONG + "{{ [a, a, a] }}",
    LONG + "{{ [a, a, a] | map('upper') | join }}",
    LONG + "{{ a }}{{ a }}",
    LONG + "{% set b %}{% for i in range(1000) %}{{ a }}{% endfor %}{% endset %}",
]


@pytest.mark.parametrize("source", BOMBS)
def test_a_template_that_would_fill_the_memory_is_stopped_before_it_does(source):
    tracemalloc.start()
    try:
        with pytest.raises(ModelError, match=r"it makes|wide field|is unsafe|'lipsum' is undefined"):
            ChatTemplate(source, {}, "m").render(MESSAGES)
        assert tracemalloc.get_traced_memory()[1] < 200_000_000
    finally:
        tracemalloc.stop()


ENDLESS = "{% for i in range(100000) %}{% for j in range(100000) %}BODY{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    "source",
    [
        ENDLESS.replace("BODY", ""),
        ENDLESS.replace("BODY", "{{ '' }}"),
        "{% set l = [0] * 100000 %}{% for i in l %}{% for j in l %}{% endfor %}{% endfor %}",
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    ],
)
def test_a_template_that_would_run_forever_is_stopped_when_its_time_is_over(source):
    with pytest.raises(ModelError, match="it takes too long"):
        ChatTemplate(source, {}, "m", deadline_s=0.2).render(MESSAGES)


def test_long_conversations_are_no_bombs():
    messages = [{"role": "user", "content": "words and more words\n" * 5000}] * 20
    for family in ("chatml", "llama", "json"):
        text = ChatTemplate(FAMILIES[family], SPECIAL, "m").render(messages)
        assert text == transformers_text(FAMILIES[family], messages, True)


def test_helpers_that_make_texts_give_what_they_give_without_a_sandbox():
    source = (
        "{% for m in messages %}{{ m.content.replace('a', 'b') }}{{ ','.join([m.role]) }}{% endfor %}"
        "{{ ['a', 1, none] | join(', ') }}{{ messages | join('|', attribute='role') }}{{ 'a-b' | replace('-', '+') }}"
        "{{ 'a-b-c'.replace('-', '+', 1) }}{{ '-'.join(['x', 'y']) }}{{ 'a\nb' | indent(2) }}"
        "{{ '%s=%05.1f' % ('x', 2) }}"
        "{{ '%s!' | format('y') }}{{ '{}: {:>5}'.format('k', 7) }}{{ 'ab' * 3 ~ 1 ~ none ~ [2] }}{{ 2 ** 10 }}"
        "{{ '{{\"a\": {}}}'.format(1) }}{{ 'x'.ljust(5, '.') }}{{ 'abc' | center(7) }}"
        "{{ [1, 2, 3] | batch(2) | list }}"
    )
    assert ChatTemplate(source, SPECIAL, "m").render(MESSAGES) == transformers_text(source, MESSAGES, True)
