"""Benchmarks as tasks: what rows become, what is refused, and the published rows where they are."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from eval.asking.run import choose_demonstrations
from eval.task import Example, Split
from eval.tasks import BENCHMARKS, benchmark_class, load
from eval.tasks.benchmark import BenchmarkTask, RowsError
from pipeline.config.references import Places
from pipeline.data.reading.tasks import load_task
from reward import extract

PROBLEM = {
    "question": "Tom has 3 bags with 4 eggs each. How many eggs are there?",
    "answer": "There are 3 * 4 = <<3*4=12>>12 eggs.\n\n#### 12",
}
FUNCTION = {
    "task_id": "HumanEval/900",
    "prompt": 'import math\n\ndef root(x):\n    """The square root, rounded down."""\n',
    "canonical_solution": "    return math.isqrt(x)\n",
    "test": "def check(candidate):\n    assert candidate(10) == 3\n    assert candidate(16) == 4\n",
    "entry_point": "root",
}
SENTENCE = {
    "task_id": 601,
    "text": "Write a function to add two numbers.",
    "code": "def sum(a, b):\r\n  return a + b",
    "test_list": ["assert sum(1, 2) == 3", "assert sum(-1, 1) == 0"],
    "test_setup_code": "",
    "challenge_test_list": [],
}
QUESTION = {
    "question": "Which planet is the largest?",
    "choices": ["Mars", "Jupiter", "Venus", "Earth"],
    "answer": 1,
    "subject": "astronomy",
}
REQUEST = {
    "prompt": "Write two words without a comma.",
    "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
    "kwargs": [{}, {"num_words": 3, "relation": "less than", "keywords": None}],
}
PAIR = {"sentence_good": "The cats sleep.", "sentence_bad": "The cats sleeps."}
ROWS: dict[str, Mapping[str, Any]] = {
    "blimp": PAIR,
    "gsm8k": PROBLEM,
    "humaneval": FUNCTION,
    "ifeval": REQUEST,
    "mbpp": SENTENCE,
    "mmlu": QUESTION,
    "multiple_choice": QUESTION,
}
# What a user's own questions may look like is test_qa.py's subject.
each_benchmark = pytest.mark.parametrize("name", [each for each in BENCHMARKS if each != "qa"])


def of(name: str, *rows: Mapping[str, Any], **given: Any) -> Any:
    """A benchmark with these rows in its test split, MBPP's in its training split."""
    return of_splits(name, {"train" if name == "mbpp" else "test": rows}, **given)


def of_splits(
    name: str, rows: Mapping[Split, tuple[Mapping[str, Any], ...]], **given: Any
) -> BenchmarkTask:
    def source(split: Split) -> Callable[[], list[tuple[str, Mapping[str, Any]]]]:
        return lambda: [(f"{split}.jsonl:{n}", row) for n, row in enumerate(rows[split], 1)]

    return benchmark_class(name)({split: source(split) for split in rows}, **given)


def only(name: str, row: Mapping[str, Any], **given: Any) -> Example:
    (example,) = of(name, row, **given).examples("train" if name == "mbpp" else "test")
    return example


def published(real_data: Path, name: str) -> Any:
    return load_task(name, Places(Path(), {"real": real_data}))


def test_a_word_problem_is_answered_at_once_or_worked_out_without_annotations():
    example = only("gsm8k", PROBLEM)
    assert example.prompt == PROBLEM["question"]
    assert example.response == "There are 3 * 4 = 12 eggs.\n#### 12"
    assert example.reference == "12"
    assert example.document + example.continuation == f"Question: {example.prompt}\nAnswer: 12"
    assert example.worked_document + example.worked_continuation == (
        f"Question: {example.prompt}\nAnswer: There are 3 * 4 = 12 eggs.\n#### 12"
    )
    assert example.group == "1"


def test_what_ends_an_answer_of_gsm8k_does_not_cut_it_short():
    task, example = of("gsm8k", PROBLEM), only("gsm8k", PROBLEM)
    assert not any(stop in example.continuation for stop in task.document_stop)
    assert not any(stop in example.worked_continuation for stop in task.worked_stop)


