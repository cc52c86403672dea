"""Mutations of sweeps: which stages there are, what they are called, which one is the best."""

from tests.mutations.mutation import Mutation

_UNIT = ("tests/unit/recipe/sweeps/test_sweeps.py",)
_BAD = ("tests/recipes/test_bad_sweeps.py",)

SWEEPS = [
    Mutation(
        "a point of a sweep is named by its values in any order",
        "pipeline/recipe/sweeps/selectors.py",
        "points = _filter(sweep, points, key, value)",
        "points = _filter(sweep, list(sweep.points), key, value)",
        _UNIT,
    ),
    Mutation(
        "a sweep over another sweep's stages takes their labels",
        "pipeline/recipe/sweeps/read.py",
        "for label, text in (value.labels or {}).items():",
        "for label, text in {}.items():",
        _UNIT,
    ),
    Mutation(
        "an error of a swept value points at that value",
        "pipeline/recipe/sweeps/expand.py",
        "self._copy(setting.value, setting.place, (*new, *location))",
        'self._copy(setting.value, ("stages", name), (*new, *location))',
        _BAD,
    ),
    Mutation(
        "two points that are the same stage are refused",
        "pipeline/recipe/sweeps/checks.py",
        "if same != point.name:",
        "if same is None:",
        _BAD,
    ),
    Mutation(
        "the best of a sweep is the lowest where less is better",
        "pipeline/stages/best.py",
        'sign = 1.0 if direction == "lowest" else -1.0',
        'sign = -1.0 if direction == "lowest" else 1.0',
        ("tests/unit/recipe/sweeps/test_best_stage.py",),
    ),
]
