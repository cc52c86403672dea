"""How items are asked, and what stands in their results."""

import math
import subprocess
import sys
from dataclasses import replace

import pytest

from eval.asking.loglik import continuation_logprobs, split_continuation
from eval.asking.run import choose_demonstrations, evaluate, evaluate_texts
from eval.asking.sampler import generate
from eval.comparison.score_rows import compare_scores
from eval.model import StopRequested
from eval.task import Example, FurtherScore, Task
from reward.verdict import Verdict
from tests.unit.eval.asking.text_bits import text_bits


class Additions(Task):
    """Sums of two digits; both orders of a pair share an id, which ends in its split's number."""

    name = "additions"
    version = 1
    kind = "skill"
    summary = "sums of two digits"
    metrics = ("choice_accuracy", "verified_accuracy")
    max_new_tokens = 6

    def examples(self, split):
        remainder = {"test": 0, "validation": 1, "train": 2}[split]
        for a in range(9):
            for b in range(9):
                if (a + b) % 3 == remainder:
                    yield Example(
                        id=f"{min(a, b)}+{max(a, b)}",
                        prompt=f"Add {a} and {b}.",
                        response=f"It is {a + b}.",
                        reference=str(a + b),
                        document=f"{a}+{b}=",
                        continuation=str(a + b),
                        distractors=(str(a + b + 1), str(a + b + 2)),
                    )

    def documents(self, seed):
        return (example.document + example.continuation for example in self.examples("train"))

    def verify(self, response, reference):
        if "z" in response:
            return Verdict(None, None, "the grader does not know z")
        return Verdict(float(reference in response), response[:1], "looked for the sum")


SETTINGS = {"limit": 12, "shots": [2], "batch_size": 4, "seed": 1, "styles": ["zero-shot"]}


def of(results, metric, style="zero-shot"):
    return [result for result in results if (result.metric, result.style) == (metric, style)]


def test_a_base_model_continues_documents_after_the_same_demonstrations_for_every_item(tiny):
    settings = SETTINGS | {"styles": ["zero-shot", "few-shot"]}
    results = evaluate(tiny, [Additions()], **settings)
    assert len(results) == 12 * 2 * 2
    items = Additions().test_items(12)
    shown = choose_demonstrations(Additions(), 2, seed=1)
    lines = "".join(f"{shot.document}{shot.continuation}\n" for shot in shown)
    for metric in Additions.metrics:
        zero, few = of(results, metric), of(results, metric, "few-shot")
        assert [result.prompt for result in zero] == [item.document for item in items]
        assert [result.prompt for result in few] == [lines + item.document for item in items]
        assert {result.form for result in zero + few} == {"document"}
        assert [result.item for result in zero] == [result.item for result in few]


def test_a_chat_model_is_asked_in_turns_but_chooses_between_documents(tiny_chat):
    settings = SETTINGS | {"styles": ["few-shot"]}
    results = evaluate(tiny_chat, [Additions()], **settings)
    item = Additions().test_items(1)[0]
    first, second = choose_demonstrations(Additions(), 2, seed=1)
    written = of(results, "verified_accuracy", "few-shot")[0]
    assert written.form == "chat"
    assert written.prompt == (
        f"user: {first.prompt}\nassistant: {first.response}\n"
        f"user: {second.prompt}\nassistant: {second.response}\nuser: {item.prompt}"
    )
    turns = [
        ("user", first.prompt),
        ("assistant", first.response),
        ("user", second.prompt),
        ("assistant", second.response),
        ("user", item.prompt),
    ]
    ids = tiny_chat.encode_chat(turns)
    response = generate(tiny_chat, [ids], max_new_tokens=6, batch_size=1, seed=1)[0]
    assert written.response == response.text
    assert written.num_tokens == len(response.token_ids)
    chosen = of(results, "choice_accuracy", "few-shot")[0]
    assert chosen.form == "document"
    assert chosen.prompt.endswith(f"\n{item.document}")


