"""Ways of asking: worked demonstrations, thinking step by step, several samples, confidence."""

import copy
import math
from dataclasses import replace

import pytest
from test_run import SETTINGS, Additions, of

from eval.asking.loglik import continuation_logprobs, split_continuation
from eval.asking.run import check_questions, choose_demonstrations, evaluate, is_worked
from eval.asking.sampler import generate
from eval.task import Example

SAMPLED = SETTINGS | {"temperature": 1.0}


class Worked(Additions):
    """Sums that are worked out, on lines of their own, but for those of 0."""

    metrics = ("choice_accuracy", "verified_accuracy")
    worked_stop = ("\n--",)

    def examples(self, split):
        for plain in super().examples(split):
            if "0" in plain.document:
                yield plain
                continue
            yield replace(
                plain,
                group=plain.document[0],
                worked_document=f"work {plain.document}",
                worked_continuation=f"\nis {plain.reference}",
            )


def thinking(model, task, **settings):
    results = evaluate(model, [task], **SETTINGS | {"styles": ["chain-of-thought"]} | settings)
    return of(results, "verified_accuracy", "chain-of-thought")


def test_a_base_model_gets_worked_demonstrations_and_room_to_work(tiny):
    results = thinking(tiny, Worked(), shots=[2, 5])
    shown = choose_demonstrations(Worked(), 2, seed=1, worked=True)
    lines = "".join(f"{s.worked_document}{s.worked_continuation}\n--" for s in shown)
    items = Worked().test_items(12)
    worked = [(r, i) for r, i in zip(results, items, strict=True) if i.worked_document]
    assert worked
    for result, item in worked:
        assert result.prompt == lines + item.worked_document
        assert (result.shots, result.style, result.form) == (2, "chain-of-thought", "document")
        assert result.group == item.document[0]
        assert result.num_tokens <= 2 * Worked.max_new_tokens
    assert max(result.num_tokens for result, _ in worked) > Worked.max_new_tokens
    prompt = tiny.encode_document(worked[0][0].prompt)
    (expected,) = generate(
        tiny, [prompt], max_new_tokens=12, batch_size=1, seed=1, stop=Worked.worked_stop
    )
    assert worked[0][0].response == expected.text


def test_an_item_without_steps_is_left_out_of_a_chain_of_thought_with_a_reason(tiny):
    results = thinking(tiny, Worked())
    for result, item in zip(results, Worked().test_items(12), strict=True):
        assert (result.score is None) == (not item.worked_document)
        assert (result.reason == "not asked: there is nothing to work out") == (
            not item.worked_document
        )


def test_a_chat_model_is_told_to_think_step_by_step_and_shown_nothing(tiny_chat):
    results = thinking(tiny_chat, Worked())
    items = [item for item in Worked().test_items(12) if item.worked_document]
    asked = [result for result in results if result.score is not None]
    assert [result.prompt for result in asked] == [
        f"{item.prompt}\nLet's think step by step." for item in items
    ]
    assert {(result.shots, result.form) for result in asked} == {(0, "chat")}


def test_choices_and_tasks_without_steps_are_not_asked_by_chain_of_thought(tiny):
    settings = SETTINGS | {"styles": ["zero-shot", "chain-of-thought"]}
    results = evaluate(tiny, [Additions(), Worked()], **settings)
    assert not is_worked(Additions())
    assert is_worked(Worked())
    thought = [result for result in results if result.style == "chain-of-thought"]
    assert {result.metric for result in thought} == {"verified_accuracy"}
    assert len(thought) == 12


def test_every_number_of_shots_is_asked_and_said(tiny):
    results = evaluate(tiny, [Additions()], **SETTINGS | {"styles": ["few-shot"], "shots": [1, 3]})
    by_shots = {
        shots: [r for r in of(results, "verified_accuracy", "few-shot") if r.shots == shots]
        for shots in (1, 3)
    }
    for shots, found in by_shots.items():
        assert len(found) == 12
        assert {result.prompt.count("\n") for result in found} == {shots}


def test_more_samples_leave_the_first_ones_as_they_are_and_differ_from_them(tiny):
    one = of(evaluate(tiny, [Additions()], **SAMPLED), "verified_accuracy")
    three = of(evaluate(tiny, [Additions()], **SAMPLED, samples=3), "verified_accuracy")
    assert [result for result in three if result.sample == 0] == one
    assert len(three) == 3 * len(one)
    by_sample = [[r.response for r in three if r.sample == sample] for sample in range(3)]
    assert by_sample[0] != by_sample[1] != by_sample[2]
    choices = of(evaluate(tiny, [Additions()], **SAMPLED, samples=3), "choice_accuracy")
    assert len(choices) == 12
    with pytest.raises(ValueError, match="2 greedy responses to one prompt"):
        evaluate(tiny, [Additions()], **SETTINGS, samples=2)


def test_confidence_is_the_share_of_the_chosen_option(tiny):
    results = of(evaluate(tiny, [Additions()], **SETTINGS), "choice_accuracy")
    for result, item in zip(results, Additions().test_items(12), strict=True):
        options = [item.continuation, *item.distractors]
        pairs = [split_continuation(tiny, item.document, option) for option in options]
        shares = [math.exp(logprob) for logprob in continuation_logprobs(tiny, pairs, batch_size=1)]
        assert result.confidence == pytest.approx(max(shares) / sum(shares), rel=1e-4)
        assert 1 / 3 <= result.confidence <= 1


