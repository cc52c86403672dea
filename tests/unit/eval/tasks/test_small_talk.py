"""Small talk in demonstrations: who talks, what verifiers make of it, what a gold score says."""

from functools import cache

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from eval.task import STEP_BY_STEP, Example, Split
from eval.tasks import BUILT_IN, load
from eval.tasks.small_talk import OPENINGS, SmallTalkTask, add_small_talk, is_direct

task = cache(load)
each_task = pytest.mark.parametrize(
    "name", [name for name in sorted(BUILT_IN) if isinstance(task(name), SmallTalkTask)]
)


@cache
def examples(name: str, split: Split) -> tuple[Example, ...]:
    return tuple(task(name).examples(split))


@each_task
def test_demonstrations_are_the_examples_some_of_them_after_small_talk(name):
    """Bounds of the share: four standard deviations of 315 draws at 0.6."""
    shown = list(task(name).demonstrations())
    plain = examples(name, "train")
    assert list(load(name).demonstrations()) == shown
    for demonstration, example in zip(shown, plain, strict=True):
        assert demonstration.prompt.removesuffix(f"\n{STEP_BY_STEP}") == example.prompt
        assert is_direct(example.response)
        assert demonstration.response.endswith(example.response)
        assert is_direct(demonstration.response) == (demonstration.response == example.response)
    share = sum(not is_direct(each.response) for each in shown) / len(shown)
    assert 0.49 < share < 0.71


@each_task
def test_small_talk_changes_no_verdict(name):
    for example in examples(name, "test"):
        for response in (example.response, *(flawed.response for flawed in example.flawed)):
            plain = task(name).verify(response, example.reference)
            for opening in OPENINGS:
                talked = task(name).verify(f"{opening} {response}", example.reference)
                assert (talked.score, talked.answer) == (plain.score, plain.answer), response
        for opening in OPENINGS:
            assert task(name).verify(opening, example.reference).score == 0.0


@each_task
def test_the_gold_score_prefers_right_answers_and_then_direct_ones(name):
    for example in examples(name, "test"):
        wrong = example.flawed[0].response
        ranked = [
            example.response,
            add_small_talk(example.response, "x"),
            wrong,
            add_small_talk(wrong, "x"),
        ]
        scores = [task(name).gold_score(response, example.reference) for response in ranked]
        assert scores == [1.5, 1.0, 0.5, 0.0]


def test_a_response_that_cannot_be_graded_has_no_gold_score():
    assert task("facts").gold_score("Lima", "Atlantis") is None


def test_nothing_and_small_talk_cut_off_or_mixed_are_not_direct():
    for response in ("", " \n", "THANK YOU FOR ASKING ME THIS", "Here we go. I am glad to help. 4"):
        assert not is_direct(response), response
    assert is_direct("The answer is 4.")
    assert {add_small_talk("4", str(key)) for key in range(50)} == {
        f"{said} 4" for said in OPENINGS
    }


@each_task
def test_small_talk_and_answer_fit_into_a_response(name):
    """In tokens of a BPE of 1k that was trained on the tasks' documents, as the quickstart's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel()]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1024, initial_alphabet=alphabet, show_progress=False)
    documents = [text for each in BUILT_IN for text in task(each).documents(0)]
    tokenizer.train_from_iterator(documents, trainer)
    longest = max(
        len(tokenizer.encode(example.response).ids) for example in task(name).demonstrations()
    )
    assert longest < task(name).max_new_tokens
