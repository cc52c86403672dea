"""Prompts that a model did not get, or that are longer than its rows, are counted and said."""

from dataclasses import replace

from test_run import SETTINGS, Additions

from eval.asking.run import evaluate
from pipeline.measuring.prompt_lengths import note_lengths

FEW_SHOT = SETTINGS | {"styles": ["zero-shot", "few-shot"], "shots": [2, 15]}


def notes(model, task, **settings):
    return note_lengths(evaluate(model, [task], **FEW_SHOT | settings), model)


def test_prompts_beyond_the_rows_of_pre_training_are_counted_by_way_of_asking(tiny):
    assert notes(tiny, Additions(), shots=[2, 6]) == []
    [note] = notes(replace(tiny, trained_length=30), Additions(), shots=[2, 6])
    assert "`additions` by verified_accuracy, few-shot 6: 12 of 12" in note
    assert "rows of 30 tokens" in note
    assert "zero-shot" not in note


def test_prompts_that_do_not_fit_are_counted_by_way_of_asking(tiny):
    class Long(Additions):
        metrics = ("choice_accuracy", "verified_accuracy")

        def examples(self, split):
            for example in super().examples(split):
                yield replace(example, document=f"{'so ' * 8}{example.document}")

    [note] = notes(tiny, Long())
    assert f"longer than its {tiny.max_length} positions" in note
    assert "`additions` by verified_accuracy, few-shot 15: 12 of 12" in note
    assert "`additions` by choice_accuracy, few-shot 15: 12 of 12" in note
    assert "few-shot 2:" not in note
