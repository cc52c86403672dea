"""What every built-in task promises: disjoint splits, no leak, verifiable demonstrations."""

import hashlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import combinations

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from eval.task import Example, Split, Task
from eval.tasks import BUILT_IN, load

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
SEEDS = (0, 1)
# Flaws of manner: the answer in such a response may well be right.
MANNER = {"no steps", "small talk first", "unkind ending"}
# A test item is what is to be written, an image: the ten things that are asked are the same in all
# splits.
ASKS_THE_SAME = {"digits"}
# So many of a split are looked at one by one: some verifiers run a program for each.
FEW = 60
# Positions that a tiny model has, less what a chat template takes of them.
POSITIONS = 128 - 8
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


@cache
def task(name: str) -> Task:
    return load(name)


def tasks_of(kind: str) -> list[str]:
    return [name for name in sorted(BUILT_IN) if task(name).kind == kind]


@cache
def examples(name: str, split: Split) -> tuple[Example, ...]:
    return tuple(task(name).examples(split))


def few(name: str) -> list[Example]:
    """The first examples of each split."""
    return [example for split in SPLITS for example in examples(name, split)[:FEW]]


@cache
def documents(name: str, seed: int) -> tuple[str, ...]:
    return tuple(task(name).documents(seed))


@cache
def all_documents(name: str) -> str:
    return "\n\n".join(text for seed in SEEDS for text in documents(name, seed))


def runs_of(words: list[str], length: int) -> Iterator[tuple[str, ...]]:
    return zip(*(words[start:] for start in range(length)), strict=False)


def those_in(text: str, sought: Iterable[str]) -> list[str]:
    """Return what stands in the text, not as a part of longer words or numbers.

    Searching for each would take minutes: most is ruled out by up to four words that never follow
    one another. Its first and last word may be joined to others there, as by a bracket.
    """
    runs_by_sought: dict[str, set[tuple[str, ...]]] = {}
    for each in sought:
        inner = each.split()[1:-1]
        runs_by_sought[each] = set(runs_of(inner, min(4, len(inner))))
    all_runs, words = set[tuple[str, ...]]().union(*runs_by_sought.values()), text.split()
    found = {
        run for length in (1, 2, 3, 4) for run in all_runs.intersection(runs_of(words, length))
    }
    return [
        each
        for each, runs in runs_by_sought.items()
        if runs <= found and each in text and re.search(rf"(?<!\w){re.escape(each)}(?!\w)", text)
    ]


@cache
def trained_on(name: str) -> str:
    """Everything that fine-tuning may show a model: demonstrations, preference pairs, prompts."""
    texts: list[str] = []
    made = load(name)
    made.examples = lambda split: iter(examples(name, split))  # not generated three times more
    for split in ("train", "validation"):
        for example in made.demonstrations(split):
            texts += [example.prompt, example.response]
        for pair in made.preference_pairs(split):
            texts += [pair.prompt, pair.chosen, pair.rejected]
        texts += [asked.prompt for asked in made.rl_prompts(split)]
    return "\n\n".join(dict.fromkeys(texts))


