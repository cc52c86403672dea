"""Columns beside those of a form: each with a known meaning is used or refused, the rest named."""

from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from pipeline.config.blocks import DataBlock
from pipeline.config.field_types import DataForm
from pipeline.data.reading.columns import NotUsed
from pipeline.data.reading.files import Row, file_rows
from pipeline.data.reading.formats import parse_rows
from pipeline.data.reading.records import (
    ChatRow,
    DroppedRow,
    Message,
    PreferenceRow,
    PromptRow,
    ToolCall,
)
from pipeline.errors import PosttrainError

SFT: tuple[DataForm, ...] = ("chat", "prompt_completion")
ASKED, ANSWERED = {"from": "human", "value": "Sum?"}, {"from": "gpt", "value": "7"}
USER, ANSWER = {"role": "user", "content": "Sum?"}, {"role": "assistant", "content": "7"}
AREA = {"name": "area", "description": "of a rectangle", "parameters": {"w": "number"}}
WRAPPED = '[{"type": "function", "function": {"name": "area", '


def read(fields: dict[str, Any], forms: tuple[DataForm, ...] = SFT, **asked: Any) -> Any:
    (record,) = parse_rows([Row("f:1", fields)], DataBlock(file="f.jsonl", **asked), forms)
    return record


@pytest.mark.parametrize(
    "fields",
    [
        {"conversations": [ASKED, ANSWERED]},
        {"messages": [USER, ANSWER]},
        {"instruction": "Sum?", "output": "7"},
        {"prompt": [USER], "completion": [ANSWER]},
    ],
    ids="+".join,
)
def test_a_column_system_is_the_system_turn_of_every_chat(fields: dict[str, Any]) -> None:
    row = read({**fields, "system": "Be brief."})
    assert row.messages[0] == Message("system", "Be brief.")
    assert [each.role for each in row.messages] == ["system", "user", "assistant"]
    for nothing in (None, "", " "):
        assert len(read({**fields, "system": nothing}).messages) == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"conversations": [ASKED], "chosen": ANSWERED, "rejected": {"from": "gpt", "value": "8"}},
        {"prompt": [USER], "chosen": "7", "rejected": "8"},
        {"instruction": "Sum?", "chosen": "7", "rejected": "8"},
        {"chosen": [USER, ANSWER], "rejected": [USER, {**ANSWER, "content": "8"}]},
    ],
    ids="+".join,
)
def test_a_pair_has_a_system_turn_and_tools_too(fields: dict[str, Any]) -> None:
    given = {**fields, "system": "Be brief.", "tools": [AREA]}
    row = read(given, ("preference",))
    assert isinstance(row, PreferenceRow)
    assert row.prompt == (Message("system", "Be brief."), Message("user", "Sum?"))
    assert row.settings.tools.startswith(WRAPPED)
    prompt = read(given, ("prompt",))
    assert isinstance(prompt, PromptRow)
    assert (prompt.messages, prompt.settings) == (row.prompt, row.settings)


def test_two_system_turns_that_differ_are_refused_and_two_that_agree_are_one() -> None:
    system = {"role": "system", "content": "Be brief."}
    assert len(read({"messages": [system, USER, ANSWER], "system": "Be brief. "}).messages) == 3
    with pytest.raises(PosttrainError, match="a column `system` and a system turn, and they diff"):
        read({"messages": [system, USER, ANSWER], "system": "Talk."})


def test_alpacas_history_stands_before_its_instruction() -> None:
    fields = {"instruction": "And a spider?", "input": "", "output": "Eight."}
    row = read({**fields, "system": "Legs.", "history": [["A dog?", "Four."], ["An ant?", "Six."]]})
    assert [(each.role, each.content) for each in row.messages] == [
        ("system", "Legs."),
        ("user", "A dog?"),
        ("assistant", "Four."),
        ("user", "An ant?"),
        ("assistant", "Six."),
        ("user", "And a spider?"),
        ("assistant", "Eight."),
    ]
    with pytest.raises(PosttrainError, match=r"f:1: `history\[0\]` is no pair; it is a list of"):
        read({**fields, "history": [["A dog?"]]})


def test_an_instruction_with_two_outputs_is_a_pair() -> None:
    fields = {"instruction": "Translate.", "input": "Hund", "chosen": "dog", "rejected": "cat"}
    row = read(fields, ("preference",))
    assert row.prompt == (Message("user", "Translate.\n\nHund"),)
    assert (row.chosen, row.rejected, row.text) == ("dog", "cat", None)


@pytest.mark.parametrize(
    "tools", [[AREA], '[{"name": "area", "parameters": null}]', ['{"name": "area"}']]
)
def test_tools_are_a_list_or_its_json_and_are_wrapped_as_servers_do(tools: Any) -> None:
    row = read({"messages": [USER, ANSWER], "tools": tools})
    assert row.settings.tools.startswith('[{"type": "function", "function": {"name": "area"')
    assert "null" not in row.settings.tools
    for nothing in (None, [], "", "[]"):
        assert read({"messages": [USER, ANSWER], "tools": nothing}).settings.tools == ""


