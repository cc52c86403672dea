"""`posttrain schema`: the JSON Schema of recipes, for editors.

Every key has a type and a description: descriptions.py reads the docstrings of our blocks, and of
the upstream classes that `training_args` and `lora` are passed on to.
"""

import ast
import inspect
import sys
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from pipeline.config import lora
from pipeline.config.argument_values import json_schema
from pipeline.config.blocks import COLUMNS
from pipeline.config.field_types import NAME
from pipeline.config.stage import Stage
from pipeline.config.trainer_fields import fields
from pipeline.config.training_args import ours
from pipeline.recipe.descriptions import (
    argument_descriptions,
    field_descriptions,
    summary_of_block,
)
from pipeline.recipe.recipe import RecipeFile
from pipeline.recipe.sweeps.read import SWEEP
from pipeline.stages import kinds, stage_of

# Upstream's defaults of these do not apply: we split the batch, and save at our own cadence.
_DECIDED_HERE = frozenset(
    {"per_device_train_batch_size", "per_device_eval_batch_size", "save_strategy", "save_steps"}
)
_OWN_STAGE = r"^[\w.]+:\w+$"
# A key of every stage, though of no config: recipe/sweeps/ writes it out before stages are checked.
_SWEEP: dict[str, Any] = {
    "description": (
        "Values of this stage's keys, by dotted key (`model.size`): a list each, of which every "
        "combination is a stage, or a list of mappings, each a stage. Keys with a comma between "
        "them change together: `a, b: [[1, 2], [3, 4]]`. "
        "`$name[*]` are all of them, `$name[key=value]` is one, `$name[best: METRIC]` the best."
    ),
    "anyOf": [
        {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {
                "anyOf": [
                    {"type": "array", "minItems": 1},
                    {"type": "object", "minProperties": 1},
                    {"type": "string", "pattern": r"^\$.+\[.+\]$"},
                ]
            },
        },
        {"type": "array", "minItems": 1, "items": {"type": "object", "minProperties": 1}},
    ],
}
_INITS = {"anyOf": [{"type": "boolean"}, {"enum": ["gaussian", "orthogonal"]}]}


def schema() -> dict[str, Any]:
    """Return one schema: the top of a recipe, and the keys of every kind of stage."""
    stages = {kind: stage_of(kind) for kind in kinds()}
    configs = [(stage.config, "validation") for stage in stages.values()]
    _, shared = models_json_schema([*configs, (RecipeFile, "validation")])  # pyright: ignore[reportArgumentType]
    definitions: dict[str, Any] = shared["$defs"]
    for block in _blocks([RecipeFile, *(stage.config for stage in stages.values())]):
        _describe(definitions[block.__name__], block)
    for kind, stage in stages.items():
        definition = definitions[stage.config.__name__]
        properties = definition["properties"]
        properties[SWEEP] = _SWEEP
        if "required" in definition:  # a key that is swept stands in the sweep
            definition |= {
                "if": {"required": [SWEEP]},
                "else": {"required": definition["required"]},
            }
            del definition["required"]
        properties["stage"] = {"const": kind, "description": summary_of_stage(stage)}
        if stage.trainer is not None:
            properties["training_args"] = _arguments(stage.trainer, stage.training_defaults)
    _open_lora(definitions["LoraBlock"])
    definitions["DataBlock"]["properties"]["columns"]["propertyNames"] = {"enum": list(COLUMNS)}
    top = definitions.pop("RecipeFile")
    top["properties"]["roots"]["additionalProperties"] = False  # only its patternProperties
    by_kind = {kind: f"#/$defs/{stage.config.__name__}" for kind, stage in stages.items()}
    top["properties"]["stages"] = {
        "type": "object",
        "description": top["properties"]["stages"]["description"],
        "minProperties": 1,
        "propertyNames": {"pattern": NAME},
        "additionalProperties": _stage(by_kind),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "posttrain recipe",
        **top,
        "$defs": definitions,
    }


def summary_of_stage(stage: Stage) -> str:
    """Return what a kind of stage does: the first paragraph of its module's docstring."""
    text = inspect.cleandoc(sys.modules[stage.config.__module__].__doc__ or "")
    first = " ".join(text.split("\n\n")[0].split())
    return first.partition(": ")[2] if first.startswith("Stage `") else first


def _stage(by_kind: Mapping[str, str]) -> dict[str, Any]:
    """Return the schema of a stage, which `stage` selects, so that errors are about that kind."""
    return {
        "type": "object",
        "required": ["stage"],
        "properties": {
            "stage": {
                "description": "the kind of work; a stage of yours is `module:STAGE`",
                "anyOf": [{"enum": [*by_kind]}, {"type": "string", "pattern": _OWN_STAGE}],
            }
        },
        "allOf": [
            {
                "if": {"required": ["stage"], "properties": {"stage": {"const": kind}}},
                "then": {"$ref": place},
            }
            for kind, place in by_kind.items()
        ],
    }


def _blocks(models: list[type[BaseModel]]) -> list[type[BaseModel]]:
    """Return the models and all blocks in their fields, without repeats."""
    blocks: list[type[BaseModel]] = []
    waiting: list[Any] = [*models]
    while waiting:
        annotation = waiting.pop()
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            if annotation not in blocks:
                blocks.append(annotation)
                waiting.extend(field.annotation for field in annotation.model_fields.values())
        else:
            waiting.extend(get_args(annotation))
    return blocks


def _describe(definition: dict[str, Any], block: type[BaseModel]) -> None:
    """Add the meaning of a block and its keys; drop pydantic's titles, which repeat the keys."""
    definition.pop("title", None)
    definition.pop("description", None)
    summary = summary_of_block(block)
    if summary:
        definition["description"] = summary
    descriptions = field_descriptions(block)
    for key, value in definition["properties"].items():
        value.pop("title", None)
        if key in descriptions:
            value["description"] = descriptions[key]


def _arguments(class_name: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of `training_args` for one upstream config class.

    defaults: ours, which override upstream's.
    """
    not_here, descriptions = ours(class_name), argument_descriptions(class_name)
    properties: dict[str, Any] = {}
    for name, field in fields(class_name).items():
        if name not in not_here:
            upstream = None if name in _DECIDED_HERE else _literal(field.default)
            default = defaults.get(name, upstream)
            properties[name] = {
                **json_schema(name, class_name),
                **({} if default is None else {"default": default}),
                "description": descriptions.get(name, ""),
            }
    return {
        "type": "object",
        "description": f"fields of {class_name}, by their own names",
        "properties": properties,
        "additionalProperties": False,
    }


def _literal(source: str | None) -> Any:
    """Return the value of a default that is a literal in the source; None for any other."""
    try:
        return None if source is None else ast.literal_eval(source)
    except ValueError:
        return None


def _open_lora(definition: dict[str, Any]) -> None:
    """Add to the `lora` block the fields of PEFT's LoraConfig that are passed on."""
    descriptions = argument_descriptions(lora.CLASS)
    own = definition["properties"]
    for name in fields(lora.CLASS):
        if name not in own and name not in lora.OURS:
            rule = _INITS if name == "init_lora_weights" else json_schema(name, lora.CLASS)
            own[name] = {**rule, "description": descriptions.get(name, "")}
    definition["additionalProperties"] = False