@cache
def tokenizer() -> Tokenizer:
    """A byte-level BPE of 2k tokens over the documents of all tasks, as a tiny model has it."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=2048, initial_alphabet=alphabet, show_progress=False)
    texts = [text for name in sorted(BUILT_IN) for text in documents(name, 0)[::3]]
    bpe.train_from_iterator(texts, trainer)
    return bpe


def num_tokens(text: str) -> int:
    return len(tokenizer().encode(text).ids)


@each_task
def test_splits_share_no_id_and_test_ids_are_unique(name):
    ids = {split: [example.id for example in examples(name, split)] for split in SPLITS}
    for one, other in combinations(SPLITS, 2):
        assert not set(ids[one]) & set(ids[other])
    assert len(set(ids["test"])) == len(ids["test"])


@each_task
def test_a_test_split_resolves_differences_of_a_few_points(name):
    assert len(examples(name, "test")) >= 220


@pytest.mark.parametrize("name", tasks_of("skill"))
def test_a_skill_has_examples_enough_to_be_learned_and_watched(name):
    assert len(examples(name, "train")) >= 1_000
    assert len(examples(name, "validation")) >= 100


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
    assert tuple(again.examples("test")) == examples(name, "test")
    assert tuple(again.documents(0)) == documents(name, 0)
    assert documents(name, 0) != documents(name, 1)


def test_generation_does_not_depend_on_the_process():
    """Hash randomisation differs between processes: an order taken from a set would too."""
    code = (
        "import hashlib; from eval.tasks import BUILT_IN, load\n"
        "for name in sorted(BUILT_IN):\n"
        "    made = list(load(name).examples('test')), list(load(name).documents(0))\n"
        "    print(name, hashlib.sha256(repr(made).encode()).hexdigest())"
    )
    there = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONHASHSEED": "1", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name, line in zip(sorted(BUILT_IN), there.splitlines(), strict=True):
        made = list(examples(name, "test")), list(documents(name, 0))
        assert line == f"{name} {hashlib.sha256(repr(made).encode()).hexdigest()}"


@each_task
def test_every_demonstration_verifies_and_so_does_every_continuation(name):
    verify = task(name).verify
    for example in few(name):
        assert verify(example.response, example.reference).score == 1.0, example
        assert verify(example.continuation, example.reference).score == 1.0, example
        if example.worked_continuation:
            assert verify(example.worked_continuation, example.reference).score == 1.0, example


@each_task
def test_what_ends_an_answer_in_document_form_does_not_cut_it_short(name):
    for example in few(name):
        for text, stops in (
            (example.continuation, task(name).document_stop),
            (example.worked_continuation, task(name).worked_stop),
        ):
            cut = min((text.index(stop) for stop in stops if stop in text), default=len(text))
            if text:
                verdict = task(name).verify(text[:cut], example.reference)
                assert verdict.score == 1.0, example


@each_task
def test_texts_join_without_stray_white_space(name):
    for split in SPLITS:
        for example in examples(name, split):
            for text in (example.prompt, example.response, example.document):
                assert text, example
                assert text == text.strip(), example
            assert example.continuation[0].isspace(), example
            assert bool(example.worked_document) == bool(example.worked_continuation), example
            if example.worked_document:
                assert example.worked_document == example.worked_document.rstrip(), example
                assert example.worked_continuation[0].isspace(), example
    assert all(text and text == text.strip() for text in documents(name, 0))


@each_task
def test_every_example_belongs_to_a_group_or_none_does(name):
    groups = [example.group for split in SPLITS for example in examples(name, split)]
    assert all(groups) or not any(groups)
    assert {example.group for example in examples(name, "test")} == set(groups)


@each_task
def test_question_and_answer_fit_into_a_tiny_model(name):
    """The longest by characters, in tokens; a response ends with one more that is not text."""
    everything = [*task(name).demonstrations(), *examples(name, "test")]
    responses = sorted({example.response for example in everything}, key=len)[-FEW:]
    dialogues = sorted({f"{each.prompt} {each.response}" for each in everything}, key=len)[-FEW:]
    assert max(map(num_tokens, responses)) < task(name).max_new_tokens
    assert max(map(num_tokens, dialogues)) <= POSITIONS


@each_task
def test_every_flaw_of_the_answer_is_seen_by_the_verifier(name):
    for example in few(name):
        assert len(example.flawed) >= 2, example
        assert len({flawed.response for flawed in example.flawed}) == len(example.flawed), example
        for flawed in example.flawed:
            assert flawed.response != example.response
            if flawed.flaw not in MANNER:
                score = task(name).verify(flawed.response, example.reference).score
                assert score is not None, flawed
                assert score < 1.0, flawed


@each_task
def test_no_flawed_response_has_a_better_gold_score(name):
    for example in examples(name, "validation")[:FEW]:
        gold = task(name).gold_score(example.response, example.reference)
        assert gold is not None
        for flawed in example.flawed:
            score = task(name).gold_score(flawed.response, example.reference)
            assert score is not None, flawed
            assert score <= gold, flawed


@each_task
def test_no_distractor_is_right_or_begins_with_another_choice(name):
    if "choice_accuracy" not in task(name).metrics:
        pytest.skip("no choices")
    for example in examples(name, "test"):
        assert len(example.distractors) == 3, example
        choices = (example.continuation, *example.distractors)
        for one, other in combinations(choices, 2):
            assert not one.startswith(other), example
            assert not other.startswith(one), example
        assert all(wrong[0] == example.continuation[0] for wrong in example.distractors)
    for example in examples(name, "test")[:FEW]:
        for wrong in example.distractors:
            assert task(name).verify(wrong, example.reference).score == 0.0, example


@each_task
def test_verify_takes_any_string(name):
    reference = examples(name, "test")[0].reference
    for response in NASTY:
        assert task(name).verify(response, reference).score in (0.0, None), response
        task(name).verify(response, response)


@each_task
def test_no_chat_prompt_occurs_in_a_document(name):
    prompts = [example.prompt for split in SPLITS for example in examples(name, split)]
    assert not those_in(all_documents(name), prompts)


@pytest.mark.parametrize("name", tasks_of("skill"))
def test_no_test_item_of_a_skill_occurs_in_any_training_text(name):
    items = examples(name, "test")
    asked = [text for each in items for text in (each.prompt, each.document, each.worked_document)]
    if name in ASKS_THE_SAME:
        asked = [text.strip() for each in items for text in (each.response, each.continuation)]
    for text in (all_documents(name), trained_on(name)):
        assert not those_in(text, filter(None, asked))


@pytest.mark.parametrize("name", tasks_of("knowledge"))
def test_every_test_question_of_a_knowledge_task_has_its_answer_in_each_pass(name):
    stated = [example.document + example.continuation for example in examples(name, "test")]
    for seed in SEEDS:
        assert those_in("\n\n".join(documents(name, seed)), stated) == list(dict.fromkeys(stated))


@pytest.mark.parametrize("name", tasks_of("knowledge"))
def test_no_test_question_of_a_knowledge_task_is_trained_on_in_chat(name):
    items = examples(name, "test")
    asked = [text for each in items for text in (each.prompt, each.document, each.worked_document)]
    assert not those_in(trained_on(name), filter(None, asked))


@each_task
def test_every_setting_of_difficulty_has_a_plain_default(name):
    for setting in inspect.signature(type(task(name))).parameters.values():
        assert isinstance(setting.default, int | float | str), setting


def test_an_unknown_task_is_refused_with_the_nearest_name_or_where_all_stand():
    with pytest.raises(ValueError, match=r"did you mean `arithmetic`\?$"):
        load("arithmatic")
    with pytest.raises(ValueError, match=r"`posttrain list tasks` shows all$"):
        load("poetry")


def test_the_tasks_need_no_torch():
    code = (
        "import sys; from eval.tasks import BUILT_IN, load\n"
        "[load(name) for name in BUILT_IN]\n"
        "assert not {'torch', 'transformers', 'datasets'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, check=True)
