"""A stage whose source changes gets a new version, or a person says that its results do not."""

from pathlib import Path

import pytest

from pipeline.stages import BUILT_IN
from tests.golden.contents import quickstart_plan, source_sha256, stage_versions, stored


def test_every_stage_kind_has_a_golden_version() -> None:
    assert set(stored("stage_versions")) == set(BUILT_IN), "run `make golden`"


@pytest.mark.parametrize("kind", BUILT_IN)
def test_a_stage_that_changed_has_a_new_version_or_the_same_results(kind: str) -> None:
    before, now = stored("stage_versions")[kind], stage_versions()[kind]
    assert now["version"] >= before["version"], f"a version of `{kind}` never falls"
    assert now == before, (
        f"pipeline/stages/{kind} changed: raise `version` in its STAGE if the same recipe now "
        "gives other results; then, in either case, run `make golden` and commit the difference"
    )


def test_comments_docstrings_and_layout_are_not_part_of_a_source(tmp_path: Path) -> None:
    module = tmp_path / "stage.py"
    module.write_text('"""Says."""\n\n\ndef run(x):\n    """Run."""\n    return x + 1\n')
    before = source_sha256(module)
    module.write_text('"""Says more."""\ndef run(x):\n    # why\n    return (x\n        + 1)\n')
    assert source_sha256(module) == before
    module.write_text("def run(x):\n    return x + 2\n")
    assert source_sha256(module) != before


def test_the_quickstart_is_planned_as_it_was() -> None:
    assert quickstart_plan() == stored("quickstart_plan"), "if this is meant, run `make golden`"
