"""docs/keys.md names every key as the schema has it."""

from pipeline.recipe.key_reference import key_reference
from tests.golden.contents import KEYS


def test_the_key_reference_is_the_one_of_the_schema() -> None:
    assert KEYS.read_text(encoding="utf-8") == key_reference(), "run `make golden`"


def test_every_link_of_the_key_reference_leads_to_a_heading() -> None:
    page = KEYS.read_text(encoding="utf-8")
    headings = {
        "".join(c for c in line[3:].lower() if c.isalnum() or c in "_- ").replace(" ", "-")
        for line in page.splitlines()
        if line.startswith("## ")
    }
    links = {part.partition(")")[0] for part in page.split("](#")[1:]}
    assert links
    assert links <= headings
