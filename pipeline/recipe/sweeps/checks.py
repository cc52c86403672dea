"""What of sweeps is wrong only once stages are known: equal points, several where one is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.errors import PosttrainError
from pipeline.recipe.sweeps.selectors import name_points
from pipeline.text.values import shorten

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import ValidationError

    from pipeline.config.stage_config import StageConfig
    from pipeline.recipe.sweeps.expand import Expansion
    from pipeline.recipe.sweeps.points import Sweep
    from pipeline.recipe.yaml.parser import Location


def refuse_same_points(expansion: Expansion, stages: Mapping[str, StageConfig]) -> None:
    """Raise PosttrainError for two points that are the same stage, as with `1M` and `1000000`."""
    for sweep in expansion.sweeps.values():
        seen: dict[str, str] = {}
        for point in sweep.points:
            same = seen.setdefault(repr(stages[point.name]), point.name)
            if same != point.name:
                written = expansion.document.written
                assert written is not None, "there is a sweep"
                where = written.where(point.settings[-1].place)
                message = f"`{point.name}` is the same stage as `{same}`"
                raise PosttrainError(where, message, "take one of the two values out")


def list_problem(
    expansion: Expansion, location: Location, error: ValidationError
) -> PosttrainError | None:
    """Return the error for `$base[*]` where one stage is taken; None where that is not it."""
    for place, text in expansion.lists.items():
        if place[: len(location)] != location:
            continue
        value: Any = expansion.document.value
        for part in place:
            value = value[part]
        if any(detail["input"] == value for detail in error.errors(include_url=False)):
            key = next((part for part in reversed(place) if isinstance(part, str)), "")
            message = f"`{shorten(text)}` is {len(value)} stages, and `{key}` takes one"
            hint = "name one, or write it as a `sweep:` of this stage to have one for each"
            return PosttrainError(expansion.document.where(place), message, hint)
    return None


def ways_to_name(sweep: Sweep) -> tuple[str, str]:
    """Return the error for `$base` alone, where base is swept: what is wrong, and the ways out."""
    count = len(sweep.points)
    one = name_points(sweep.points[:1])
    return (
        f"`{sweep.name}` is a sweep of {count} stages",
        f'name one ({one}), all ("${sweep.name}[*]") or the best ("${sweep.name}[best: METRIC]")',
    )
