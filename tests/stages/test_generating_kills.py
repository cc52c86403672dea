"""SIGKILL while responses are sampled and judged: the same bytes, and nothing asked twice."""

import hashlib
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.forked import run_forked, warm
from tests.small_generating import write_recipe

AT_ONCE = 12  # responses sampled, or judged, together


def prepare(asked: Path) -> None:
    """In the child: a checkpoint after every batch, and a note of every row that is asked for."""
    from eval.asking import sampler
    from pipeline.data.making import pieces
    from pipeline.measuring import answer_rewards
    from pipeline.stages.labelling import chunks

    pieces._LEAST_S, pieces._SHARE = 0.0, 1e9  # pyright: ignore[reportPrivateUsage]
    chunks.AT_ONCE = AT_ONCE
    generate, score = sampler.generate, answer_rewards.AnswerRewards.score

    def note(names: list[str]) -> None:
        with asked.open("a") as stream:
            stream.write("".join(f"{name}\n" for name in names))

    def noted_generate(model, prompts, **settings):
        note([f"sampled {key}" for key in settings["keys"]])
        return generate(model, prompts, **settings)

    def noted_score(self, answers, name=None):
        if name is None:  # else probes, which a stage that goes on asks anew
            note([f"judged {row.where}" for row in answers.rows])
        return score(self, answers, name)

    sampler.generate = noted_generate
    answer_rewards.AnswerRewards.score = noted_score


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    write_recipe(folder)
    warm()
    return folder


def made(runs: Path, stage: str) -> list[str]:
    folder = runs / "tiny" / stage
    names = ("rows.jsonl", "rows.json")
    return [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names]


def kill_when(runs: Path, sealed: int, wait_s: float) -> Callable[[float], bool]:
    """Return what says to kill: so long after there are so many checkpoints."""
    since: list[float] = []

    def is_due(seconds: float) -> bool:
        found = runs.glob("store/.working/*/checkpoints/checkpoint-*/MANIFEST.json")
        steps = [int(path.parent.name.partition("-")[2]) for path in found]
        if max(steps, default=0) >= sealed * AT_ONCE and not since:
            since.append(seconds)
        return bool(since) and seconds >= since[0] + wait_s

    return is_due


@pytest.mark.parametrize(("stage", "before"), [("sampled", None), ("judged", "sampled")])
def test_a_stage_that_is_killed_makes_the_same_rows_and_asks_nothing_twice(
    folder: Path, stage: str, before: str | None
) -> None:
    prepared = folder / f"prepared-{stage}"
    prepared.mkdir()
    recipe = folder / "tiny.yaml"
    if before is not None:
        assert run_forked(recipe, prepared, until=before).code == 0

    def run(runs: Path, is_due: Callable[[float], bool] | None = None) -> tuple[int | None, str]:
        asked = runs.parent / f"{runs.name}.asked"
        ended = run_forked(
            recipe, runs, until=stage, signal_when=is_due, first=lambda: prepare(asked)
        )
        return ended.code, ended.output

    whole = folder / f"whole-{stage}"
    shutil.copytree(prepared, whole, symlinks=True)
    code, output = run(whole)
    assert code == 0, output
    moments = random.Random(stage)
    num_killed = num_resumed = 0
    for number in range(4):
        runs = folder / f"{stage}-{number}"
        shutil.copytree(prepared, runs, symlinks=True)
        kills = sorted(moments.sample(range(9), 2))
        for sealed in kills:
            code, output = run(runs, kill_when(runs, sealed, moments.uniform(0, 0.03)))
            num_killed += code is None
        code, output = run(runs)
        assert code == 0, output
        num_resumed += "resumes from" in output
        assert made(runs, stage) == made(whole, stage), kills
        lines = (folder / f"{runs.name}.asked").read_text().splitlines()
        often = Counter(Counter(lines).values())
        assert sum(count for times, count in often.items() if times > 1) <= len(kills) * AT_ONCE
    assert num_killed >= 4
    assert num_resumed >= 3


def test_two_runs_make_the_same_bytes(folder: Path) -> None:
    for runs in ("one", "two"):
        assert run_forked(folder / "tiny.yaml", folder / runs, until="pairs").code == 0
    for stage in ("sampled", "pairs"):
        assert made(folder / "one", stage) == made(folder / "two", stage)


def test_a_torn_checkpoint_is_passed_over_for_the_one_before(folder: Path) -> None:
    runs = folder / "torn"
    run = run_forked(
        folder / "tiny.yaml",
        runs,
        until="sampled",
        first=lambda: prepare(folder / "torn.asked"),
        signal_when=kill_when(runs, 3, 0.0),
    )
    assert run.code is None
    sealed = [path.parent for path in runs.glob("store/.working/*/checkpoints/*/MANIFEST.json")]
    newest = max(sealed, key=lambda path: int(path.name.partition("-")[2]))
    rows = max(newest.glob("rows-*.jsonl"))
    rows.write_text(rows.read_text() + json.dumps({"row": 0}) + "\n")
    again = run_forked(folder / "tiny.yaml", runs, until="sampled")
    assert again.code == 0
    assert f"passes over a torn checkpoint: {newest.name}" in again.output
    assert "resumes from" in again.output
    assert run_forked(folder / "tiny.yaml", folder / "fresh", until="sampled").code == 0
    assert made(runs, "sampled") == made(folder / "fresh", "sampled")
