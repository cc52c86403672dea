"""`posttrain schema` and `posttrain list`: what an editor and a person are told."""

import json
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from eval import tasks
from pipeline.config.new_model import SIZES
from pipeline.config.training_args import OURS, ours
from pipeline.recipe.schema import schema
from pipeline.recipe.yaml.document import read
from pipeline.report.terminal.listing import listing
from pipeline.stages import kinds, stage_of
from tests.recipes.test_bad_recipes import RECIPE

SHIPPED = sorted((Path(__file__).parents[3] / "recipes").glob("*.yaml"))
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
BOUNDS = {
    "minimum": lambda value, bound: value >= bound,
    "exclusiveMinimum": lambda value, bound: value > bound,
    "maximum": lambda value, bound: value <= bound,
    "exclusiveMaximum": lambda value, bound: value < bound,
    "minLength": lambda value, bound: len(value) >= bound,
    "maxLength": lambda value, bound: len(value) <= bound,
    "minItems": lambda value, bound: len(value) >= bound,
    "minProperties": lambda value, bound: len(value) >= bound,
    "pattern": lambda value, pattern: re.search(pattern, value) is not None,
    "enum": lambda value, members: value in members,
    "const": lambda value, constant: value == constant,
}
KEYWORDS = {
    *(*BOUNDS, "$ref", "anyOf", "oneOf", "allOf", "if", "then", "else", "type", "items"),
    "required",
    *("properties", "patternProperties", "additionalProperties", "propertyNames"),
    *("title", "description", "default", "$schema", "$defs"),
}


def problems(value: Any, rule: dict[str, Any], whole: dict[str, Any]) -> Iterator[str]:
    """Yield what a JSON Schema has against a value."""
    assert rule.keys() <= KEYWORDS, rule.keys() - KEYWORDS
    if "$ref" in rule:
        yield from problems(value, whole["$defs"][rule["$ref"].rpartition("/")[2]], whole)
    for keyword in rule.keys() & {"anyOf", "oneOf"}:
        fitting = [each for each in rule[keyword] if not [*problems(value, each, whole)]]
        if len(fitting) == 0 or (keyword == "oneOf" and len(fitting) > 1):
            yield f"{value} fits {len(fitting)} members"
    for each in rule.get("allOf", ()):
        if not [*problems(value, each["if"], whole)]:
            yield from problems(value, each["then"], whole)
    if "else" in rule and [*problems(value, rule["if"], whole)]:
        yield from problems(value, rule["else"], whole)
    wanted = rule.get("type", [])
    wanted = [wanted] if isinstance(wanted, str) else wanted
    if wanted and not any(is_of_type(value, each) for each in wanted):
        yield f"{value} is not of type {wanted}"
        return
    for keyword in rule.keys() & BOUNDS.keys():
        if not BOUNDS[keyword](value, rule[keyword]):
            yield f"{value}: {keyword} is {rule[keyword]}"
    if isinstance(value, list) and "items" in rule:
        for each in value:
            yield from problems(each, rule["items"], whole)
    if isinstance(value, dict):
        yield from problems_of_keys(value, rule, whole)


def is_of_type(value: Any, wanted: str) -> bool:
    return isinstance(value, TYPES[wanted]) and (wanted == "boolean" or not isinstance(value, bool))


def problems_of_keys(
    value: dict[str, Any], rule: dict[str, Any], whole: dict[str, Any]
) -> Iterator[str]:
    yield from (f"`{key}` is missing" for key in rule.get("required", ()) if key not in value)
    patterns: dict[str, Any] = rule.get("patternProperties", {})
    for key, inner in value.items():
        yield from problems(key, rule.get("propertyNames", {}), whole)
        own = [rule["properties"][key]] if key in rule.get("properties", {}) else []
        own += [each for pattern, each in patterns.items() if re.search(pattern, key)]
        for each in own or [rule.get("additionalProperties", True)]:
            if each is False:
                yield f"`{key}` is unknown"
            elif each is not True:
                yield from problems(inner, each, whole)


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    """The schema as it is printed."""
    return json.loads(json.dumps(schema()))


