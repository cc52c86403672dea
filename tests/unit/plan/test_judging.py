"""What `plan` says of the requests to judges: at most so many, and what answers may cost."""

from pathlib import Path

import pytest

from pipeline.plan.judging import judging
from pipeline.plan.plan import make
from pipeline.recipe.load import load
from pipeline.store.store import Store

RECIPE = """\
name: judged
stages:
  sampled:
    stage: generate
    model: owner/policy
    prompts: PROMPTS
    num_samples: 4
  labelled: {stage: label, data: $sampled, LABEL}
"""
KNOWN = "[{task: arithmetic, rows: 100}, {task: facts, rows: 20}]"
SERVER = "endpoint: {url: 'http://h/v1', model: m, prices: {prompt: 1, completion: 10}}"


def said(folder: Path, label: str, prompts: str = KNOWN) -> list[str]:
    text = RECIPE.replace("PROMPTS", prompts).replace("LABEL", label)
    (folder / "recipe.yaml").write_text(text)
    plan = make(load(folder / "recipe.yaml"), Store(folder / "runs"))
    return [str(asked) for _, asked in judging(plan)]


@pytest.mark.parametrize(
    ("label", "words"),
    [
        # 120 prompts, 6 pairs each, both orders; 256 tokens an answer at $10 a million
        (f"judge: {{{SERVER}}}, pairs: all", "at most 1,440 requests to `m`, $3.69 for answers"),
        (
            f"judge: {{{SERVER}}}, pairs: {{which: all, compared: 2}}",
            "at most 480 requests to `m`, $1.23 for answers",
        ),
        (f"judge: {{{SERVER}}}", "at most 480 requests to `m`, $1.23 for answers"),
        (
            f"judge: {{{SERVER}, budget: {{requests: 50}}}}",
            "at most 50 requests to `m`, $0.13 for answers",
        ),
        ("judge: {model: owner/judge}", "at most 480 requests to `judge`"),
        (
            "revise: {model: owner/judge, principles: [Be kind.], rounds: 2}",
            "at most 1,920 requests to `judge`",
        ),
    ],
)
def test_requests_are_counted_from_prompts_samples_and_pairs(
    tmp_path: Path, label: str, words: str
) -> None:
    assert said(tmp_path, label) == [words]


def test_where_the_recipe_does_not_say_how_many_it_says_how_many_each(tmp_path: Path) -> None:
    label = f"judge: {{{SERVER}}}, pairs: all"
    assert said(tmp_path, label, "{task: arithmetic}") == ["2 requests a comparison to `m`"]


def test_rewards_that_ask_nobody_are_not_told_of(tmp_path: Path) -> None:
    assert said(tmp_path, "reward: {verify: all}") == []
