"""Every cell of docs/models.md anew: minutes, where tests/matrix runs some of them."""

import pytest

from tests.matrix.architectures import ARCHITECTURES
from tests.matrix.cells import row
from tests.matrix.page import PAGE, read


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [each.name for each in ARCHITECTURES])
def test_every_stage_does_what_the_page_says(name):
    assert row(name) == read(PAGE.read_text(encoding="utf-8"))[name]
