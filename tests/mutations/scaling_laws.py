"""Mutations of scaling laws: what is fitted, what is left out, in which unit."""

from tests.mutations.mutation import Mutation

_STATISTICS = ("tests/unit/eval/statistics/test_scaling_law.py",)
_STAGE = ("tests/stages/test_scaling_law_stage.py",)

SCALING_LAWS = [
    Mutation(
        "the published fit comes back: Huber loss, so that outliers hardly count",
        "eval/statistics/scaling_law.py",
        "slope = np.clip(off, -_HUBER, _HUBER)",
        "slope = off",
        _STATISTICS,
    ),
    Mutation(
        "runs of more than a quarter of the largest compute are predicted, not fitted",
        "eval/statistics/scaling_law.py",
        "return [run.compute > limit for run in runs]",
        "return [False for run in runs]",
        _STAGE,
    ),
    Mutation(
        "L is in nats",
        "pipeline/stages/scaling_law.py",
        "config.text) * math.log(2)",
        "config.text)",
        _STAGE,
    ),
    Mutation(
        "the best size and tokens for a compute have the lowest loss",
        "eval/statistics/scaling_law.py",
        "ratio * product_ND ** (self.beta / total)",
        "ratio * product_ND ** (self.alpha / total)",
        _STATISTICS,
    ),
    Mutation(
        "runs of another tokenizer are refused",
        "pipeline/recipe/checks/scaling_law.py",
        "if tokenizer != tokenizers[0]:",
        "if False:",
        ("tests/recipes/test_bad_scaling_law.py",),
    ),
    Mutation(
        "a constant that the runs do not have is 0",
        "eval/statistics/scaling_law.py",
        "E=constant if constant > _LEAST_CONSTANT * least_loss else 0.0,",
        "E=constant,",
        _STATISTICS,
    ),
    Mutation(
        "pieces of the library that are held out are of files that no training reads",
        "recipes/library_sources.py",
        'pieces = _pieces("validation")',
        'pieces = _pieces("train")',
        ("tests/recipes/test_recipe_code.py",),
    ),
]
