"""Recipes spoiled at every place and at random: each is planned, or refused in one line of ours."""

import json
import random
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from pipeline.errors import PosttrainError
from pipeline.plan.plan import make
from pipeline.recipe.load import load
from pipeline.recipe.yaml.document import read
from pipeline.store.store import Store
from tests.recipes.test_bad_recipes import RECIPE

ODD_VALUES: tuple[Any, ...] = (
    *(None, "", "x", "$base", "9" * 50, "\u202e\t"),
    *(0, -1, 1.5, 1e308, 10**30, True),
    *([], {}, [None], [[1]], {"a": 1}, {"stage": "sft"}, {"task": "facts"}),
)
# How pydantic and Python speak of themselves.
FOREIGN = ("Input", "function-", "constrained", "Block", "validat", "instance", "NoneType", "dict")


def refusal(recipe: Path) -> str | None:
    """Plan a recipe and return the line that refuses it; any other exception fails the test."""
    try:
        make(load(recipe), Store(recipe.parent / "runs"))
    except PosttrainError as error:
        return str(error)
    return None


def places(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the place of every value in a tree."""
    items = value.items() if isinstance(value, dict) else ()
    for key, inner in enumerate(value) if isinstance(value, list) else items:
        yield (*place, key)
        yield from places(inner, (*place, key))


def test_an_odd_value_at_any_place_is_taken_or_refused_in_our_words(tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(RECIPE)
    given = read(path).value
    num_refused = 0
    for place in places(given):
        for value in ODD_VALUES:
            recipe = deepcopy(given)
            inner: Any = recipe
            for part in place[:-1]:
                inner = inner[part]
            inner[place[-1]] = value
            path.write_text(json.dumps(recipe))  # JSON is YAML
            line = refusal(path)
            if line is not None:
                num_refused += 1
                assert line.isprintable(), (place, value, line)
                assert line.startswith(f"{path}:1:"), (place, value, line)
                assert not any(word in line for word in FOREIGN), (place, value, line)
                assert len(line.removeprefix(str(path))) < 250, (place, value, line)
    assert num_refused > 500


def test_damaged_text_is_planned_or_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "damaged.yaml"
    chance = random.Random(11)
    num_refused = 0
    for number in range(400):
        text = RECIPE
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(text))
            damage = "".join(chance.choices("{}[]:,-#&*!|>'\"%@`$ \n\t0ax", k=chance.randint(0, 3)))
            text = text[:at] + damage + text[at + chance.choice((0, 1, 1, 4, 30)) :]
        path.write_text(text)
        line = refusal(path)
        if line is not None:
            num_refused += 1
            assert line.startswith(f"{path}:"), (number, line)
            assert line.isprintable(), (number, line)
    assert num_refused > 200
