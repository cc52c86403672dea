"""The table of mutations stays true to the code, though `make mutate` runs apart."""

from pathlib import Path

import pytest

from tests.claims.__main__ import load_claims
from tests.mutations.table import MUTATIONS

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each.name)
def test_every_line_to_break_is_there_once_and_so_are_its_tests(mutation) -> None:
    text = (REPOSITORY / mutation.path).read_text(encoding="utf-8")
    assert mutation.applied(text) != text
    if mutation.claims:
        assert load_claims(list(mutation.tests))
    for test in () if mutation.claims else mutation.tests:
        assert (REPOSITORY / test.partition("::")[0]).exists()
