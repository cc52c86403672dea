"""`posttrain schema`: the JSON Schema of recipes, for editors."""

from typing import Any

from pydantic.json_schema import models_json_schema

from pipeline.recipe.config import COLUMNS, NAME
from pipeline.recipe.load import RecipeFile
from pipeline.recipe.trainer_fields import fields
from pipeline.recipe.training_args import ours
from pipeline.stages import kinds, stage_of


def schema() -> dict[str, Any]:
    """Return one schema: the top of a recipe, and per stage kind what it may be asked."""
    stages = {kind: stage_of(kind) for kind in kinds()}
    configs = [(stage.config, "validation") for stage in stages.values()]
    by_model, shared = models_json_schema([*configs, (RecipeFile, "validation")])  # pyright: ignore[reportArgumentType]
    definitions: dict[str, Any] = shared["$defs"]
    for stage in stages.values():
        if stage.trainer is not None:
            properties = definitions[stage.config.__name__]["properties"]
            not_here = ours(stage.trainer)
            names = [name for name in fields(stage.trainer) if name not in not_here]
            properties["training_args"] = {
                "type": "object",
                "description": f"fields of {stage.trainer}",
                "properties": {name: {} for name in names},
                "additionalProperties": False,
            }
    definitions["DataBlock"]["properties"]["columns"]["propertyNames"] = {"enum": list(COLUMNS)}
    top = definitions.pop("RecipeFile")
    top["properties"]["roots"]["additionalProperties"] = False  # only its patternProperties
    top["properties"]["stages"] = {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": NAME},
        "additionalProperties": {
            "oneOf": [by_model[(stage.config, "validation")] for stage in stages.values()],
            "discriminator": {"propertyName": "stage"},
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "posttrain recipe",
        **top,
        "$defs": definitions,
    }
