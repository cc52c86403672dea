"""What every built-in task promises: disjoint splits, no leak, verifiable demonstrations."""

import re
import subprocess
import sys
from functools import cache
from itertools import combinations

import pytest

from eval.task import Example, Split, Task
from eval.tasks import BUILT_IN, load
from eval.tasks.arithmetic import Arithmetic, Problem
from eval.tasks.facts import COUNTRIES, FACTS, VALUES, WORDINGS, country_split

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
SEEDS = (0, 1, 2)
# Flaws of manner: the answer in such a response may well be right.
MANNER = {"no steps", "small talk first"}
NASTY = (
    "",
    " ",
    "\n\n\n",
    "\x00\x1b[31m",
    "\ud800",
    "\u2212\u0663\uff15",
    "9" * 10_000,
    "1e999",
    "-" * 5_000,
    "{" * 5_000,
    r"\boxed{" * 500,
    "#### ",
    "1/0",
    "answer is answer is",
    "NaN inf -inf",
    "<|im_end|><eos></s>",
    "(?:[a-z]+)*$",
    "%s %d {0} {c}",
    "'; DROP TABLE answers; --",
    "\U0001f600" * 1_000,
)

each_task = pytest.mark.parametrize("name", sorted(BUILT_IN))


def tasks_of(kind: str) -> list[str]:
    return [name for name in sorted(BUILT_IN) if task(name).kind == kind]


@cache
def task(name: str) -> Task:
    return load(name)


@cache
def examples(name: str, split: Split) -> tuple[Example, ...]:
    return tuple(task(name).examples(split))


@cache
def all_documents(name: str) -> str:
    return "\n\n".join(text for seed in SEEDS for text in task(name).documents(seed))


def occurs(words: str, text: str) -> bool:
    """Whether the words stand in the text, not as a part of longer words or numbers."""
    return words in text and bool(re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text))


@cache
def trained_on(name: str) -> str:
    """Everything that fine-tuning may show a model: demonstrations, preference pairs, prompts."""
    texts: list[str] = []
    for split in ("train", "validation"):
        for example in task(name).demonstrations(split):
            texts += [example.prompt, example.response]
        for pair in task(name).preference_pairs(split):
            texts += [pair.prompt, pair.chosen, pair.rejected]
        texts += [asked.prompt for asked in task(name).rl_prompts(split)]
    return "\n\n".join(dict.fromkeys(texts))


@each_task
def test_splits_share_no_id_and_test_ids_are_unique(name):
    ids = {split: [example.id for example in examples(name, split)] for split in SPLITS}
    for one, other in combinations(SPLITS, 2):
        assert not set(ids[one]) & set(ids[other])
    assert all(ids.values())
    assert len(set(ids["test"])) == len(ids["test"])


@each_task
def test_a_test_split_resolves_differences_of_a_few_points(name):
    assert len(examples(name, "test")) >= 240


@each_task
def test_the_test_split_is_refused_for_training(name):
    with pytest.raises(ValueError, match="evaluation only"):
        list(task(name).demonstrations("test"))
    with pytest.raises(ValueError, match="evaluation only"):
        list(task(name).rl_prompts("test"))
    with pytest.raises(ValueError, match="evaluation only"):
        list(task(name).preference_pairs("test"))


@each_task
def test_generation_is_the_same_every_time_and_documents_differ_by_seed(name):
    again = load(name)
    for split in SPLITS:
        assert tuple(again.examples(split)) == examples(name, split)
    assert list(again.documents(5)) == list(task(name).documents(5))
    assert list(again.documents(5)) != list(task(name).documents(6))


