"""Every recipe, task and stage on a page works as it stands there.

A block that shows a part of a recipe is completed: with the stages that it refers to, and with the
files and functions that it names.
"""

import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import load_recipe
from pipeline.config.references import Places
from pipeline.data.reading.tasks import load_task
from pipeline.plan.plan import make
from pipeline.store.store import Store
from tests.pages.page import PAGES, Block, Page, page

_SFT = "{stage: sft, model: o/base, data: {task: facts}}"
_JUDGE = "{stage: reward_model, model: o/base, data: {task: facts}}"
_STAGES = {
    **{"tokenizer": "{stage: tokenizer, data: {task: facts}}", "base": _SFT, "sft": _SFT},
    **{
        "dpo": _SFT,
        "ppo": _SFT,
        "preference": _JUDGE,
        "judge": _JUDGE,
        "another": _JUDGE,
        "an_earlier_ppo": "",
    },
}
_FILE = re.compile(r"(?:file: ?|file=|test=|train=|prompts: )(?:real:)?([\w/.-]+\.\w+)")
_PACKAGE = re.compile(r"package:(\w+)/([\w.-]+)")
_FUNCTION = re.compile(r"use: \"?(\w+):(\w+)")


def _blocks(language: str) -> list[Any]:
    return [
        pytest.param(block, id=f"{shown.name}:{block.line}")
        for shown in PAGES
        for block in shown.blocks
        if block.language == language
    ]


def _write_recipe(block: Block, folder: Path) -> Path:
    """Write a recipe that has what a block shows, and what it names beside it."""
    text = block.text
    if not re.search(r"^stages:", text, re.MULTILINE):
        text = "stages:\n" + textwrap.indent(textwrap.dedent(text), "  ")
    shown = yaml.safe_load(text)["stages"]
    used = re.sub(r"#.*", "", text)
    more = [name for name in _STAGES if f"${name}" in used and name not in shown]
    stages = "".join(f"  {name}: {_STAGES[name]}\n" for name in more)
    text = text.replace("stages:\n", f"stages:\n{stages}", 1)
    path = folder / "mine.yaml"
    path.write_text(text if "name:" in text.partition("stages:")[0] else f"name: mine\n{text}")
    for name in _FILE.findall(used):
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text('{"prompt": "a", "completion": "b"}\n')
    for package, name in _PACKAGE.findall(used):  # which need not be installed here
        (folder / package).mkdir()
        (folder / package / "__init__.py").touch()
        (folder / package / name).touch()
    for module, function in _FUNCTION.findall(used):
        (folder / f"{module}.py").write_text(f"def {function}(completions, **columns):\n    ...\n")
    return path


@pytest.mark.parametrize("block", _blocks("yaml"))
def test_every_recipe_of_a_page_plans(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    recipe = load_recipe(_write_recipe(block, tmp_path), roots={"real": tmp_path})
    plan = make(recipe, Store(tmp_path / "runs"))
    assert plan.stages


def _python_block(shown: Page, containing: str) -> str:
    return next(b.text for b in shown.blocks if b.language == "python" and containing in b.text)


@pytest.fixture(autouse=True)
def _no_modules_of_pages() -> Iterator[None]:
    before = set(sys.modules)
    yield
    for name in {"my_rewards", "mine", "rhymes"} & (set(sys.modules) - before):
        del sys.modules[name]


def test_the_task_of_the_page_feeds_training_and_evaluation(tmp_path: Path) -> None:
    text = _python_block(page("docs/extending.md"), "class Rhymes")
    (tmp_path / "rhymes.py").write_text(text)
    task = load_task("rhymes:Rhymes", Places(tmp_path))
    demonstrations = list(task.demonstrations())
    items = task.test_items(10)
    assert demonstrations
    assert items
    for example in (*demonstrations, *items):
        assert task.verify(example.response, example.reference).score == 1.0
        assert task.verify("dog", example.reference).score == 0.0
    assert len(list(task.documents(0))) == len(demonstrations)


def test_the_reward_of_the_page_gives_a_number_a_completion() -> None:
    names: dict[str, Any] = {}
    exec(_python_block(page("docs/rl.md"), "in a chat"), names)  # noqa: S102  what the page shows
    completions = [[{"role": "assistant", "content": "x" * n}] for n in (100, 50)]
    assert names["brevity"](completions=completions, prompts=["", ""]) == [-1.0, -0.5]


def test_the_stage_of_the_page_is_one(tmp_path: Path) -> None:
    # A name of its own: one process knows one stage by a name.
    text = _python_block(page("docs/extending.md"), "class SoupConfig")
    (tmp_path / "soup_of_the_page.py").write_text(text)
    stages = "{soup: {stage: 'soup_of_the_page:STAGE', models: [o/a, o/b]}}"
    (tmp_path / "mine.yaml").write_text(f"name: mine\nstages: {stages}\n")
    plan = make(load_recipe(tmp_path / "mine.yaml"), Store(tmp_path / "runs"))
    assert plan.unresolved == {"models/o/a", "models/o/b"}


@pytest.mark.parametrize(
    "line", ["batch_sizes: 8", "data: {task: no_such_task}", "model: $nothing"]
)
def test_a_wrong_recipe_is_noticed(line: str, tmp_path: Path) -> None:
    fields = {"stage": "sft", "model": "o/base", "data": "{task: facts}"}
    key, _, value = line.partition(": ")
    text = "\n".join(f"    {k}: {v}" for k, v in {**fields, key: value}.items())
    block = Block("yaml", f"  sft:\n{text}\n", 1)
    with pytest.raises(Exception, match=r"mine\.yaml"):
        make(load_recipe(_write_recipe(block, tmp_path)), Store(tmp_path / "runs"))