@pytest.mark.parametrize(
    ("response", "score"),
    [
        ("    return math.isqrt(x)\n", 1.0),
        ("```python\ndef root(x):\n    return math.isqrt(x)\n```", 1.0),
        (
            "Sure:\n```python\nimport math\n\ndef root(x):\n    return math.isqrt(x)\n```\nDone.",
            1.0,
        ),
        ("```python\n    return math.isqrt(x)\n```", 1.0),
        ("    return x ** 0.5\n", 0.0),
        ("    pass\n", 0.0),
        ("    import os; os._exit(0)\n", 0.0),
        ("I cannot do that.", 0.0),
        ("", 0.0),
    ],
)
def test_a_function_is_completed_or_written_anew(response, score):
    task, example = of("humaneval", FUNCTION), only("humaneval", FUNCTION)
    assert task.verify(response, example.reference).score == score


def test_a_function_of_humaneval_is_asked_as_published_and_its_demonstration_is_right():
    task, example = of("humaneval", FUNCTION), only("humaneval", FUNCTION)
    assert example.document == FUNCTION["prompt"]
    assert example.continuation == FUNCTION["canonical_solution"]
    assert example.prompt.startswith("Complete this Python function.\n\n```python\nimport math")
    assert task.verify(example.response, example.reference).score == 1.0


@pytest.mark.parametrize(
    ("response", "score"),
    [
        ("```python\ndef sum(a, b):\n    return a + b\n```", 1.0),
        ("\ndef sum(a, b):\n    return a + b\n[DONE]\nmore text", 1.0),
        ("[BEGIN]\ndef sum(a, b):\n    return a + b\n[DONE]", 1.0),
        ("def sum(a, b):\n    return a - b", 0.0),
        ("def add(a, b):\n    return a + b", 0.0),
    ],
)
def test_a_function_of_mbpp_is_run_on_its_tests_though_it_is_called_like_a_builtin(response, score):
    task, example = of("mbpp", SENTENCE), only("mbpp", SENTENCE)
    assert "assert sum(1, 2) == 3" in example.prompt
    assert task.verify(response, example.reference).score == score
    assert task.verify(example.continuation, example.reference).score == 1.0


def test_mbpp_is_split_by_id_as_published():
    ids = {"test": (11, 510), "validation": (511, 600), "train": (601, 974)}
    every = tuple({**SENTENCE, "task_id": number} for number in range(1, 975))
    task = of_splits("mbpp", dict.fromkeys(("test", "validation", "train"), every))
    for split, (first, last) in ids.items():
        found = {int(example.id.split()[1]) for example in task.examples(split)}
        assert found == set(range(first, last + 1))


def test_a_question_is_scored_by_its_letters_and_by_what_a_response_settles_on():
    task, example = of("mmlu", QUESTION), only("mmlu", QUESTION)
    assert example.document.endswith("B. Jupiter\nC. Venus\nD. Earth\nAnswer:")
    assert (example.continuation, *example.distractors) == (" B", " A", " C", " D")
    assert example.group == "astronomy"
    assert task.verify(example.response, example.reference).score == 1.0
    assert task.verify("The answer is (B).", example.reference).score == 1.0
    assert task.verify("The answer is (C).", example.reference).score == 0.0
    assert only("mmlu", {**QUESTION, "answer": "B"}) == example


def test_questions_may_have_more_options_if_the_recipe_says_so():
    row = {**QUESTION, "choices": list("stuvw"), "answer": "E"}
    with pytest.raises(RowsError, match="5 choices; `multiple_choice` takes 2 to 4"):
        only("multiple_choice", row)
    assert only("multiple_choice", row, options=5).response == "E"


def test_instructions_that_are_followed_and_not():
    task, example = of("ifeval", REQUEST), only("ifeval", REQUEST)
    assert task.verify("two words", example.reference).score == 1.0
    verdict = task.verify("one, two, three", example.reference)
    assert verdict.score == 0.0
    assert "punctuation:no_comma, length_constraints:number_words" in verdict.reason