@pytest.fixture
def recipe(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return read(path).value


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_the_schema_takes_every_shipped_recipe(path: Path, whole: dict[str, Any]) -> None:
    assert list(problems(read(path).value, whole, whole)) == []


def test_the_schema_takes_references_counts_and_one_without_brackets(
    recipe: dict[str, Any], whole: dict[str, Any]
) -> None:
    assert recipe["stages"]["sft"]["model"] == "$base"
    assert recipe["stages"]["base"]["tokens"] == "20k"
    assert isinstance(recipe["stages"]["tokenizer"]["data"], dict)
    recipe["launch"] = "python"
    assert list(problems(recipe, whole, whole)) == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("sede",), 3),
        (("seed",), -1),
        (("seed",), "3"),
        (("launch",), "torque"),
        (("roots",), {"r": "data"}),
        (("stages", "my stage"), {"stage": "sft", "model": "$base", "data": {"task": "facts"}}),
        (("stages", "sft", "stage"), "sftt"),
        (("stages", "sft", "modle"), "$base"),
        (("stages", "sft", "data"), []),
        (("stages", "sft", "data"), {"task": "facts", "row": 3}),
        (("stages", "sft", "data"), {"file": "a.jsonl", "columns": {"promt": "q"}}),
        (("stages", "sft", "training_args", "learning_rte"), 1e-3),
        (("stages", "sft", "training_args", "bf16"), True),
        (("stages", "base", "tokens"), "20 k"),
        (("stages", "base", "batch_size"), "8"),
        (("stages", "base", "precision"), "fp8"),
        (("stages", "sft", "training_args", "learning_rate"), "fast"),
        (("stages", "sft", "training_args", "learning_rate"), -1),
        (("stages", "sft", "training_args", "num_train_epochs"), [1]),
        (("stages", "sft", "training_args", "eval_strategy"), "stepwise"),
        (("stages", "sft", "training_args", "use_cpu"), "yes"),
        (("stages", "sft", "lora"), {"r": "16"}),
        (("stages", "sft", "lora"), {"alpha": 16}),
        (("stages", "sft", "lora"), {"use_dora": 1}),
        (("stages", "sft", "lora"), {"init_lora_weights": "pissa"}),
    ],
)
def test_the_schema_refuses_what_the_command_refuses(
    recipe: dict[str, Any], whole: dict[str, Any], place: tuple[str, ...], value: Any
) -> None:
    spoiled = deepcopy(recipe)
    block = spoiled
    for key in place[:-1]:
        block = block[key]
    block[place[-1]] = value
    assert list(problems(spoiled, whole, whole)) != []


def test_the_schema_has_every_stage_kind_and_no_argument_of_ours(whole: dict[str, Any]) -> None:
    configs = stage_definitions(whole)
    assert {config["properties"]["stage"]["const"] for config in configs} == set(kinds())
    for config in configs:
        trainer = stage_of(config["properties"]["stage"]["const"]).trainer
        arguments = config["properties"].get("training_args", {}).get("properties", {})
        assert arguments.keys().isdisjoint(ours(trainer) if trainer else OURS)
        assert config["additionalProperties"] is False


def stage_definitions(whole: dict[str, Any]) -> list[dict[str, Any]]:
    members = whole["properties"]["stages"]["additionalProperties"]["allOf"]
    return [whole["$defs"][each["then"]["$ref"].rpartition("/")[2]] for each in members]


def keys(rule: dict[str, Any], place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every key of a schema with its rule."""
    for key, inner in rule.get("properties", {}).items():
        yield f"{place}.{key}", inner
        yield from keys(inner, f"{place}.{key}")


def test_every_key_has_a_type_and_says_what_it_means(whole: dict[str, Any]) -> None:
    found = [*keys(whole, "recipe")]
    for name, definition in whole["$defs"].items():
        found += keys(definition, name)
    assert len(found) > 600
    typed = {"type", "enum", "const", "anyOf", "$ref"}
    assert [place for place, rule in found if not typed & rule.keys()] == []
    assert [place for place, rule in found if len(rule.get("description", "")) < 3] == []
    assert all("\n" not in rule["description"] for _, rule in found)


def test_a_description_is_the_one_of_its_own_key(whole: dict[str, Any]) -> None:
    definitions = whole["$defs"]
    data, sft = definitions["DataBlock"]["properties"], definitions["SftConfig"]["properties"]
    ppo = definitions["PpoConfig"]["properties"]["training_args"]["properties"]
    assert data["rows"]["description"] == "at most this many rows, the first ones."
    assert data["subset"]["description"] == data["revision"]["description"]
    assert sft["batch_size"]["description"].startswith("sequences per optimizer step")
    assert "learning rate" in sft["training_args"]["properties"]["learning_rate"]["description"]
    assert ppo["num_ppo_epochs"]["description"].startswith("Passes over a rollout")
    for stage in ("SftConfig", "DpoConfig", "RewardModelConfig"):  # upstream's words are others
        arguments = definitions[stage]["properties"]["training_args"]["properties"]
        assert "`too_long`" in arguments["max_length"]["description"]
    assert "LoRA" in definitions["LoraBlock"]["properties"]["use_rslora"]["description"]


def test_a_stage_of_the_users_own_is_no_error_in_an_editor(
    recipe: dict[str, Any], whole: dict[str, Any]
) -> None:
    recipe["stages"]["own"] = {"stage": "soup:STAGE", "models": ["$base"]}
    assert list(problems(recipe, whole, whole)) == []
    recipe["stages"]["own"] = {"stage": "no kind"}
    assert list(problems(recipe, whole, whole)) != []


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("tasks", [*tasks.BUILT_IN, *tasks.BY_PACKAGE, *tasks.BENCHMARKS]),
        ("stages", kinds()),
        ("sizes", SIZES),
    ],
)
def test_list_has_a_row_for_each_name(what: str, names: Any) -> None:
    columns, rows = listing(what)
    assert [row[0] for row in rows] == list(names)
    assert {len(row) for row in rows} == {len(columns)}