@pytest.mark.parametrize(
    ("tools", "words"),
    [
        ("area", "`tools` is a text and no JSON"),
        ({"name": "area"}, "`tools` is an object, not a list"),
        ([{"description": "x"}], "a function without a `name`"),
        (["[1]"], "`tools` holds a list, not an object"),
    ],
)
def test_tools_that_are_none_are_named(tools: Any, words: str) -> None:
    with pytest.raises(PosttrainError) as raised:
        read({"messages": [USER, ANSWER], "tools": tools})
    assert words in str(raised.value)


def test_sharegpts_calls_and_observations_are_turns() -> None:
    call = {"from": "function_call", "value": '{"name": "area", "arguments": {"w": 5}}'}
    seen = {"from": "observation", "value": '{"area": 15}'}
    row = read({"conversations": [ASKED, call, seen, ANSWERED]})
    assert row.messages[1] == Message("assistant", "", calls=(ToolCall("area", '{"w": 5}'),))
    assert row.messages[2] == Message("tool", '{"area": 15}')
    with pytest.raises(PosttrainError, match=r"`conversations\[1\].value` is a text and no JSON"):
        read({"conversations": [ASKED, {**call, "value": "area(5)"}, seen, ANSWERED]})


def test_openais_calls_answers_and_reasoning_are_turns() -> None:
    inner = {"name": "find", "arguments": '{"q": "wren"}'}
    calling = {"role": "assistant", "content": None, "reasoning_content": "Look it up."}
    calling["tool_calls"] = [{"id": "c1", "type": "function", "function": inner}]  # type: ignore[assignment]
    seen = {"role": "tool", "name": "find", "tool_call_id": "c1", "content": ""}
    row = read({"messages": [USER, calling, seen, ANSWER]})
    call = ToolCall("find", '{"q": "wren"}', "c1")
    assert row.messages[1] == Message("assistant", "", "Look it up.", (call,))
    assert row.messages[2] == Message("tool", "", name="find", call_id="c1")
    earlier = {"role": "assistant", "content": "", "function_call": inner}
    assert read({"messages": [USER, earlier]}).messages[1].calls[0].name == "find"


def test_a_content_of_parts_is_the_text_of_them() -> None:
    parts = [{"type": "text", "text": "Su"}, {"type": "text", "text": "m?"}]
    assert read({"messages": [{**USER, "content": parts}, ANSWER]}).messages[0].content == "Sum?"
    seen = [*parts, {"type": "image_url", "image_url": {"url": "x"}}]
    with pytest.raises(PosttrainError, match=r"`messages\[0\].content\[2\]` is of the type `image"):
        read({"messages": [{**USER, "content": seen}, ANSWER]})


@pytest.mark.parametrize(
    "mark", [{"weight": 0}, {"train": False}, {"training": False}, {"loss": False}]
)
def test_a_turn_that_is_marked_so_is_read_and_not_learnt(mark: dict[str, Any]) -> None:
    row = read({"messages": [USER, {**ANSWER, **mark}, USER, {**ANSWER, "weight": 1}]})
    assert [each.is_trained for each in row.messages] == [True, False, True, True]
    with pytest.raises(PosttrainError, match="no assistant turn of `messages` is to be trained on"):
        read({"messages": [USER, {**ANSWER, **mark}]})
    with pytest.raises(PosttrainError, match=r"`messages\[1\].weight` is 0.5, and a turn is tra"):
        read({"messages": [USER, {**ANSWER, "weight": 0.5}]})


def test_a_prompt_and_a_completion_of_messages_are_a_chat_of_which_the_second_is_learnt() -> None:
    row = read({"prompt": [USER, ANSWER, USER], "completion": [ANSWER]})
    assert isinstance(row, ChatRow)
    assert [each.is_trained for each in row.messages] == [False, False, False, True]


@pytest.mark.parametrize(
    "fields",
    [{"prompt": "a", "completion": "b"}, {"messages": [USER, ANSWER]}],
    ids="+".join,
)
@pytest.mark.parametrize("label", [True, False])
def test_rows_with_a_label_are_no_demonstrations(fields: dict[str, Any], label: bool) -> None:
    with pytest.raises(PosttrainError, match=r"f:1: `label` says whether .* wanted .KTO., and all"):
        read({**fields, "label": label})
    assert read({**fields, "label": 3}) == read(fields)  # a class, say: not used


@pytest.mark.parametrize("name", ["images", "image", "audios", "videos"])
def test_what_is_to_be_seen_or_heard_is_refused(name: str) -> None:
    with pytest.raises(PosttrainError, match=f"`{name}` is for models that see or hear"):
        read({"messages": [USER, ANSWER], name: ["a.png"]})
    assert read({"messages": [USER, ANSWER], name: []}) == read({"messages": [USER, ANSWER]})


