"""What the README shows works as it stands there."""

import re
from pathlib import Path

from pipeline import load_recipe
from pipeline.config.references import Places
from pipeline.data.reading.tasks import load_task
from pipeline.plan.plan import make
from pipeline.store.store import Store

README = (Path(__file__).parents[2] / "README.md").read_text()


def _block(language: str, containing: str) -> str:
    blocks = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return next(block for block in blocks if containing in block)


def test_the_task_of_the_readme_feeds_training_and_evaluation(tmp_path: Path) -> None:
    (tmp_path / "rhymes.py").write_text(_block("python", "class Rhymes"))
    task = load_task("rhymes:Rhymes", Places(tmp_path))
    demonstrations = list(task.demonstrations())
    items = task.test_items(10)
    assert demonstrations
    assert items
    for example in (*demonstrations, *items):
        assert task.verify(example.response, example.reference).score == 1.0
        assert task.verify("dog", example.reference).score == 0.0
    assert len(list(task.documents(0))) == len(demonstrations)


def test_the_recipe_of_the_readme_plans(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(_block("yaml", "name: mine"))
    (tmp_path / "my_chats.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    plan = make(load_recipe(tmp_path / "mine.yaml"), Store(tmp_path / "runs"))
    assert [planned.name for planned in plan.stages] == ["sft", "compare"]
    assert plan.unresolved == {"models/Qwen/Qwen3-0.6B-Base"}


def test_the_stage_of_the_readme_is_one(tmp_path: Path) -> None:
    # A name of its own: one process knows one stage by a name.
    (tmp_path / "soup_of_the_readme.py").write_text(_block("python", "class SoupConfig"))
    stages = "{soup: {stage: 'soup_of_the_readme:STAGE', models: [o/a, o/b]}}"
    (tmp_path / "mine.yaml").write_text(f"name: mine\nstages: {stages}\n")
    plan = make(load_recipe(tmp_path / "mine.yaml"), Store(tmp_path / "runs"))
    assert plan.unresolved == {"models/o/a", "models/o/b"}
