"""eval/tools/calls.py: what is a call in what a model wrote, and what is told of a bad one."""

import json

import pytest
from transformers.utils.chat_parsing import parse_response

from eval.tools.calls import Call, JsonCalls, PythonCalls, marked_format
from pipeline.model_files.own_template import CHAT_TEMPLATE
from tests.unit.data.small_tokenizers import byte_level_tokenizer

JSON, PYTHON = JsonCalls(), PythonCalls()


def _json_call(name: str, **arguments: object) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def test_two_calls_in_one_turn_are_two_calls_in_order() -> None:
    text = f"I need both.\n{_json_call('add', a=1)}\n{_json_call('sub', b='ä')}<|im_end|>"
    assert JSON.read(text) == [Call("add", {"a": 1}), Call("sub", {"b": "ä"})]


@pytest.mark.parametrize(
    "text",
    [
        'Ünïcode "quotes" <tool_call>\n{"name": "f", "arguments": {"x": "日本"}}\n</tool_call>',
        "<think>\nwhat if\n</think>\n\n" + _json_call("f", x=[1, {"y": None}]),
        f"<think>{_json_call('no')}</think>{_json_call('yes')}",
        f"<think>{_json_call('cut')}",
        "no call at all",
        _json_call("f") + "\n" + _json_call("g", z=2.5),
    ],
)
def test_what_transformers_reads_in_qwens_format_is_what_is_read_here(text: str) -> None:
    from trl.chat_template_utils import qwen3_template

    theirs = parse_response(text, qwen3_template, prefix="<|im_start|>assistant\n")
    expected = [one["function"] for one in theirs.get("tool_calls", [])]
    assert [{"name": c.name, "arguments": c.arguments} for c in JSON.read(text)] == expected


def test_a_thought_that_the_generation_prompt_opened_holds_no_calls() -> None:
    text = f"maybe {_json_call('no')} or\n</think>\n{_json_call('yes')}"
    assert JsonCalls("<|im_start|>assistant\n<think>\n").read(text) == [Call("yes", {})]
    closed = JsonCalls("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert [call.name for call in closed.read(_json_call("yes"))] == ["yes"]


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("{'name': 'f'}", "no JSON"),
        ('{"name": "f", "arguments": {"x": NaN}}', "NaN is no number"),
        ("[1]", 'a call is {"name"'),
        ('{"arguments": {}}', 'a call is {"name"'),
        ('{"name": 3, "arguments": {}}', 'a call is {"name"'),
        ('{"name": "f", "arguments": [1]}', "`arguments` is no JSON object"),
        ('{"name": "f", "arguments": "x"}', "`arguments` is no JSON object"),
        ('{"name": "f", "arguments": {"x": ' + "[" * 9000 + "]" * 9000 + "}}", "too deeply"),
        ('{"name": "f", "arguments": {"x": "' + "y" * 30_000 + '"}}', "characters"),
        ('{"name": "f", "arguments": {"x": ' + "9" * 5000 + "}}", "digits"),
        ("", "no JSON"),
    ],
)
def test_a_call_that_cannot_be_read_says_why_and_stops_no_other(written: str, problem: str) -> None:
    calls = JSON.read(f"<tool_call>{written}</tool_call>{_json_call('f', x=1)}")
    assert problem in calls[0].problem
    assert len(calls[0].problem) < 300
    assert calls[1:] == [Call("f", {"x": 1})]


def test_a_call_without_an_end_is_read_up_to_the_next() -> None:
    first, second = JSON.read('<tool_call>{"name": "f"}<tool_call>{"name": "g"}')
    assert (first, second) == (Call("f", {}), Call("g", {}))


def test_arguments_as_json_text_are_read_as_the_object_they_are() -> None:
    text = '<tool_call>{"name": "f", "arguments": "{\\"x\\": 1}"}</tool_call>'
    assert JSON.read(text) == [Call("f", {"x": 1})]


def test_calls_in_the_form_of_python_have_named_values() -> None:
    text = 'So: <|system|>f(x="a, b)(", y=[1, {"z": null}] )<|system|> now()<|end|>'
    assert PYTHON.read(text) == [Call("f", {"x": "a, b)(", "y": [1, {"z": None}]}), Call("now", {})]
    assert PYTHON.read("f(x=1)<|end|>") == []


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("12 * 34", "a call is name(argument=value), not: 12 * 34"),
        ('f("a")', "a call is name(argument=value)"),
        ("f(x=1, x=2)", "a call is name(argument=value)"),
        ("f(x=1,)", "a call is name(argument=value)"),
        ("f(x=1", "a call is name(argument=value)"),
        ("f(", "a call is name(argument=value)"),
        ("f(x=1) and more", "a call is name(argument=value)"),
        ("f(x=12*34)", "a call is name(argument=value)"),
        ("f(x=a)", "the value of x is no JSON"),
        ("f(x=NaN)", "the value of x is no JSON"),
        ("f(x=" + "[" * 9000, "the value of x is no JSON"),
        ("f(x=" + "9" * 5000 + ")", "the value of x is no JSON"),
        ("f(x=" + "1" * 30_000, "characters"),
    ],
)
def test_a_bad_call_in_the_form_of_python_says_why_and_stops_no_other(
    written: str, problem: str
) -> None:
    first, second = PYTHON.read(f"<|system|>{written}<|system|>f(x=1)<|end|>")
    assert problem in first.problem
    assert len(first.problem) < 300
    assert second == Call("f", {"x": 1})


def test_what_the_template_of_models_made_from_nothing_writes_is_read_back() -> None:
    arguments = {"text": 'a "quoted" line\n', "n": 3, "deep": {"list": [True, None, 0.5]}}
    calls = [{"function": {"name": "f", "arguments": arguments}}, {"name": "g", "arguments": {}}]
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "So", "tool_calls": calls},
    ]
    tokenizer = byte_level_tokenizer()
    text = tokenizer.apply_chat_template(turns, chat_template=CHAT_TEMPLATE, tokenize=False)
    written = str(text).partition("<|assistant|>")[2]
    read = marked_format(CHAT_TEMPLATE)
    assert read is not None
    assert read.read(written) == [Call("f", arguments), Call("g", {})]


def test_a_template_names_its_format_in_a_comment() -> None:
    assert marked_format("{# posttrain: tool_calls=json #}") == JsonCalls()
    assert marked_format("{#posttrain:tool_calls=python#}") == PythonCalls()
    assert marked_format("{{ messages }}") is None
    with pytest.raises(ValueError, match="xml"):
        marked_format("{# posttrain: tool_calls=xml #}")
