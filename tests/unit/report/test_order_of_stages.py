"""Stages of a record stand behind all that they are built on, wherever they were recorded."""

from pipeline.report.html.chain import picture
from pipeline.report.html.run_source import ReportedStage, in_order


def stage(name: str, *inputs: str) -> ReportedStage:
    return ReportedStage(
        name=name,
        kind="sft",
        fingerprint=name,
        inputs=inputs,
        status="missing",
        artifact=None,
        because="",
    )


def test_a_stage_that_was_put_in_later_comes_before_what_is_built_on_it() -> None:
    """A record has the stages as they first ran, a new one at its end."""
    recorded = [stage("base"), stage("tuned", "base", "rows"), stage("rows", "base")]
    ordered = in_order(recorded)
    assert [one.name for one in ordered] == ["base", "rows", "tuned"]
    assert len(picture(ordered).boxes) == 3