def test_instructions_give_the_four_published_figures():
    task, example = of("ifeval", REQUEST), only("ifeval", REQUEST)
    spoken = "Sure, here are two words:\nred fox"
    assert task.verify(spoken, example.reference).score == 0.0
    scores = task.further_scores(spoken, example.reference)
    assert {metric: (each.score, each.weight) for metric, each in scores.items()} == {
        "loose_accuracy": (1.0, 1.0),
        "instruction_accuracy": (0.0, 2),
        "instruction_loose_accuracy": (1.0, 2),
    }
    halfway = task.further_scores("one two three", example.reference)
    assert halfway["instruction_accuracy"].score == 0.5
    ungraded = task.further_scores("red fox", "no reference")
    assert {each.score for each in ungraded.values()} == {None}


@each_benchmark
def test_a_missing_or_wrong_column_is_named_with_its_file_and_row(name):
    good = ROWS[name]
    assert only(name, good).id
    for column in good:
        if column in ("challenge_test_list", "subject"):
            continue
        lacking = {key: value for key, value in good.items() if key != column}
        with pytest.raises(RowsError, match=rf"jsonl:1: there is no column `{column}`"):
            only(name, lacking)
        if name != "mbpp" or column != "task_id":
            with pytest.raises(RowsError, match=rf"jsonl:2: `{column}` "):
                list(of(name, good, {**good, column: None}).examples(first_split(name)))


def first_split(name: str) -> Split:
    return "train" if name == "mbpp" else "test"


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("gsm8k", {"answer": "twelve"}, "`answer` does not end with `#### NUMBER`"),
        ("gsm8k", {"answer": "#### twelve"}, "`answer` does not end with `#### NUMBER`"),
        ("mmlu", {"answer": 4}, "`answer` 4 is none of the 4 choices"),
        ("mmlu", {"answer": "E"}, "`answer` `E` is none of the 4 choices: no letter from ABCD"),
        ("mmlu", {"choices": ["one"]}, "1 choices"),
        ("ifeval", {"kwargs": [{}]}, "`kwargs` is not one mapping for each instruction"),
        (
            "ifeval",
            {"instruction_id_list": ["punctuation:no_comma", "keywords:rhymes"]},
            "the instruction `keywords:rhymes` cannot be checked here",
        ),
        (
            "ifeval",
            {"kwargs": [{}, {"num_words": 3}]},
            "`length_constraints:number_words` is given",
        ),
        ("mbpp", {"test_list": [1]}, "`test_list` is not a list of texts"),
    ],
)
def test_a_row_that_makes_no_sense_is_refused(name, change, said):
    with pytest.raises(RowsError, match=re.escape(said)):
        only(name, {**ROWS[name], **change})


# Of BLiMP any text is a reference.
@pytest.mark.parametrize("name", [each for each in BENCHMARKS if each not in ("qa", "blimp")])
def test_a_reference_that_is_none_is_not_graded(name):
    assert of(name, ROWS[name]).verify("anything", "nonsense").score is None


@each_benchmark
def test_nothing_is_trained_on_a_test_split(name):
    with pytest.raises(ValueError, match="evaluation only"):
        list(of(name, ROWS[name]).demonstrations("test"))


def test_a_benchmark_without_training_rows_says_so_to_whoever_wants_demonstrations():
    with pytest.raises(RowsError, match=r"`humaneval` has no train rows.*leave `few-shot` out"):
        choose_demonstrations(of("humaneval", FUNCTION), 3, 0)
    with pytest.raises(RowsError, match="has no validation rows"):
        list(of("gsm8k", PROBLEM).examples("validation"))


def test_documents_are_the_training_rows_in_another_order_for_each_seed():
    rows = tuple({**PROBLEM, "question": f"How many are {n}?"} for n in range(20))
    task = of_splits("gsm8k", {"train": rows})
    first, again, other = (list(task.documents(seed)) for seed in (0, 0, 1))
    assert first == again != other
    assert sorted(first) == sorted(other)
    assert "Question: How many are 7?\nAnswer: There are 3 * 4 = 12 eggs.\n#### 12" in first


