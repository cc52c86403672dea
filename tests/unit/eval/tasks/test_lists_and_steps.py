"""Documents contain every form that a prompt has: lists as few-shot prompts, worked ones, cues."""

import random

import pytest

from eval.asking.question import Question
from eval.asking.run import choose_demonstrations, is_worked
from eval.task import STEP_BY_STEP, Task
from eval.tasks import load
from eval.tasks.asked_for_steps import ask_for_steps
from eval.tasks.lists import in_full_lists, in_lists, in_lists_of_several

LISTED = ("facts", "translation", "logic", "space", "code", "diff", "sql", "stories", "physics")
WORKED = ("logic", "space", "physics", "arithmetic", "running_sums")


@pytest.mark.parametrize(
    ("divide", "sizes", "share_single"),
    [
        (in_lists, {1, 2, 3, 4}, 0.25),
        (in_full_lists, {1, 4}, 0.1),
        (in_lists_of_several, {1, 2, 3, 4}, 0.1),
    ],
)
def test_lists_hold_each_text_once(divide, sizes, share_single):
    texts = [str(number) for number in range(4000)]
    documents = divide(texts, random.Random(1), separator="|")
    assert sorted("|".join(documents).split("|")) == sorted(texts)
    found = [document.count("|") + 1 for document in documents]
    assert sizes <= set(found)
    # One document may be shorter: the last one is what was left.
    assert sum(each not in sizes for each in found) <= 1
    assert found.count(1) / len(found) == pytest.approx(share_single, abs=0.04)
    assert found != sorted(found)


def parts(text: str, task: Task, *, worked: bool) -> int:
    """How many documents of the form that a prompt shows stand in a text."""
    between = task.worked_stop[0] if worked else task.document_separator
    return text.count(between) + 1


@pytest.mark.parametrize("name", LISTED)
def test_the_documents_of_a_task_are_lists_divided_as_its_few_shot_prompts_are(name):
    task = load(name)
    shown = choose_demonstrations(task, 3, seed=0)
    item = task.test_items(1)[0]
    prompt = Question(task, "verified_accuracy", "few-shot", shown).document(item)
    assert parts(prompt, task, worked=False) >= 4
    stated = [example.document + example.continuation for example in task.examples("train")]
    listed = [text for text in task.documents(0) if task.document_separator in text]
    beginnings = {text.split(task.document_separator)[0] for text in listed}
    # Those of the examples themselves where a pass of documents states all of them.
    forms = {text.split()[0] for text in stated}
    assert sum(each.split()[0] in forms for each in beginnings) > 30


@pytest.mark.parametrize("name", WORKED)
def test_worked_documents_stand_in_lists_as_chain_of_thought_prompts_do(name):
    task = load(name)
    assert is_worked(task)
    shown = choose_demonstrations(task, 3, seed=0, worked=True)
    item = next(each for each in task.test_items(50) if each.worked_document)
    prompt = Question(task, "verified_accuracy", "chain-of-thought", shown).document(item)
    assert parts(prompt, task, worked=True) == 4
    signs = ("answer is", "So ", " = ")
    listed = [
        text
        for text in task.documents(0)
        if text.count(task.worked_stop[0]) == 3
        and all(any(sign in part for sign in signs) for part in text.split(task.worked_stop[0]))
    ]
    assert len(listed) > 30


@pytest.mark.parametrize("name", WORKED)
def test_some_demonstrations_are_asked_for_step_by_step_and_answered_so(name):
    task = load(name)
    shown = list(task.demonstrations())
    plain = {example.id: example for example in task.examples("train")}
    asked = [each for each in shown if each.prompt.endswith(f"\n{STEP_BY_STEP}")]
    assert 0.15 < len(asked) / len(shown) < 0.6
    for each in asked:
        assert each.response.endswith(plain[each.id].response.split(". ")[-1])
    assert not any(STEP_BY_STEP in each.prompt for each in task.test_items(50))


def test_the_same_prompts_are_asked_for_steps_everywhere():
    examples = list(load("logic").examples("train"))[:200]
    first, again = (list(ask_for_steps(examples)) for _ in range(2))
    assert first == again
    assert [each.response for each in first] == [each.response for each in examples]
