"""What `plan` says of the requests to judges: at most so many, and what they may cost."""

import re
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


EXAM, PROBES = 2 * 200, 24 * 5  # requests of pairs, and of probes that are scored


@pytest.mark.parametrize(
    ("label", "requests", "texts"),
    [
        # 120 prompts, 6 pairs each, both orders; two responses of at most 256 tokens are shown
        (f"judge: {{{SERVER}}}, pairs: all", 1_440 + EXAM + 2 * PROBES, 2),
        (f"judge: {{{SERVER}, licence: off}}, pairs: all", 1_440 + 2 * PROBES, 2),
        (
            f"judge: {{{SERVER}}}, pairs: {{which: all, compared: 2}}",
            480 + EXAM + 2 * PROBES,
            2,
        ),
        (f"judge: {{{SERVER}}}", 480 + EXAM + PROBES, 1),
        (f"judge: {{{SERVER}, budget: {{requests: 50}}}}", 50, 1),
    ],
)
def test_requests_and_their_cost_are_told_from_prompts_samples_and_pairs(
    tmp_path: Path, label: str, requests: int, texts: int
) -> None:
    (line,) = said(tmp_path, label)
    found = re.fullmatch(
        r"at most ([\d,]+) requests to `m` of about (\d+) tokens, about \$(.+)", line
    )
    assert found is not None, line
    assert int(found[1].replace(",", "")) == requests
    tokens = int(found[2])
    # A question of some 450 characters with a short prompt, beside the responses.
    assert 256 * texts + 100 < tokens < 256 * texts + 300
    # $1 a million tokens of prompts, $10 of answers of 256 tokens
    assert float(found[3]) == pytest.approx(requests * (tokens + 10 * 256) / 1e6, abs=0.01)


def test_a_model_in_this_process_costs_requests_alone(tmp_path: Path) -> None:
    number = 480 + EXAM + PROBES
    assert said(tmp_path, "judge: {model: owner/judge}") == [
        f"at most {number:,} requests to `judge`"
    ]
    revise = "revise: {model: owner/judge, principles: [Be kind.], rounds: 2}"
    assert said(tmp_path, revise) == ["at most 1,920 requests to `judge`"]


def test_judges_of_a_training_and_of_answers_are_told_of_too(tmp_path: Path) -> None:
    text = f"""\
name: judged
stages:
  rloo:
    stage: rloo
    model: owner/policy
    prompts: {{task: arithmetic}}
    batch_size: 8
    best_of: 0
    reward: {{judge: {{{SERVER}, licence: off}}}}
    training_args: {{total_episodes: 32, max_completion_length: 64, num_generations: 2}}
  answers:
    {{stage: evaluate, model: owner/policy, prompts: {{task: facts, rows: 5}}, samples: 2,
     temperature: 1.0, rewards: {{judge: {{{SERVER}}}}}}}
"""
    (tmp_path / "recipe.yaml").write_text(text)
    plan = make(load(tmp_path / "recipe.yaml"), Store(tmp_path / "runs"))
    lines = {name: str(asked) for name, asked in judging(plan)}
    assert lines["rloo"].startswith(f"at most {32 + PROBES} requests to `m` of about ")
    assert lines["answers"].startswith("at most 10 requests to `m` of about ")


def test_where_the_recipe_does_not_say_how_many_it_says_how_many_each(tmp_path: Path) -> None:
    label = f"judge: {{{SERVER}}}, pairs: all"
    assert said(tmp_path, label, "{task: arithmetic}") == ["2 requests a comparison to `m`"]


def test_rewards_that_ask_nobody_are_not_told_of(tmp_path: Path) -> None:
    assert said(tmp_path, "reward: {verify: all}") == []
