"""Responses that a model judges, through the command: pairs, scores and thumbs, and a training."""

import json
from pathlib import Path

import pytest

from reward.judges.probes import PROBES
from tests.command import Command, Said
from tests.made_rows import metrics_of, rows_of, run_whole
from tests.small_judging import write_judged_recipe


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Said]:
    """A folder in which the whole recipe has run, and what that said."""
    folder = tmp_path_factory.mktemp("judged")
    return folder, run_whole(folder, write_judged_recipe)


@pytest.fixture
def folder(made: tuple[Path, Said], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder, as the present one."""
    assert made[1].code == 0, made[1].out
    monkeypatch.chdir(made[0])
    monkeypatch.setenv("COLUMNS", "160")
    return made[0]


def test_every_comparison_is_a_pair_a_tie_or_without_an_answer(folder: Path) -> None:
    metrics, rows = metrics_of(folder, "pairs"), rows_of(folder, "pairs")
    assert metrics["comparisons"] == 24 * 6  # 24 prompts, 4 different responses to each
    assert metrics["pairs"] == len(rows) > 0
    assert metrics["ties"] > 0
    assert metrics["comparisons"] == len(rows) + metrics["ties"]
    probes = metrics["probes"]["wide"]
    assert {name: one["asked"] for name, one in probes.items()} == dict.fromkeys(PROBES, 24)
    level = sum(round(one["level"] * 24) for one in probes.values())
    assert metrics["judges"]["wide"]["asked"] == 2 * (metrics["comparisons"] + 24 * len(PROBES))
    assert metrics["judges"]["wide"]["ties"] == metrics["ties"] + level
    assert metrics["judges"]["wide"]["prompt_tokens"] > 0
    assert metrics["left_out"] == {"judged ties": metrics["ties"]}


def test_a_judged_pair_has_the_standard_columns_and_says_who_judged_by_what(folder: Path) -> None:
    sampled = {row["completion"][0]["content"] for row in rows_of(folder, "sampled")}
    for row in rows_of(folder, "pairs"):
        assert row["judge"] == "wide"
        assert row["principle"] in ("Be kind.", "Be brief.")
        assert row["source"] == "asked.jsonl"
        assert row["topic"].startswith("t")
        assert 0.5 < row["probability"] == row["score_chosen"] <= 1
        texts = {row[side][0]["content"] for side in ("chosen", "rejected")}
        assert len(texts) == 2
        assert texts <= sampled
    assert len({row["principle"] for row in rows_of(folder, "pairs")}) == 2


def test_a_prompt_makes_one_pair_of_its_best_and_worst_or_none(folder: Path) -> None:
    rows, metrics = rows_of(folder, "best"), metrics_of(folder, "best")
    prompts = [row["prompt"][0]["content"] for row in rows]
    assert len(set(prompts)) == len(prompts) > 0
    assert sum(metrics["left_out"].values()) + len(rows) == metrics["judged_prompts"] == 24
    assert all(row["score_chosen"] > row["score_rejected"] for row in rows)
    assert all(row["principle"] is None for row in rows)


def test_a_rubric_gives_every_response_a_score_on_its_scale(folder: Path) -> None:
    rows = rows_of(folder, "scored")
    assert len(rows) == len(rows_of(folder, "sampled"))
    assert all(1 <= row["score"] <= 10 for row in rows)
    assert len({row["score"] for row in rows}) > 10  # means of probabilities, not numbers chosen


@pytest.mark.parametrize("stage", ["scored", "thumbs", "rloo"])
def test_what_scores_is_probed_on_prompts_of_its_own_run(folder: Path, stage: str) -> None:
    """Also where a judge takes no exam; what no model computes is not probed."""
    metrics = metrics_of(folder, stage)
    assert metrics["licences"]["wide"]["state"] == "off"
    assert list(metrics["probes"]) == ["wide"]
    for name in PROBES:
        figure = metrics["probes"]["wide"][name]
        assert figure["asked"] == figure["answered"] == (24 if stage != "rloo" else 2)
        assert 1 <= figure["mean"] <= 10
        assert 1 <= figure["honest_mean"] <= 10


def test_what_judges_were_asked_stands_in_the_metrics_of_every_stage_that_asks(
    folder: Path, posttrain: Command
) -> None:
    in_training, compared = (metrics_of(folder, stage)["judges"] for stage in ("rloo", "compare"))
    assert in_training["wide"]["asked"] == 2 * 4 + 2 * len(PROBES)  # two rollouts of two prompts
    assert compared["wide"]["asked"] == 3 * 3  # prompts, models
    assert compared["wide"]["prompt_tokens"] > 0
    assert posttrain("report", "tiny.yaml").code == 0
    page = (folder / "runs/tiny/report.html").read_text()
    section = page[page.index('<section id="judges">') :]
    section = section[: section.index("</section>")]
    assert "judge of compare" in section
    assert f"asked {in_training['wide']['asked']} times" in section
    assert section.count("Thought process") + section.count(">thought<") >= 5


def test_a_judge_is_a_term_of_a_reward_with_its_weight(folder: Path) -> None:
    scores = {
        (json.dumps(row["prompt"]), row["completion"][0]["content"]): row["score"]
        for row in rows_of(folder, "scored")
    }
    for row in rows_of(folder, "thumbs"):
        text = row["completion"][0]["content"]
        vowels = sum(letter in "aeiou" for letter in text.lower())
        judged = scores[json.dumps(row["prompt"]), text]
        assert row["score"] == pytest.approx(2 * judged + vowels, abs=1e-4)


def test_training_learns_from_judged_pairs_with_their_probabilities(folder: Path) -> None:
    assert metrics_of(folder, "dpo")["rows"] == len(rows_of(folder, "pairs"))


def test_a_second_round_samples_from_the_first_is_judged_and_learnt_from(folder: Path) -> None:
    artifacts = {
        stage: json.loads((folder / "runs/tiny" / stage / "artifact.json").read_text())
        for stage in ("dpo", "sampled2", "pairs2", "dpo2")
    }
    for later, earlier in (("sampled2", "dpo"), ("pairs2", "sampled2"), ("dpo2", "pairs2")):
        assert artifacts[later]["inputs"][earlier] == artifacts[earlier]["fingerprint"]
    assert artifacts["dpo2"]["metrics"]["rows"] == len(rows_of(folder, "pairs2"))


def test_a_comparison_is_judged_by_the_same_judge(folder: Path) -> None:
    compared = json.loads((folder / "runs/tiny/compare/comparison.json").read_text())
    assert "asked.jsonl by wide" in json.dumps(compared)


def test_a_policy_learns_from_a_judges_scores(folder: Path) -> None:
    lines = (folder / "runs/tiny/rloo/metrics.jsonl").read_text().splitlines()
    rollouts = [row for row in map(json.loads, lines) if "rewards/wide/mean" in row]
    assert rollouts
    for row in rollouts:
        assert row["rewards/wide/failed"] == 0
        assert 1 <= row["rewards/wide/mean"] <= 10
        assert row["objective/scores"] == pytest.approx(row["rewards/wide/mean"] / 2)


def test_fewer_pairs_are_compared_on_request_and_they_cost_less(
    folder: Path, posttrain: Command
) -> None:
    few = ("run", "tiny.yaml", "--until", "pairs", "--runs", "few")
    said = posttrain(*few, "--set", "stages.pairs.pairs={which: all, compared: 2, soft: false}")
    assert said.code == 0, said.err
    metrics = metrics_of(folder, "pairs", "few")
    assert metrics["comparisons"] == 24 * 2
    assert metrics["judges"]["wide"]["asked"] == 24 * 4 + 24 * len(PROBES) * 2
    assert f"pairs: warning: left out: {metrics['ties']} judged ties" in said.out
    assert all("probability" not in row for row in rows_of(folder, "pairs", "few"))


def test_the_seed_of_a_label_stage_counts_only_where_a_judge_draws(
    folder: Path, posttrain: Command
) -> None:
    fixed = ("plan", "tiny.yaml", "--set", "stages.sampled.seed=5")
    (folder / "tiny.yaml").write_text(
        (folder / "tiny.yaml").read_text()
        + '  plain: {stage: label, data: $sampled, reward: {use: "mine:vowels"}}\n'
    )
    before, after = (
        {line.split()[0]: line for line in posttrain(*fixed, *edit).out.splitlines() if line}
        for edit in ((), ("--set", "seed=6"))
    )
    assert before["plain"] == after["plain"]
    assert "cached" in before["pairs"]
    assert "cached" not in after["pairs"]


def test_a_judge_without_room_for_a_question_is_the_users_to_change(
    folder: Path, posttrain: Command
) -> None:
    narrow = ("--set", "stages.pairs.judge.model=./chat", "--runs", "narrow")
    said = posttrain("run", "tiny.yaml", "--until", "pairs", *narrow)
    assert said.code == 2
    assert "judge `chat`: the judge answered none of 64 questions: 64 too_long" in said.err
    assert "128 positions of `./chat`" in said.err
