"""Whether the trackers that `report_to` names are installed."""

from collections.abc import Iterable, Mapping
from importlib.util import find_spec

from pipeline.recipe.recipe import Recipe

# What each of transformers' trackers needs; others are none of ours to know.
_NAMED_LIKE_THEIR_MODULES = (
    *("wandb", "trackio", "mlflow", "clearml", "swanlab"),
    *("codecarbon", "comet_ml", "dagshub", "dvclive", "neptune"),
)
_TRACKERS: Mapping[str, tuple[str, ...]] = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    **{name: (name,) for name in _NAMED_LIKE_THEIR_MODULES},
}


def check_trackers(recipe: Recipe, names: Iterable[str]) -> None:
    """Refuse a tracker in `report_to` that is not installed: training would stop as it begins."""
    for name in names:
        trackers = getattr(recipe.stages[name], "training_args", {}).get("report_to")
        for tracker in [trackers] if isinstance(trackers, str) else trackers or ():
            modules = _TRACKERS.get(tracker, ())
            if modules and not any(find_spec(module) for module in modules):
                message = f"`report_to` names {tracker}, which is not installed"
                location = ("stages", name, "training_args", "report_to")
                raise recipe.error(location, message, f"pip install {modules[0]}, or leave it out")
