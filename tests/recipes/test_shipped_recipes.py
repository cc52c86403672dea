"""Recipes that come with posttrain are named without a path, from any folder."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from pipeline import load_recipe
from pipeline.commands.doctor import PURPOSES
from pipeline.config.judge import JudgeBlock
from pipeline.config.shipped_recipes import list_shipped_recipes, recipe_path
from pipeline.errors import PosttrainError
from pipeline.plan.plan import make
from pipeline.store.hub_lock import lock_path
from pipeline.store.store import Store
from tests.command import command

REPOSITORY = Path(__file__).parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
call = pytest.fixture(command)


def test_every_recipe_of_the_repository_comes_with_posttrain() -> None:
    shipped = {path.resolve() for path in list_shipped_recipes().values()}
    assert shipped == set((REPOSITORY / "recipes").glob("*.yaml"))


def test_a_recipe_is_found_by_its_name_from_any_folder(call, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = call("plan", "quickstart")
    assert said.code == 0, said.err
    assert "tokenizer" in said.out
    (tmp_path / "quickstart").mkdir()
    assert call("plan", "quickstart").code == 0
    (tmp_path / "quickstart").rmdir()
    (tmp_path / "quickstart").write_text("a file goes before\n")
    assert call("plan", "quickstart").code == 2


def test_a_name_that_no_recipe_has_names_the_nearest(call, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = call("run", "quikstart")
    assert said.code == 2
    assert "did you mean `quickstart`?" in said.err


def test_list_says_what_each_recipe_does_and_where_it_is(call) -> None:
    said = call("list", "recipes")
    for name, path in list_shipped_recipes().items():
        assert re.search(rf"^{name} +\S.{{20}}", said.out, re.MULTILINE)
        assert str(path.resolve()) in said.out.replace("\n", "").replace(" ", "")


def test_what_the_command_line_names_lies_in_the_current_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    data = "stages.sft.data={file: mine.jsonl}"
    recipe = load_recipe("lora_sft", overrides=[data])
    assert recipe.places.file("mine.jsonl") == tmp_path / "mine.jsonl"
    assert lock_path(recipe.path) == Path("lora_sft.lock")
    assert lock_path(REPOSITORY / "recipes/x.yaml") == REPOSITORY / "recipes/x.lock"
    assert "sft" in {planned.name for planned in make(recipe, Store(tmp_path / "runs")).stages}


def test_a_task_beside_a_shipped_recipe_is_found(tmp_path, monkeypatch, real_data) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("ppo_stories", roots={"real": real_data})
    assert make(recipe, Store(tmp_path / "runs")).stages


def test_a_path_is_never_taken_for_a_name(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for text in ("quickstart.yaml", "recipes/quickstart", "./quickstart.yaml"):
        assert recipe_path(Path(text)) == Path(text)
    with pytest.raises(PosttrainError, match="no recipe of this name"):
        recipe_path(Path("nothing"))


def test_the_line_at_the_head_of_rlaif_puts_a_server_in_the_judges_place() -> None:
    """And nothing else of the judge goes with it: not the rubric."""
    path = REPOSITORY / "recipes/rlaif.yaml"
    head = [line.lstrip("# ") for line in path.read_text().splitlines() if line.startswith("#")]
    head = head[next(n for n, line in enumerate(head) if line.startswith("S=")) :]
    server = head[0][3:-1]
    words = shlex.split(" ".join(head).replace("\\", "").replace("$S", server.replace('"', '\\"')))
    sets = [words[n + 1] for n, word in enumerate(words) if word == "--set"]
    assert len(sets) == 4
    plain, edited = load_recipe(path), load_recipe(path, overrides=sets)
    for name in ("ranked_1", "ranked_2"):
        before, after = plain.stages[name].judge, edited.stages[name].judge
        assert (before.endpoint, after.model) == (None, None)
        assert after.endpoint.url.startswith("http://")
        assert after.rubric == before.rubric != JudgeBlock(model="x").rubric


def test_options_that_would_be_lost_are_refused(call) -> None:
    said = call("compare", "a", "b", "--tasks", "arithmetic", "--limit", "5", "--tasks", "facts")
    assert (said.code, said.err) == (2, "--tasks: is given twice; write its values with commas\n")
    said = call("plan", "quickstart", "--runs", "a", "--runs", "b")
    assert (said.code, said.err) == (2, "--runs: is given twice; leave one of them out\n")
    twice = ("--set", "seed=1", "--set", "name=other")
    assert call("plan", "quickstart", *twice).code == 0


def test_the_version_is_that_of_the_package(call) -> None:
    said = call("--version")
    assert (said.code, said.out.split()[0]) == (0, "posttrain")
    assert re.fullmatch(r"posttrain \d+\.\d+.*\n", said.out)


def test_every_extra_that_is_named_exists_and_doctor_says_what_each_is_for() -> None:
    extras = PROJECT["project"]["optional-dependencies"].keys()
    files = [
        *(
            path
            for name in ("pipeline", "eval", "reward")
            for path in REPOSITORY.glob(f"{name}/**/*.py")
        ),
        *(REPOSITORY / "docs").glob("*.md"),
        REPOSITORY / "README.md",
    ]
    named = {
        extra
        for path in files
        for extra in re.findall(r"posttrain\[([a-z]\w*)\]", path.read_text(encoding="utf-8"))
    }
    assert {"harness", "qlora"} <= named
    assert named <= extras
    assert PURPOSES.keys() == extras - {"dev"}
