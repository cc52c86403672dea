"""A request is read back as it was written: what is asked for is what runs."""

from dataclasses import replace
from pathlib import Path

from pipeline import load_recipe
from pipeline.checks.overlaps import evaluations_of
from pipeline.config.stage import StageInput
from pipeline.run.course import Course
from pipeline.run.request import Request, read_request, write_request
from pipeline.run.resume import execution_of
from tests.conftest import TINY

MEASURED = """\
  answers: {stage: evaluate, model: $sft, tasks: arithmetic, texts: [{file: a.txt}], limit: 12}
"""


def test_a_request_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a text\n")
    (tmp_path / "tiny.yaml").write_text(TINY + MEASURED)
    recipe = load_recipe(tmp_path / "tiny.yaml")
    config = recipe.stages["sft"]
    short = Request(
        run="compare",
        name="sft",
        config=config,
        seed=3,
        inputs={"base": StageInput("base", "policy", "/a/base", {"form": "chat"}, artifact="x")},
        places=recipe.places,
        execution=execution_of(config),
    )
    evaluations = evaluations_of(recipe, "sft")
    assert [evaluation.stage for evaluation in evaluations] == ["answers"]
    full = replace(
        short,
        places=replace(recipe.places, roots={"data": Path("/d")}, revisions={"a/b": "c0"}),
        fingerprint="f" * 64,
        identity={"stage": "sft"},
        processes=2,
        decontaminate="drop",
        measured_by=evaluations,
        resume_from=Path("/a/checkpoint-3"),
        is_exact=False,
        course=Course(2, 5, 1.5),
    )
    for request in (replace(short, measured_by=[]), full):
        write_request(tmp_path / "stage.json", request)
        assert read_request(tmp_path / "stage.json") == request