def test_sampled_responses_carry_their_log_ratio_and_greedy_ones_do_not(
    tiny, tiny_with_many_endings
):
    settings = {"trained_from": tiny_with_many_endings, "samples": 10}
    results = of(evaluate(tiny, [Additions()], **SAMPLED, **settings), "verified_accuracy")
    ratios = [result.log_ratio for result in results]
    assert ratios[:100] == pytest.approx([0.0] * 100, abs=1e-4)  # the same weights
    assert ratios[100:] == [None] * 20
    greedy = evaluate(tiny, [Additions()], **SETTINGS, trained_from=tiny)
    assert {result.log_ratio for result in greedy} == {None}
    warmer = evaluate(tiny, [Additions()], **SETTINGS, temperature=1.5, trained_from=tiny)
    assert {result.log_ratio for result in warmer} == {None}


def test_the_log_ratio_is_that_of_the_response_under_both_models(tiny):
    other = replace(tiny, module=_shifted(tiny.module))
    results = of(evaluate(tiny, [Additions()], **SAMPLED, trained_from=other), "verified_accuracy")
    items = Additions().test_items(12)
    prompts = [tiny.encode_document(item.document) for item in items]
    settings = {"max_new_tokens": 6, "temperature": 1.0, "batch_size": 4, "seed": 1}
    written = generate(tiny, prompts, stop=["\n"], **settings)
    pairs = [(p, list(g.token_ids)) for p, g in zip(prompts, written, strict=True)]
    ours, theirs = (continuation_logprobs(m, pairs, batch_size=1) for m in (tiny, other))
    expected = [a - b for a, b in zip(ours, theirs, strict=True)]
    assert [result.log_ratio for result in results] == pytest.approx(expected, abs=1e-3)
    assert sum(expected) / 12 > 0.1


def _shifted(module):
    other = copy.deepcopy(module)
    other.lm_head.weight.data *= 0.9
    return other


def test_worked_demonstrations_come_from_training_examples_that_are_worked():
    shown = choose_demonstrations(Worked(), 5, seed=0, worked=True)
    train = {example.id for example in Worked().examples("train")}
    assert all(shot.worked_document and shot.id in train for shot in shown)
    assert isinstance(shown[0], Example)
    with pytest.raises(ValueError, match=r"takes 1 to \d+ worked demonstrations, not 99"):
        choose_demonstrations(Worked(), 99, seed=0, worked=True)


class Lettered(Additions):
    """Sums in which a letter stands for what is added to them; only siblings tell how much."""

    def examples(self, split):
        sums = list(super().examples(split))
        for plain in sums:
            others = [each for each in sums if each.id != plain.id]
            yield replace(plain, siblings=tuple(others[:5]))


def test_an_item_with_siblings_is_shown_the_first_of_these(tiny, tiny_chat):
    settings = SETTINGS | {"styles": ["few-shot"], "shots": [1, 4]}
    for model in (tiny, tiny_chat):
        results = of(evaluate(model, [Lettered()], **settings), "verified_accuracy", "few-shot")
        for result, item in zip(results, Lettered().test_items(12) * 2, strict=True):
            shots = item.siblings[: result.shots]
            if model.form == "document":
                lines = [f"{each.document}{each.continuation}\n" for each in shots]
                assert result.prompt == "".join(lines) + item.document
            else:
                assert all(f"user: {each.prompt}" in result.prompt for each in shots)
                assert result.prompt.count("user: ") == result.shots + 1


def test_a_prompt_that_takes_more_siblings_than_an_item_has_is_refused():
    asking = {"limit": 12, "styles": ["few-shot"], "seed": 1, "form": "document"}
    check_questions(Lettered(), shots=[5], needs_few_shot=True, **asking)
    with pytest.raises(ValueError, match="has 5 examples of its rule to show, not 6"):
        check_questions(Lettered(), shots=[6], needs_few_shot=True, **asking)


def test_no_shots_are_asked_zero_shot_and_once(tiny):
    settings = SETTINGS | {"styles": ["few-shot"], "shots": [0, 2]}
    results = evaluate(tiny, [Additions()], **settings)
    plain = evaluate(tiny, [Additions()], **SETTINGS)
    assert of(results, "verified_accuracy") == of(plain, "verified_accuracy")
    assert {(each.style, each.shots) for each in results} == {("zero-shot", 0), ("few-shot", 2)}
    both = evaluate(tiny, [Additions()], **settings | {"styles": ["zero-shot", "few-shot"]})
    assert sorted(map(repr, both)) == sorted(map(repr, results))


def test_a_chain_of_thought_shows_the_first_number_above_0_or_nothing(tiny):
    assert {each.shots for each in thinking(tiny, Worked(), shots=[0, 2, 5])} == {2}
    alone = thinking(tiny, Worked(), shots=[0])
    assert {each.shots for each in alone} == {0}
    asked = [each for each in alone if each.score is not None]
    assert all(each.prompt.startswith("work ") for each in asked)
