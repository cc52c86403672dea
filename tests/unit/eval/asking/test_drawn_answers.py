"""What results say of answers that are pictures: bits a pixel, all of them together, each one."""

import math
from statistics import fmean

import pytest

from eval.asking.loglik import continuation_logprobs, split_continuation
from eval.asking.run import evaluate
from eval.comparison.score_rows import compare_scores
from eval.statistics.spread import spread_shares
from eval.task import Example, Task
from reward.verdict import Verdict
from tests.unit.eval.conftest import POSITIONS

SETTINGS = {"limit": 9, "shots": [1], "batch_size": 4, "seed": 1, "styles": ["zero-shot"]}


class Strokes(Task):
    """Lines of `a` and `b`, four pixels each."""

    name, version, kind, summary = "strokes", 1, "skill", "four pixels"
    set_metrics = ("diversity",)
    unit = "pixel"
    max_new_tokens = 4

    def examples(self, split):
        for number in range(12):
            line = f"{number:04b}".translate({48: "a", 49: "b"})
            group = str(number % 2)
            yield Example(line, group, line, group, f"{group}:", f" {line}", group=group)

    def documents(self, seed):
        return iter(["0: aaaa"])

    def verify(self, response, reference):
        return Verdict(float(reference in response))

    def set_scores(self, responses, references):
        return {
            "diversity": spread_shares([*map(len, responses)], references, lambda a, b: abs(a - b))
        }

    def picture(self, response):
        return None if "a" in response else [[0.5, 2.0], [-1.0, 1.0]]


def of(results, metric):
    return [result for result in results if result.metric == metric]


def test_a_task_with_a_unit_has_its_right_answers_measured_in_bits(tiny):
    results = of(evaluate(tiny, [Strokes()], **SETTINGS), "bits_per_pixel")
    assert len(results) == 9
    for result, example in zip(results, Strokes().examples("test"), strict=False):
        pair = split_continuation(tiny, example.document, example.continuation)
        (logprob,) = continuation_logprobs(tiny, [pair], batch_size=1)
        assert result.score == pytest.approx(-logprob / math.log(2) / 4, rel=1e-5)
        assert (result.weight, result.lower_is_better, result.style) == (4, True, "none")
    (row,) = [row for row in compare_scores({"t": results}, "t") if row.metric == "bits_per_pixel"]
    assert row.score == pytest.approx(fmean(result.score for result in results))


def test_what_does_not_fit_is_not_measured(tiny):
    class Long(Strokes):
        def examples(self, split):
            for number, each in enumerate(super().examples(split)):
                long = "c" * (POSITIONS - 2)
                yield Example(
                    str(number), "x", "a", "0", long if number == 1 else each.document, " aaaa"
                )

    results = of(evaluate(tiny, [Long()], **SETTINGS), "bits_per_pixel")
    assert [result.score is None for result in results] == [number == 1 for number in range(9)]
    assert "do not fit" in results[1].reason


def test_a_figure_of_all_responses_has_a_share_of_each(tiny):
    results = evaluate(tiny, [Strokes()], **SETTINGS, temperature=1.0, samples=2)
    answers, shares = of(results, "verified_accuracy"), of(results, "diversity")
    lengths = [len(answer.response) for answer in answers]
    expected = spread_shares(lengths, [answer.gold for answer in answers], lambda a, b: abs(a - b))
    assert [share.score for share in shares] == expected
    assert [(share.item, share.sample) for share in shares] == [
        (answer.item, answer.sample) for answer in answers
    ]


def test_a_response_that_is_a_picture_is_kept_as_one(tiny):
    answers = of(evaluate(tiny, [Strokes()], **SETTINGS), "verified_accuracy")
    for answer in answers:
        assert answer.picture == (None if "a" in answer.response else [[128, 255], [0, 255]])
    assert all(result.picture is None for result in of(answers, "diversity"))
