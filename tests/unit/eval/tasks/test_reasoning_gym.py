"""reasoning-gym as tasks: splits without twins, settings, grading in a box. All datasets: prove."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from eval.task import Split, Task
from eval.tasks import load
from pipeline import load_recipe
from pipeline.config.references import Places
from pipeline.data.reading.tasks import load_task
from pipeline.plan.plan import make
from pipeline.store.store import Store
from reward.verifiers.gym import MAX_ANSWER, stated_answer

pytest.importorskip("reasoning_gym")
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@pytest.fixture(scope="module")
def legs() -> Task:
    return load("reasoning_gym(name=leg_counting, max_animals=4)")


@pytest.fixture(scope="module")
def spiral() -> Task:
    return load("reasoning_gym(name=spiral_matrix, max_n=3)")


def test_splits_share_no_question_however_few_there_are() -> None:
    small = load("reasoning_gym(name=count_bits, min_n=1, max_n=60)")
    prompts = [[example.prompt for example in small.examples(split)] for split in SPLITS]
    together = [prompt for split in prompts for prompt in split]
    assert len(together) == len(set(together)) == 60
    assert all(prompts)


def test_questions_are_the_same_again_and_others_for_another_seed(legs: Task) -> None:
    again = load("reasoning_gym(name=leg_counting, max_animals=4)")
    other = load("reasoning_gym(name=leg_counting, max_animals=4, seed=1)")
    first, second, third = (
        [example.prompt for example in islice(task.examples("train"), 20)]
        for task in (legs, again, other)
    )
    assert first == second
    assert first != third
    assert list(islice(legs.documents(0), 3)) != list(islice(legs.documents(1), 3))


def test_a_task_gives_prompts_demonstrations_items_and_their_verdicts(legs: Task) -> None:
    (example,) = legs.test_items(1)
    assert example.prompt.startswith("Your task is to count how many legs")
    assert legs.verify(example.response, example.reference).score == 1.0
    thought = f"<think>7 or 8</think> So: <answer>1</answer> <answer> {example.response} </answer>"
    assert legs.verify(thought, example.reference).score == 1.0
    partly = legs.verify(f"{example.response} legs", example.reference).score
    assert partly is not None
    assert 0 < partly < 1  # as the dataset has it: the share of the answer in what is said
    assert legs.verify("no idea", example.reference).score == 0.0
    assert legs.verify("1" * (MAX_ANSWER + 1), example.reference).score == 0.0
    prompt = next(legs.rl_prompts())
    shown = next(legs.demonstrations())
    assert (prompt.prompt, shown.document) == (shown.prompt, f"{shown.prompt}\nAnswer:")


@pytest.mark.parametrize(
    "reference", ["", "7", "[]", '{"item": "x"}', '{"item": 3, "answer": "another"}']
)
def test_a_reference_of_another_dataset_or_version_is_not_graded(
    legs: Task, reference: str
) -> None:
    assert legs.verify("7", reference).score is None


ATTACKS = (
    "[exit(0)]",
    "open('/tmp/gym_attack', 'w').write('x')",
    "[x for x in ().__class__.__base__.__subclasses__()]",
    "__import__('os')._exit(0)",
    "9**9**9**9",
    "[" * 5_000,
)


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_answer_that_is_a_program_is_not_run(spiral: Task, attack: str) -> None:
    (example,) = spiral.test_items(1)
    assert spiral.verify(attack, example.reference).score == 0.0
    assert not Path("/tmp/gym_attack").exists()
    as_list = f"[{', '.join(example.response.split())}]"
    assert spiral.verify(as_list, example.reference).score == 0.1  # what the dataset gives a list


def test_an_expression_is_evaluated_within_bounds_and_without_python() -> None:
    sums = load("reasoning_gym(name=countdown, max_numbers=4)")
    (example,) = sums.test_items(1)
    assert sums.verify(example.response, example.reference).score == 1.0
    for attack in ("exit()", "().__class__", "open(1)", "9**9**9**9", "S.Half.func", '"a"'):
        score = sums.verify(attack, example.reference).score
        assert score in (0.0, 0.01), attack


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("", "`name=` says which dataset; there are: ab, acre"),
        ("name=leg_countin", "there is no dataset `leg_countin`; did you mean `leg_counting`?"),
        ("name=boxnet", "`boxnet` cannot be used: it gives no answer of its own"),
        ("name=word_ladder", "`word_ladder` cannot be used: its questions differ"),
        ("name=gcd, max_value=many", "`max_value=many`: Input should be a valid integer"),
        ("name=gcd, max_value=2.5", "`max_value=2.5`: Input should be a valid integer"),
        ("name=gcd, max_valu=3", "has no setting `max_valu`; did you mean `max_value`?"),
        ("name=gcd, size=3", "has no setting `size`; rows and items are counted in the recipe"),
        ("name=leg_counting, max_animals=1", "max_animals must be >= min_animals"),
        ("name=basic_arithmetic, operators=+|q", "unsupported operator: q"),
    ],
)
def test_settings_are_checked_by_the_dataset_and_named_in_one_line(
    settings: str, said: str
) -> None:
    with pytest.raises(ValueError, match="reasoning") as refused:
        load(f"reasoning_gym({settings})" if settings else "reasoning_gym")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_fingerprint_has_the_release_that_questions_come_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "gym.yaml"
    stage = '{stage: tokenizer, data: {task: "reasoning_gym(name=gcd)", rows: 9}}'
    path.write_text(f"name: gym\nstages:\n  words: {stage}\n")

    def fingerprint() -> str:
        return make(load_recipe(path), Store(tmp_path / "runs")).stages[0].fingerprint

    first = fingerprint()
    assert fingerprint() == first
    monkeypatch.setattr("eval.tasks.reasoning_gym.release_of", lambda _: "9.9")
    assert fingerprint() != first


def test_lists_are_written_with_bars() -> None:
    sums = load("reasoning_gym(name=basic_arithmetic, operators=+|-, allow_parentheses=false)")
    assert sums.name == (
        "reasoning_gym(allow_parentheses=false, name=basic_arithmetic, operators=+|-)"
    )
    text = "".join(example.prompt for example in islice(sums.examples("train"), 20))
    assert not {"*", "/", "("} & {*text}


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eval.tasks.reasoning_gym.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"pip install 'posttrain\[gym\]'"):
        load_task("reasoning_gym(name=gcd)", Places(Path()))


def test_what_a_response_states_as_its_answer() -> None:
    assert stated_answer(" 7 ") == "7"
    assert stated_answer("<think>6</think>\n7") == "7"
    assert stated_answer("<answer>6</answer> or <answer>\n7</answer>.") == "7"
    assert stated_answer("<answer>6 <answer>7</answer>") == "7"
    assert stated_answer("<answer>6") == "<answer>6"


def test_references_say_the_answer_in_words_that_people_read(legs: Task) -> None:
    (example,) = legs.test_items(1)
    stated: dict[str, Any] = json.loads(example.reference)
    assert stated["answer"] == example.response