@pytest.mark.parametrize("name", ["system", "tools", "history"])
def test_what_belongs_to_a_chat_is_refused_beside_a_text(name: str) -> None:
    beside = {"system": "Be brief.", "tools": [AREA], "history": [["a", "b"]]}[name]
    with pytest.raises(PosttrainError, match=f"`{name}` belongs to a chat, and `prompt` is a text"):
        read({"prompt": "a", "completion": "b", name: beside})
    with pytest.raises(PosttrainError, match=r"`columns: \{instruction: prompt\}` makes a chat"):
        read({"prompt": "a", "chosen": "b", "rejected": "c", name: beside}, ("preference",))


def test_columns_and_keys_that_nothing_is_made_of_are_named_once() -> None:
    rows = [
        Row("f:1", {"messages": [USER, {**ANSWER, "logprob": -1.0}], "id": 1, "tags": []}),
        Row("f:2", {"messages": [USER, ANSWER], "id": 2, "tags": ["x"], "system": "Hi"}),
    ]
    not_used = NotUsed()
    assert len(list(parse_rows(rows, DataBlock(file="f.jsonl"), SFT, not_used))) == 2
    assert not_used.names == ("messages[].logprob", "id", "tags")
    handed = NotUsed()
    asked = [Row("f:1", {"prompt": "Hi", "id": 1})]
    list(parse_rows(asked, DataBlock(file="f.jsonl"), ("prompt",), handed))
    assert handed.names == ()  # reward functions are handed all of them


def test_a_prompt_keeps_a_column_source_beside_the_source_that_it_is_from() -> None:
    row = read({"prompt": "Hi", "source": "exam"}, ("prompt",))
    assert (row.columns, row.source) == ({"source": "exam"}, "f.jsonl")


TOOL = {
    "name": "area",
    "parameters": {
        "properties": {
            "w": {"type": "number"},
            "unit": {"type": ["string", "null"]},
            "box": {"type": "object", "properties": {"h": {"type": "number", "nullable": True}}},
            "round": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "any": {},
        }
    },
}
FILLED = {"w": None, "unit": None, "box": {"h": None, "d": None}, "round": None, "place": None}
KEPT = '{"unit": null, "box": {"h": null}, "round": null}'


def call_of(arguments: Any) -> dict[str, Any]:
    called = {"function": {"name": "area", "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [called]}


def test_nulls_that_arrow_filled_in_are_left_out_where_the_tool_takes_none() -> None:
    def kept(arguments: Any, tools: Any) -> str:
        row = read({"messages": [USER, call_of(arguments)], "tools": tools})
        return row.messages[1].calls[0].arguments

    assert kept(FILLED, [TOOL]) == KEPT
    assert kept({"any": None, "w": 5}, [TOOL]) == '{"any": null, "w": 5}'
    assert kept({"w": 5, "place": None}, None) == '{"w": 5}'
    assert kept({"box": [{"d": None, "h": 1}]}, None) == '{"box": [{"h": 1}]}'
    assert kept('{"w": null}', [TOOL]) == '{"w": null}'  # a text, which Arrow leaves alone


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": [USER, call_of(FILLED), {"role": "tool", "content": "15"}]},
        {"conversations": [ASKED]},
    ],
    ids=["asked", "answered"],
)
def test_nulls_that_arrow_filled_in_are_left_out_of_pairs_and_prompts(fields: Any) -> None:
    is_asked = "prompt" in fields
    given = {**fields, "chosen": call_of(FILLED), "rejected": call_of({"w": 1}), "tools": [TOOL]}
    if not is_asked:
        for name in ("chosen", "rejected"):
            given[name] = {"from": "gpt", "value": "", "tool_calls": given[name]["tool_calls"]}
    pair = read(given, ("preference",))
    assert pair.turns[0].calls[0].arguments == KEPT
    if is_asked:
        assert pair.prompt[1].calls[0].arguments == KEPT
        asked = read({**fields, "tools": [TOOL]}, ("prompt",))
        assert asked.messages == pair.prompt


def test_two_responses_that_differ_in_filled_nulls_alone_are_equal() -> None:
    given = {
        "prompt": [USER],
        "chosen": call_of({"w": 1, "x": None}),
        "rejected": call_of({"w": 1}),
    }
    assert isinstance(read(given, ("preference",)), DroppedRow)


def test_a_parquet_file_of_chats_with_tools_is_what_its_rows_were(tmp_path: Path) -> None:
    tools = [
        {"name": "area", "parameters": {"properties": {"w": {"type": "number"}}}},
        {"name": "f"},
    ]
    rows = [
        {"messages": [USER, call_of({"w": 5}), {"role": "tool", "content": "5"}, ANSWER]},
        {
            "messages": [
                USER,
                call_of({"q": {"deep": "x"}}),
                {"role": "tool", "content": "6"},
                ANSWER,
            ]
        },
        {"messages": [USER, ANSWER]},
    ]
    rows = [{**row, "tools": tools} for row in rows]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "f.parquet")
    found = [
        parse_rows([Row("f:1", row.fields)], DataBlock(file="f.parquet"), SFT)
        for row in file_rows(tmp_path / "f.parquet", "f.parquet")
    ]
    assert [next(one) for one in found] == [read(row) for row in rows]