def test_a_choice_is_the_continuation_of_highest_log_probability(tiny):
    results = of(evaluate(tiny, [Additions()], **SETTINGS), "choice_accuracy")
    for result, item in zip(results, Additions().test_items(12), strict=True):
        options = [item.continuation, *item.distractors]
        pairs = [split_continuation(tiny, item.document, option) for option in options]
        logprobs = continuation_logprobs(tiny, pairs, batch_size=1)
        best = options[logprobs.index(max(logprobs))]
        assert (result.response, result.answer, result.gold) == (best, best, item.continuation)
        assert result.score == (best == item.continuation)
    assert {result.score for result in results} == {0.0, 1.0}


def test_a_model_that_sees_no_difference_has_not_chosen_right(tiny):
    weight = tiny.module.lm_head.weight
    kept = weight.detach().clone()
    weight.data.zero_()
    try:
        results = evaluate(tiny, [Additions()], **SETTINGS | {"limit": 3})
    finally:
        weight.data.copy_(kept)
    assert [result.score for result in of(results, "choice_accuracy")] == [0.0] * 3


def test_what_cannot_be_graded_has_no_score_and_a_reason(tiny):
    class AlwaysZ(Additions):
        metrics = ("verified_accuracy",)

        def verify(self, response, reference):
            return super().verify(response + "z", reference)

    results = evaluate(tiny, [AlwaysZ()], **SETTINGS)
    assert {(result.score, result.reason.split(";")[0]) for result in results} == {
        (None, "the grader does not know z")
    }


def test_written_responses_alone_have_a_gold_score_and_the_task_decides_which(tiny):
    class Brief(Additions):
        def gold_score(self, response, reference):
            return -float(len(response))

    results = evaluate(tiny, [Brief()], **SETTINGS)
    written = of(results, "verified_accuracy")
    assert [result.gold_score for result in written] == [-len(r.response) for r in written]
    assert {result.gold_score for result in of(results, "choice_accuracy")} == {None}
    plain = of(evaluate(tiny, [Additions()], **SETTINGS), "verified_accuracy")
    assert [result.gold_score for result in plain] == [result.score for result in plain]


def test_an_item_too_long_for_the_model_is_left_out_and_changes_no_other(tiny):
    class OneLong(Additions):
        def examples(self, split):
            for index, example in enumerate(super().examples(split)):
                long = "0" * 95 + example.document
                yield replace(example, document=long) if index == 3 else example

    settings = SETTINGS | {"batch_size": 5}
    plain = evaluate(tiny, [Additions()], **settings)
    results = evaluate(tiny, [OneLong()], **settings)
    left_out = [result for result in results if result.score is None]
    assert [result.metric for result in left_out] == ["choice_accuracy", "verified_accuracy"]
    for result in left_out:
        assert "do not fit into 96 positions" in result.reason
    expected = [result for index, result in enumerate(plain) if index % 12 != 3]
    found = [result for result in results if result.score is not None]
    assert [(r.item, r.response, r.score) for r in found] == [
        (r.item, r.response, r.score) for r in expected
    ]


def test_batch_size_changes_no_result(tiny):
    def rounded(results):
        return [
            replace(r, reason="", confidence=r.confidence and round(r.confidence, 4))
            for r in results
        ]

    settings = SETTINGS | {"styles": ["zero-shot", "few-shot"]}
    assert rounded(evaluate(tiny, [Additions()], **settings | {"batch_size": 1})) == rounded(
        evaluate(tiny, [Additions()], **settings | {"batch_size": 64})
    )


def test_twins_are_two_items_and_demonstrations_are_never_twins(tiny):
    results = of(evaluate(tiny, [Additions()], **SETTINGS | {"limit": 27}), "choice_accuracy")
    items = [result.item for result in results]
    assert {"0+3", "0+3#2"} < set(items)
    assert len(set(items)) == len(items)
    train = {example.id for example in Additions().examples("train")}
    shown = choose_demonstrations(Additions(), len(train), seed=0)
    assert sorted(shot.id for shot in shown) == sorted(train)
    with pytest.raises(ValueError, match="takes 1 to 15 demonstrations, not 16"):
        choose_demonstrations(Additions(), len(train) + 1, seed=0)
    assert choose_demonstrations(Additions(), 4, seed=0) == choose_demonstrations(
        Additions(), 4, seed=0
    )
    assert choose_demonstrations(Additions(), 4, seed=0) != choose_demonstrations(
        Additions(), 4, seed=1
    )