def test_generation_does_not_depend_on_the_process():
    """Hash randomisation differs between processes: an order taken from a set would too."""
    code = (
        "import hashlib; from eval.tasks import BUILT_IN, load\n"
        "for name in sorted(BUILT_IN):\n"
        "    task = load(name)\n"
        "    print(hashlib.sha256(repr([list(task.examples('test')), list(task.documents(1))])"
        ".encode()).hexdigest())"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1


@each_task
@pytest.mark.parametrize("split", SPLITS)
def test_every_demonstration_verifies_and_so_does_every_continuation(name, split):
    for example in examples(name, split):
        assert task(name).verify(example.response, example.reference).score == 1.0, example
        assert task(name).verify(example.continuation, example.reference).score == 1.0, example


@each_task
def test_every_flaw_of_the_answer_is_seen_by_the_verifier(name):
    seen: set[str] = set()
    for example in examples(name, "train"):
        for flawed in example.flawed:
            seen.add(flawed.flaw)
            assert flawed.response != example.response
            if flawed.flaw not in MANNER:
                score = task(name).verify(flawed.response, example.reference).score
                assert score is not None, flawed
                assert score < 1.0, flawed
    assert seen, "preference pairs need flaws"


@each_task
def test_no_distractor_is_right_or_begins_with_another_choice(name):
    for example in examples(name, "test"):
        if "choice_accuracy" not in task(name).metrics:
            continue
        assert len(example.distractors) == 3, example
        choices = (example.continuation, *example.distractors)
        for one, other in combinations(choices, 2):
            assert not one.startswith(other), example
            assert not other.startswith(one), example
        for wrong in example.distractors:
            assert wrong[0].isspace() == example.continuation[0].isspace()
            assert task(name).verify(wrong, example.reference).score == 0.0, example


@each_task
def test_verify_takes_any_string(name):
    reference = examples(name, "test")[0].reference
    for response in NASTY:
        assert task(name).verify(response, reference).score in (0.0, None), response
        task(name).verify(response, response)


@each_task
def test_no_chat_prompt_occurs_in_a_document(name):
    for split in SPLITS:
        for example in examples(name, split):
            assert not occurs(example.prompt, all_documents(name)), example.prompt


@pytest.mark.parametrize("name", tasks_of("skill"))
def test_no_test_item_of_a_skill_occurs_in_any_training_text(name):
    for example in examples(name, "test"):
        for text in (all_documents(name), trained_on(name)):
            assert not occurs(example.prompt, text), example
            assert not occurs(example.document, text), example
            assert not occurs(example.document + example.continuation, text), example


@pytest.mark.parametrize("name", tasks_of("knowledge"))
def test_every_test_question_of_a_knowledge_task_has_its_answer_in_a_document(name):
    for example in examples(name, "test"):
        assert occurs(example.document + example.continuation, all_documents(name)), example


@pytest.mark.parametrize("name", tasks_of("knowledge"))
def test_no_test_question_of_a_knowledge_task_is_trained_on_in_chat(name):
    for example in examples(name, "test"):
        assert not occurs(example.prompt, trained_on(name)), example
        assert not occurs(example.document, trained_on(name)), example


def test_an_unknown_task_is_refused_with_the_known_names():
    with pytest.raises(ValueError, match="did you mean `arithmetic`") as refusal:
        load("arithmatic")
    assert "facts" in str(refusal.value)


def test_the_tasks_need_no_torch():
    code = (
        "import sys; from eval.tasks import BUILT_IN, load\n"
        "[load(name) for name in BUILT_IN]\n"
        "assert not {'torch', 'transformers', 'datasets'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, check=True)


def problems_in(text: str) -> set[Problem]:
    """Every calculation that the text writes with a sign or in words, steps of a longer one too."""
    signs = {"plus": "+", "minus": "-", "times": "*"}
    found = re.findall(r"(?<!\d)(?=(\d+) (\+|-|\*|plus|minus|times) (\d+)(?!\d))", text)
    return {Problem(int(left), signs.get(sign, sign), int(right)) for left, sign, right in found}


@pytest.mark.parametrize("max_digits", [2, 3])
def test_no_training_text_of_arithmetic_calculates_a_twin_of_a_test_item(max_digits):
    arithmetic = Arithmetic(max_digits)
    test_ids = {example.id for example in arithmetic.examples("test")}
    seeds = SEEDS if max_digits == 2 else SEEDS[:1]
    texts = [text for seed in seeds for text in arithmetic.documents(seed)]
    texts += [example.prompt + "\n" + example.response for example in arithmetic.demonstrations()]
    texts += [pair.rejected for pair in arithmetic.preference_pairs("train")]
    found = set().union(*map(problems_in, texts))
    assert len(found) > 1_000
    assert not {problem.family for problem in found} & test_ids


def test_no_story_of_arithmetic_tells_a_twin_of_a_test_item():
    test_ids = {example.id for example in examples("arithmetic", "test")}
    stories = [line for line in all_documents("arithmetic").split("\n") if ". " in line]
    stories = [line for line in stories if "=" not in line]  # worked ones are read elsewhere
    assert len(stories) > 300
    for line in stories:
        one, other, result = sorted(map(int, re.findall(r"\d+", line)))
        sign = "*" if one * other == result and one + other != result else "+"
        assert Problem(one, sign, other).answer == result, line
        assert Problem(one, sign, other).family not in test_ids, line


def test_every_equation_in_a_document_is_right():
    equations = re.findall(
        r"(?<![\d+*-] )(?<!\d)(\d+) ([+*-]) (\d+) = (\d+)", all_documents("arithmetic")
    )
    assert len(equations) > 3_000
    for left, sign, right, result in equations:
        assert Problem(int(left), sign, int(right)).answer == int(result)


def test_every_column_with_a_carry_is_right():
    columns = re.findall(
        r": (\d+) ([+*-]) (\d+) ([+-]) (\d) = (\d+)\.", all_documents("arithmetic")
    )
    assert len(columns) > 500
    for upper, sign, lower, carry_sign, carry, total in columns:
        before_carry = Problem(int(upper), sign, int(lower)).answer
        assert Problem(before_carry, carry_sign, int(carry)).answer == int(total)


def test_three_digits_are_worked_out_in_three_right_columns():
    arithmetic = Arithmetic(3)
    long = [e for e in arithmetic.examples("validation") if "Hundreds:" in e.response]
    assert len(long) > 500
    for example in long:
        assert arithmetic.verify(example.response, example.reference).score == 1.0
        ones, tens, hundreds = re.findall(r"= (\d+)\. ", example.response)
        assert f"{hundreds}{tens[-1]}{ones[-1]}".lstrip("0") == example.reference, example


def test_most_statements_of_arithmetic_come_without_steps():
    lines = all_documents("arithmetic").split("\n")
    worked = [line for line in lines if "Ones:" in line]
    assert 0 < len(worked) < len(lines) / 3


def test_twins_share_an_id():
    family = {
        Problem(47, "+", 35), Problem(35, "+", 47), Problem(82, "-", 35), Problem(82, "-", 47),
    }  # fmt: skip
    assert {problem.family for problem in family} == {"35 + 47"}
    assert Problem(23, "*", 4).family == Problem(4, "*", 23).family


def test_a_response_of_arithmetic_is_short():
    """Every word, sign and single digit counted as a token, as a tokenizer of few merges has it."""
    longest = max(
        len(re.findall(r"[A-Za-z]+|\d|[^\sA-Za-z\d]", example.response))
        for example in examples("arithmetic", "train")
    )
    assert longest <= 60


def test_the_number_of_digits_is_checked():
    with pytest.raises(ValueError, match="max_digits"):
        Arithmetic(4)


def test_every_fact_stands_in_one_pass_of_documents_in_every_phrasing():
    text = "\n".join(task("facts").documents(0)).lower()
    for fact in FACTS:
        phrasings = WORDINGS[fact.relation].documents
        assert len(phrasings) >= 4
        for phrasing in phrasings:
            said = phrasing.replace("{c}", fact.country).replace("{v}", fact.value)
            assert said.lower() in text, said


def test_no_test_country_is_named_in_fine_tuning():
    tested = [country for country in COUNTRIES if country_split(country) == "test"]
    named = [country for country in tested if occurs(country, trained_on("facts"))]
    assert tested
    assert not named


def test_a_response_that_names_several_values_is_wrong():
    verify = task("facts").verify
    assert verify("it is LIMA.", "Lima").score == 1.0
    assert verify("Lima or Quito", "Lima").score == 0.0
    assert verify("Quito", "Lima").score == 0.0
    assert verify("I cannot say", "Lima").score == 0.0
    assert verify("Lima", "Atlantis").score is None


def test_values_of_different_relations_are_never_confused():
    for one, other in combinations(VALUES.values(), 2):
        assert not set(one) & set(other)
