"""`posttrain schema` and `posttrain list`: what an editor and a person are told."""

import json
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from eval import tasks
from pipeline.errors import PosttrainError
from pipeline.recipe.schema import schema
from pipeline.recipe.training_args import OURS
from pipeline.recipe.yamlfile import read
from pipeline.report.listing import listing
from pipeline.stages import kinds
from pipeline.stages.pretrain import SIZES
from tests.recipes.test_bad_recipes import RECIPE

RECIPES = sorted((Path(__file__).parents[3] / "recipes").glob("*.yaml"))
PLAIN = {"title", "description", "default", "discriminator", "$schema", "$defs"}


def problems(value: Any, rule: dict[str, Any], whole: dict[str, Any]) -> Iterator[str]:
    """Yield what JSON Schema has against a value; a keyword that is not known here is an error."""
    types = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
    for keyword, wanted in rule.items():
        match keyword:
            case "$ref":
                yield from problems(value, whole["$defs"][wanted.rpartition("/")[2]], whole)
            case "anyOf" | "oneOf":
                fitting = [each for each in wanted if not list(problems(value, each, whole))]
                if not fitting or (keyword == "oneOf" and len(fitting) > 1):
                    yield f"{value!r:.50} fits {len(fitting)} of {keyword}"
            case "type":
                kind = (int, float) if wanted == "number" else types.get(wanted, type(None))
                if not isinstance(value, kind) or (isinstance(value, bool) != (wanted == "boolean")):
                    yield f"{value!r:.50} is not {wanted}"
            case "const" | "enum":
                if value not in (wanted if keyword == "enum" else [wanted]):
                    yield f"{value!r:.50} is not {wanted}"
            case "required":
                yield from (f"no {key}" for key in wanted if key not in value)
            case "items":
                for each in value if isinstance(value, list) else ():
                    yield from problems(each, wanted, whole)
            case "properties" | "patternProperties" | "additionalProperties":
                for key, each in value.items() if isinstance(value, dict) else ():
                    own = rule_of(key, rule) if keyword != "properties" else rule_of(key, rule)
                    if keyword == "properties" and own is False:
                        yield f"unknown key {key}"
                    elif keyword == "properties" and isinstance(own, dict):
                        yield from problems(each, own, whole)
            case _:
                yield from bounds(value, keyword, wanted, whole)
