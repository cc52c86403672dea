"""A file of questions and answers as a task: columns, ways to compare, options, what is refused."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from eval.asking.run import make_questions
from eval.task import Example, Task
from eval.tasks.benchmark import RowsError
from pipeline.config.blocks import DataBlock
from pipeline.config.references import Places
from pipeline.config.task_names import task_names
from pipeline.data.reading.tasks import check_task, load_task
from pipeline.errors import PosttrainError
from pipeline.stages.evaluate import EvaluateConfig

CAPITAL = {"question": "What is the capital of Peru?", "answer": "Lima"}


def task_of(folder: Path, rows: list[Mapping[str, Any]], settings: str) -> Task:
    (folder / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_task(f"qa(file=mine.jsonl, {settings})", Places(folder))


def only(folder: Path, row: Mapping[str, Any], settings: str) -> tuple[Task, Example]:
    task = task_of(folder, [row], settings)
    (example,) = task.examples("test")
    return task, example


def score(folder: Path, row: Mapping[str, Any], settings: str, response: str) -> float | None:
    task, example = only(folder, row, settings)
    return task.verify(response, example.reference).score


def test_a_csv_is_a_task_in_one_line(tmp_path: Path):
    with (tmp_path / "mine.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("id", "Question", "answer"), (1, "2 + 2?", "4"), (2, "3 + 3?", "6")])
    name = "qa(file=mine.csv, question=Question, match=number)"
    task = load_task(name, Places(tmp_path))
    assert task.name == "qa(file=mine.csv, question=Question, match=number)"
    assert {each.prompt: each.reference for each in task.test_items(9)} == {
        "2 + 2?": "4",
        "3 + 3?": "6",
    }
    assert check_task(name, Places(tmp_path)).endswith(
        "examples: 2 test; question from `Question`, answer from `answer`; not used: `id`"
    )


@pytest.mark.parametrize(
    ("match", "response", "right"),
    [
        ("exact", "Lima", 1.0),
        ("exact", ' "lima." ', 1.0),
        ("exact", "The capital is Lima.", 0.0),
        ("contains", "The capital of Peru is Lima.", 1.0),
        ("contains", "LIMA!", 1.0),
        ("contains", "It is not Lima.", 0.0),
        ("contains", "Limassol", 0.0),
        ("contains", "", 0.0),
    ],
)
def test_a_text_is_compared_as_the_recipe_says(
    tmp_path: Path, match: str, response: str, right: float
):
    assert score(tmp_path, CAPITAL, f"match={match}", response) == right


@pytest.mark.parametrize(
    ("answer", "response", "right"),
    [
        (12, "That makes 12 apples.", 1.0),
        ("1,200", "It is 1200.", 1.0),
        ("5 km", "5", 1.0),
        ("so 2 + 2 = 4\n#### 4", "#### 4", 1.0),
        (0.5, "1/2", 1.0),
        (12, "13", 0.0),
    ],
)
def test_numbers_are_compared_by_value(tmp_path: Path, answer: Any, response: str, right: float):
    row = {"question": "How many?", "answer": answer}
    assert score(tmp_path, row, "match=number", response) == right


def test_a_number_may_be_off_by_the_tolerance(tmp_path: Path):
    row = {"question": "Pi?", "answer": 3.14159}
    assert score(tmp_path, row, "match=number, tolerance=0.01", "about 3.14") == 1.0
    assert score(tmp_path, row, "match=number, tolerance=0.001", "about 3.14") == 0.0


@pytest.mark.parametrize(
    "answer",
    [["Lima", "Ciudad de los Reyes"], {"text": ["Lima", "Ciudad de los Reyes"]},
     {"value": "Lima", "aliases": ["Ciudad de los Reyes"]}, '["Lima", "Ciudad de los Reyes"]'],
)  # fmt: skip
def test_any_of_several_answers_is_right(tmp_path: Path, answer: Any):
    row = {"question": "The capital of Peru?", "answers": answer}
    assert score(tmp_path, row, "match=contains", "Ciudad de los Reyes, I think") == 1.0
    assert score(tmp_path, row, "match=contains", "Lima") == 1.0
    assert score(tmp_path, row, "match=contains", "Cusco") == 0.0


def test_answers_in_scripts_without_spaces_are_found_inside_a_sentence(tmp_path: Path):
    row = {"question": "法国的首都", "answer": "巴黎"}
    assert score(tmp_path, row, "match=contains", "法国的首都是巴黎。") == 1.0
    assert score(tmp_path, row, "match=contains", "法国的首都是里昂。") == 0.0


def test_marks_inside_an_exact_answer_count(tmp_path: Path):
    row = {"question": "Which language?", "answer": "C++"}
    assert score(tmp_path, row, "match=exact", "c++.") == 1.0
    assert score(tmp_path, row, "match=exact", "C#") == 0.0


def test_a_context_stands_above_its_question_and_an_input_below_its_instruction(tmp_path: Path):
    _, example = only(tmp_path, {**CAPITAL, "context": "Peru is large."}, "match=exact")
    assert example.prompt == "Peru is large.\n\nWhat is the capital of Peru?"
    row = {"instruction": "Translate.", "input": "chat", "output": "cat", "category": "words"}
    _, example = only(tmp_path, row, "match=exact")
    assert (example.prompt, example.reference, example.group) == (
        "Translate.\n\nchat",
        "cat",
        "words",
    )


def test_a_question_may_be_a_message_as_in_openai_evals(tmp_path: Path):
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}]
    _, example = only(tmp_path, {"input": asked, "ideal": "4"}, "match=number")
    assert (example.prompt, example.reference) == ("Be brief.\n\n2 + 2?", "4")
    said = {"input": [*asked, {"role": "assistant", "content": "4"}], "ideal": "4"}
    with pytest.raises(RowsError, match="a task asks one question; `prompts` takes conversations"):
        only(tmp_path, said, "match=number")


COLOURS = {"question": "Which is a colour?", "choices": ["dog", "red", "blue"]}


@pytest.mark.parametrize(
    ("row", "right"),
    [
        ({**COLOURS, "answer": 1}, "B"),
        ({**COLOURS, "answer": "c"}, "C"),
        ({**COLOURS, "answer": "red"}, "B"),
        ({**COLOURS, "answer": "1"}, "B"),
        ({**COLOURS, "answer": "BC"}, "BC"),
        ({**COLOURS, "answer": "C, B"}, "BC"),
        ({**COLOURS, "answer": ["red", "blue"]}, "BC"),
        ({"question": "?", "A": "dog", "B": "red", "answer": "B"}, "B"),
        ({"question": "?", "option_a": "dog", "option_b": "red", "answer": "B"}, "B"),
        (
            {"question": "?", "choices": {"text": ["dog", "red"], "label": ["1", "2"]},
             "answerKey": "2"},
            "B",
        ),
        ({"question": "?", "options": {"A": "dog", "B": "red"}, "answer_idx": "B"}, "B"),
        ({"question": "?", "choices": '["dog", "red"]', "answer": "red"}, "B"),
    ],
)  # fmt: skip
def test_options_are_read_however_a_file_has_them(tmp_path: Path, row: Any, right: str):
    task, example = only(tmp_path, row, "match=choice")
    assert example.response == right
    assert task.metrics == ("choice_accuracy", "verified_accuracy")
    assert "A. dog\nB. red" in example.prompt
    assert f" {right}" not in example.distractors


def test_several_right_options_must_all_be_named_and_no_other(tmp_path: Path):
    task, example = only(tmp_path, {**COLOURS, "answer": "BC"}, "match=choice")
    for response in ("BC", "C, B", "The answers are B and C.", "(B) and (C)", "\\boxed{BC}"):
        assert task.verify(response, example.reference).score == 1.0, response
    for response in ("B", "ABC", "The answer is C.", "Because of it", ""):
        assert task.verify(response, example.reference).score == 0.0, response
    assert set(example.distractors) == {" AB", " AC"}
    assert "Several options are right" in example.prompt


def test_check_says_how_many_questions_have_several_right_options(tmp_path: Path):
    rows = [
        {**COLOURS, "answer": "BC"},
        {**COLOURS, "question": "Which is an animal?", "answer": "A"},
    ]
    (tmp_path / "many.jsonl").write_text("\n".join(map(json.dumps, rows)))
    said = check_task("multiple_choice(test=many.jsonl)", Places(tmp_path))
    assert (
        said == "multiple_choice(test=many.jsonl): examples: 2 test; 1 with several right options"
    )


@pytest.mark.parametrize(
    ("row", "settings", "message"),
    [
        (CAPITAL, "match=number", "`Lima` is not one number"),
        (CAPITAL, "match=choice", "no column `choices`"),
        ({"q": "?", "a": "!"}, "match=exact", "no column is the question; there are q, a; name it"),
        ({"question": "?", "a": "!"}, "match=exact", "no column is the answer"),
        ({"question": "?", "answer": "!"}, "match=contains", "has no letter or digit"),
        ({"question": "?", "answer": []}, "match=exact", "has no answer"),
        ({"question": "?", "answer": [["x"], ["y", "z"]]}, "match=exact", "is a list of lists"),
        ({"question": " ", "answer": "x"}, "match=exact", "`question` is empty"),
        ({**COLOURS, "answer": "D"}, "match=choice", "`D` is none of the 3 choices"),
        ({**COLOURS, "answer": 3}, "match=choice", "3 is none of the 3 choices"),
        ({**COLOURS, "answer": "green"}, "match=choice", "`green` is none of the 3 choices"),
        ({**COLOURS, "answer": True}, "match=choice", "not an index or some of ABC"),
        (
            {"question": "Blood?", "choices": ["A", "B", "AB"], "answer": "AB"},
            "match=choice",
            "can mean AB or C",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_with_its_row(
    tmp_path: Path, row: Any, settings: str, message: str
):
    task = task_of(tmp_path, [row], settings)
    with pytest.raises(RowsError, match=r"^mine\.jsonl:1: ") as refused:
        list(task.examples("test"))
    assert message in str(refused.value)


def test_how_to_compare_must_be_said(tmp_path: Path):
    with pytest.raises(ValueError, match="it is not said how to compare; write one of match=exact"):
        task_of(tmp_path, [CAPITAL], "max_new_tokens=9")
    with pytest.raises(ValueError, match="`match=fuzzy` is not known"):
        task_of(tmp_path, [CAPITAL], "match=fuzzy")


def test_two_files_are_two_tasks(tmp_path: Path):
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text(json.dumps(CAPITAL))
    places = Places(tmp_path)
    first, second = (
        load_task(f"qa(file={each}, match=exact)", places) for each in ("a.jsonl", "b.jsonl")
    )
    assert first.name != second.name
    assert first.test_items(1)[0].prompt == second.test_items(1)[0].prompt


def test_questions_alone_are_asked_without_demonstrations_and_others_few_shot_too(tmp_path: Path):
    styles = ("zero-shot", "few-shot")
    alone = task_of(tmp_path, [CAPITAL], "match=exact")
    asked = [
        each.style for each in make_questions(alone, "verified_accuracy", styles, (1,), 0, "chat")
    ]
    assert asked == ["zero-shot"]
    (tmp_path / "train.jsonl").write_text(
        json.dumps({"question": "Of Chile?", "answer": "Santiago"})
    )
    taught = task_of(tmp_path, [CAPITAL], "train=train.jsonl, match=exact")
    asked = [
        each.style for each in make_questions(taught, "verified_accuracy", styles, (1,), 0, "chat")
    ]
    assert asked == list(styles)


@pytest.mark.parametrize(
    "written",
    [
        "qa(file=a.csv, match=exact)",
        ["qa(file=a.csv", "match=exact)"],
        {"task": "qa(file=a.csv, match=exact)"},
        {"task": "qa(file=a.csv", "match=exact)": None},
        [{"task": "qa", "file": "a.csv", "match": "exact"}],
    ],
)
def test_a_task_is_named_in_a_recipe_with_or_without_quotes_and_as_a_mapping(written: Any):
    config = EvaluateConfig(stage="evaluate", model="./m", tasks=written)
    assert config.tasks == ("qa(file=a.csv, match=exact)",)


def test_what_brackets_do_not_hold_together_is_left_alone():
    assert task_names(["facts", "arithmetic(max_digits=3)", 7]) == [
        "facts", "arithmetic(max_digits=3)", 7
    ]  # fmt: skip


def test_a_source_of_training_names_such_a_task_without_quotes_too():
    block = DataBlock.model_validate({"task": "qa(train=a.csv", "match=exact)": None, "rows": 5})
    assert (block.task, block.rows) == ("qa(train=a.csv, match=exact)", 5)


def test_check_names_the_row_of_a_recipe_s_questions(tmp_path: Path):
    (tmp_path / "mine.jsonl").write_text(json.dumps(CAPITAL) + '\n{"question": "Of Chile?"}\n')
    with pytest.raises(PosttrainError, match=r"mine\.jsonl:2: no column is the answer"):
        check_task("qa(file=mine.jsonl, match=exact)", Places(tmp_path))


def test_expressions_are_compared_as_mathematics(tmp_path: Path):
    solution = "We add.\n\nSo it is $\\boxed{\\frac{1}{2}}$."
    row = {"problem": "How much?", "solution": solution}
    task, example = only(tmp_path, row, "match=math")
    assert example.reference == "\\frac{1}{2}"
    assert example.response == "We add.\nSo it is $\\boxed{\\frac{1}{2}}$."
    assert example.worked_continuation == f" {example.response}"
    assert task.verify("The answer is 0.5", example.reference).score == 1.0
    assert task.verify("The answer is $\\frac{1}{3}$", example.reference).score == 0.0


def test_check_says_which_answers_cannot_be_read_as_mathematics(tmp_path: Path):
    rows = [{"question": str(n), "answer": each} for n, each in enumerate(("2x", "\\frac{", "7"))]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = check_task("qa(file=mine.jsonl, match=math)", Places(tmp_path))
    assert "1 of 3 answers cannot be read as mathematics: texts, as in mine.jsonl:2" in said


def test_a_number_keeps_its_unit(tmp_path: Path):
    row = {"question": "How far?", "answer": "5 km"}
    assert score(tmp_path, row, "match=number", "It is 5000 m.") == 1.0
    assert score(tmp_path, row, "match=number", "It is 5 m.") == 0.0


def test_a_pattern_and_a_schema_are_columns_beside_an_answer_that_shows_them(tmp_path: Path):
    row = {"question": "When?", "pattern": r"\A\d{4}\Z", "answer": "1990"}
    task, example = only(tmp_path, row, "match=regex")
    assert (example.response, example.reference) == ("1990", r"\A\d{4}\Z")
    assert task.verify("2001", example.reference).score == 1.0
    assert task.verify("in 2001", example.reference).score == 0.0
    row = {"question": "Who?", "schema": {"type": "object"}, "answer": {"name": "Ann"}}
    task, example = only(tmp_path, row, "match=json_schema")
    assert (example.response, example.reference) == ('{"name": "Ann"}', '{"type": "object"}')
    assert task.verify("```json\n{}\n```", example.reference).score == 1.0
    assert task.verify("[]", example.reference).score == 0.0


def test_a_pattern_alone_is_asked_for_and_nothing_is_shown(tmp_path: Path):
    rows = [{"question": "When?", "answer": r"\d{4}"}]
    (tmp_path / "mine.jsonl").write_text(json.dumps(rows[0]) + "\n")
    task = load_task("qa(file=mine.jsonl, train=mine.jsonl, match=regex)", Places(tmp_path))
    assert [each.reference for each in task.test_items(9)] == [r"\d{4}"]
    alone = load_task("qa(train=mine.jsonl, match=regex)", Places(tmp_path))
    assert [each.reference for each in alone.rl_prompts()] == [r"\d{4}"]
    with pytest.raises(RowsError, match="no answer to learn from"):
        list(alone.demonstrations())


@pytest.mark.parametrize(
    ("settings", "row", "why"),
    [
        ("match=regex", {"pattern": "(a"}, "`pattern` is no pattern: missing"),
        ("match=regex", {"pattern": 3}, "`pattern` is no pattern, which is a text"),
        ("match=regex", {"pattern": "b", "answer": "a"}, "`answer` does not follow the pattern"),
        ("match=regex, rule=wanted", {"answer": "a"}, "there is no column `wanted`"),
        ("match=json_schema", {"schema": {"type": "int"}}, "`schema` is no schema: $.type"),
        ("match=json_schema", {"schema": "{"}, "`schema` is no schema: it is no JSON"),
        ("match=math", {"answer": "x" * 2001}, "at most 2000 are read"),
    ],
)
def test_check_names_the_row_whose_reference_cannot_be_graded_by(
    tmp_path: Path, settings: str, row: Any, why: str
):
    (tmp_path / "mine.jsonl").write_text(json.dumps({"question": "?", **row}) + "\n")
    with pytest.raises(PosttrainError) as caught:
        check_task(f"qa(file=mine.jsonl, {settings})", Places(tmp_path))
    assert "mine.jsonl:1: " in str(caught.value)
    assert why in str(caught.value)


def test_a_rule_is_refused_where_none_is_read():
    with pytest.raises(ValueError, match="`rule` is of `match=regex`"):
        load_task("qa(file=mine.jsonl, match=exact, rule=a)", Places(Path()))
