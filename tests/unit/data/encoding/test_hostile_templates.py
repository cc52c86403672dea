"""Chat templates that would take all time or memory: refused soon, and without taking either."""

from __future__ import annotations

import resource
import time

import pytest

from pipeline.data.encoding import template as template_module
from pipeline.data.encoding.template import ChatTemplate
from pipeline.data.reading.records import NO_SETTINGS
from pipeline.errors import PosttrainError
from pipeline.model_files.template_text import template_problem
from tests.small_folders import TEMPLATE, small_tokenizer

TALK = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
LOOP = "{% for i in range(99999) %}"
BOMBS = {
    "a wide number": "{{ '%1000000000d' % 1 }}",
    "a wide format": "{{ '%1000000000d' | format(1) }}",
    "a format of Python's": "{{ '{:>1000000000}'.format(1) }}",
    "a long text": "{{ 'a' * 1000000000 }}",
    "a longer text": "{{ 'a' * 10000000000000 }}",
    "a centred text": "{{ 'a' | center(1000000000) }}",
    "a justified text": "{{ 'a'.ljust(1000000000) }}",
    "a wide indentation": "{{ ('a\n' * 10) | indent(1000000000) }}",
    "loops in loops": LOOP * 4 + "{% endfor %}" * 4,
    "loops that write": LOOP * 3 + "aaaaaaaaaaaaaaaaaaaaaaaa" + "{% endfor %}" * 3,
    "a text that doubles": (
        "{% set n = namespace(x='a') %}" + LOOP + "{% set n.x = n.x ~ n.x %}{% endfor %}"
    ),
    "a number that squares": (
        "{% set n = namespace(x=7) %}" + LOOP + "{% set n.x = n.x * n.x %}{% endfor %}"
    ),
    "a text in each letter": (
        "{% set a = 'a' * 100000 %}{{ a | replace('a', a) | replace('a', a) }}"
    ),
    "a power": "{{ 9 ** 9 ** 9 }}",
    "a power in pieces": "{% set n = 9 %}{{ n ** n ** n }}",
    "more than anybody writes": "{{ 'a' * 2000000 }}",
    "a macro that calls itself": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "more blocks than Python has": "{% for m in messages %}" * 30 + "{% endfor %}" * 30,
    "a template without end": "{% for m in messages %}",
    "brackets in brackets": "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "a missing filter": "{{ 'a' | magic }}",
    "an assertion": "{% generation %}{{ messages.x.y }}{% endgeneration %}",
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=[name.replace(" ", "-") for name in BOMBS])
def test_a_bomb_is_refused_soon(bomb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_module, "RENDER_LIMIT_S", 0.3)
    tokenizer = small_tokenizer()
    tokenizer.chat_template = TEMPLATE + bomb
    limits = resource.getrlimit(resource.RLIMIT_AS)
    began_s = time.process_time()
    with pytest.raises(PosttrainError) as caught:
        ChatTemplate(tokenizer).render(TALK, NO_SETTINGS, "row 3")
    assert time.process_time() - began_s < 5
    assert "template" in str(caught.value)
    assert resource.getrlimit(resource.RLIMIT_AS) == limits


@pytest.mark.parametrize("name", ["a wide number", "a long text"])
def test_a_bomb_gets_no_more_memory_than_a_conversation_needs(name: str) -> None:
    tokenizer = small_tokenizer()
    tokenizer.chat_template = TEMPLATE + BOMBS[name]
    with pytest.raises(PosttrainError, match="MemoryError"):  # not: it writes 1000000000 characters
        ChatTemplate(tokenizer).render(TALK, NO_SETTINGS, "row 3")


def test_what_a_template_may_say_is_let_through() -> None:
    assert template_problem(TEMPLATE) is None
    kept = "{% generation %}{{ 'a' * 3 }}{% endgeneration %}{% break %}"
    assert template_problem("{% for m in messages %}" + kept + "{% endfor %}") is None
