"""Mutations of answers that are pictures, and of what is measured of a set of answers."""

from tests.mutations.mutation import Mutation

PICTURES = [
    Mutation(
        "the gold judge of drawings knows no image that the verifier knows",
        "eval/tasks/digit_judges.py",
        '{"verifier": "validation", "gold": "gold"}',
        '{"verifier": "validation", "gold": "validation"}',
        ("tests/unit/eval/tasks/test_task_digits.py",),
    ),
    Mutation(
        "held-out documents of digits are of images that training never reads",
        "eval/tasks/digits.py",
        'for image in images("validation"))',
        'for image in images("train"))',
        ("tests/unit/eval/tasks/test_task_digits.py",),
    ),
    Mutation(
        "a spread varies as much as its shares say, not half as much",
        "eval/statistics/spread.py",
        "return [number * mean - (number - 1) * left for left in without]",
        "return [total / (number - 1) for total in totals]",
        ("tests/unit/eval/statistics/test_spread.py",),
    ),
    Mutation(
        "bits are counted by the unit that a task names",
        "eval/asking/question.py",
        "replace(result, score=bits / units, weight=units, reason=reason)",
        "replace(result, score=bits, weight=units, reason=reason)",
        ("tests/unit/eval/asking/test_drawn_answers.py",),
    ),
    Mutation(
        "a picture is shown a whole number of times its size",
        "pipeline/text/pictures.py",
        "scale * len(levels[0]), scale * len(levels)",
        "about_px, about_px",
        ("tests/unit/text/test_pictures.py",),
    ),
    Mutation(
        "a model of documents continues what a task says, not the prompt of a chat",
        "pipeline/data/reading/prompts.py",
        'row.fields.get("document", prompt)',
        "prompt",
        ("tests/unit/data/reading/test_task_prompts.py",),
    ),
]