def test_what_is_asked_in_the_test_split_is_not_trained_on():
    other = {**PROBLEM, "question": "How many?"}
    spaced = {**PROBLEM, "question": f"  {PROBLEM['question'].replace(' ', '  ')}"}
    task = of_splits("gsm8k", {"train": (other, spaced), "test": (PROBLEM,)})
    assert [example.prompt for example in task.examples("train")] == ["How many?"]


def test_the_order_of_items_does_not_depend_on_the_order_of_rows():
    rows = tuple({**PROBLEM, "question": f"How many are {n}?"} for n in range(20))
    one, other = of("gsm8k", *rows), of("gsm8k", *reversed(rows))
    assert [e.id for e in one.test_items(5)] == [e.id for e in other.test_items(5)]


def test_a_benchmark_by_name_alone_has_no_rows():
    with pytest.raises(ValueError, match="`gsm8k` needs its rows"):
        load("gsm8k")


# What a wrong answer looks like: None where the item has no such answer.
def _swapped(number: str) -> str | None:
    for at in range(len(number) - 1):
        if number[at : at + 2].isdigit() and number[at] != number[at + 1]:
            return number[:at] + number[at + 1] + number[at] + number[at + 2 :]
    return None


def _steps(example: Example, closing: object) -> str:
    return f"{example.response.rpartition('####')[0]}#### {closing}"


WRONG: dict[str, Callable[[Example], str | None]] = {
    "one more": lambda e: _steps(e, int(e.reference) + 1),
    "the other sign": lambda e: _steps(e, -int(e.reference)),
    "digits swapped": lambda e: (s := _swapped(e.reference)) and _steps(e, s),
    "ten times": lambda e: _steps(e, 10 * int(e.reference)),
    "a hundredth": lambda e: _steps(e, int(e.reference) / 100),
    "no number": lambda e: re.sub(r"\d", "?", e.response),
    "right at first": lambda e: f"It is {e.reference}.\nNo: {int(e.reference) - 7}",
    "empty": lambda _: "",
    "only words": lambda _: "I think that it is a lot of money, but I am not sure.",
    "the first number of the question": lambda e: (
        (found := re.search(r"\d+", e.prompt)) and f"The answer is {found[0]}."
    ),
}


def test_the_published_answers_of_gsm8k_are_right(real_data):
    task = published(real_data, "gsm8k(test=real:gsm8k/test.jsonl)")
    examples = list(task.examples("test"))
    assert len(examples) == 1_319
    for example in examples:
        for right in (example.response, example.continuation, example.worked_continuation):
            assert task.verify(right, example.reference).score == 1.0, example


@pytest.mark.parametrize("kind", WRONG)
def test_no_wrong_answer_to_gsm8k_is_right(real_data, kind):
    """Where a wrong answer happens to be the right one, or there is none, the item is left out."""
    task = published(real_data, "gsm8k(test=real:gsm8k/test.jsonl)")
    left_out = 0
    for example in task.examples("test"):
        wrong = WRONG[kind](example)
        final = wrong and extract.last_number(wrong)
        if wrong is None or (final and float(final) == float(example.reference)):
            left_out += 1
        else:
            assert task.verify(wrong, example.reference).score == 0.0, (example, wrong)
    print(f"{kind}: {left_out} of 1319 left out")
    assert left_out <= {"digits swapped": 600, "the first number of the question": 60}.get(kind, 0)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("humaneval(file=real:humaneval/HumanEval.jsonl.gz)", {"test": 164}),
        ("mbpp(file=real:mbpp/mbpp.jsonl)", {"test": 500, "validation": 90, "train": 374}),
    ],
)
def test_published_programs_pass_their_tests_and_fail_those_of_others(real_data, name, sizes):
    task = published(real_data, name)
    assert {split: len(list(task.examples(split))) for split in task.splits} == sizes
    items = task.test_items(6)
    for item, other in zip(items, [*items[1:], items[0]], strict=True):
        assert task.verify(item.response, item.reference).score == 1.0
        assert task.verify(item.continuation, item.reference).score == 1.0
        assert task.verify(other.response, item.reference).score == 0.0
        assert json.loads(item.reference)["entry_point"]
