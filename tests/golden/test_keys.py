"""docs/keys.md names every key as the schema has it."""

from pipeline.recipe.key_reference import key_reference
from tests.golden.contents import KEYS


def test_the_key_reference_is_the_one_of_the_schema() -> None:
    assert KEYS.read_text(encoding="utf-8") == key_reference(), "run `make golden`"