def test_a_choice_without_distinct_distractors_is_refused_by_item(tiny):
    class NoDistractors(Additions):
        def examples(self, split):
            for example in super().examples(split):
                yield replace(example, distractors=(example.continuation,))

    with pytest.raises(ValueError, match=r"item `0\+0` of task `additions` cannot be scored"):
        evaluate(tiny, [NoDistractors()], **SETTINGS)


def test_progress_counts_up_to_the_total_and_a_stop_request_ends_the_work(tiny):
    seen = {}

    def progress(label, done, total):
        seen.setdefault(label, []).append((done, total))

    evaluate(tiny, [Additions()], on_progress=progress, **SETTINGS)
    assert list(seen) == [f"additions, {metric}, zero-shot" for metric in Additions.metrics]
    for counts in seen.values():
        assert counts == sorted(counts)
        assert counts[-1][0] == counts[-1][1]
    with pytest.raises(StopRequested):
        evaluate(tiny, [Additions()], should_stop=lambda: True, **SETTINGS)


def test_the_mean_of_texts_is_total_bits_over_total_bytes(tiny):
    documents = ["Once upon a time.", "", "The quick brown fox jumps over the lazy dog. " * 6]
    results = evaluate_texts(tiny, {"stories": documents}, batch_size=3)
    measured = [text_bits(tiny, document, batch_size=1) for document in documents]
    assert [result.score is None for result in results] == [False, True, False]
    graded = [result for result in results if result.score is not None]
    total = math.fsum(result.score * result.weight for result in graded)
    assert total == pytest.approx(sum(bits for bits, _ in measured), rel=1e-6)
    assert [result.weight for result in graded] == [17, 270]
    assert {(result.style, result.form) for result in results} == {("none", "document")}


def test_the_id_of_a_document_changes_with_its_text(tiny):
    one, other = (
        evaluate_texts(tiny, {"stories": [text]}, batch_size=1)[0].item for text in ("one", "other")
    )
    assert one != other


def test_importing_the_evaluation_does_not_import_torch():
    code = (
        "import sys, eval.asking.run, eval.comparison.comparison, eval.comparison.gate\n"
        "heavy = {'torch', 'transformers', 'scipy', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


class LongAdditions(Additions):
    """Also measured: the share of digits in a response, by as many as it has characters."""

    metrics = ("verified_accuracy",)
    further_metrics = ("digits",)

    def further_scores(self, response, reference):
        digits = sum(letter.isdigit() for letter in response)
        return {"digits": FurtherScore(digits / max(1, len(response)), len(response) + 1)}


def test_further_metrics_stand_beside_a_response_and_weigh_as_they_say(tiny):
    results = evaluate(tiny, [LongAdditions()], **SETTINGS)
    answers, further = of(results, "verified_accuracy"), of(results, "digits")
    assert len(answers) == len(further) == 12
    for answer, beside in zip(answers, further, strict=True):
        assert (beside.item, beside.response, beside.gold_score) == (answer.item, "", None)
        assert beside.weight == len(answer.response) + 1
    (row,) = [row for row in compare_scores({"tiny": results}, "tiny") if row.metric == "digits"]
    total = sum(each.weight for each in further)
    mean = sum(each.score * each.weight for each in further) / total
    assert row.score == pytest.approx(mean)


def test_of_an_item_that_is_not_asked_further_metrics_know_nothing(tiny):
    class OneLong(LongAdditions):
        def examples(self, split):
            for index, example in enumerate(super().examples(split)):
                yield replace(example, document="0" * 95) if index == 3 else example

    results = evaluate(tiny, [OneLong()], **SETTINGS)
    unasked = [each.score is None for each in of(results, "digits")]
    assert unasked == [index == 3 for index in range(12)]
