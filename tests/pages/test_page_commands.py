"""Every command on a page parses: options, stages, recipes, tests, targets and extras exist.

What a page shows is never run here; a name or an option that is not there any more fails.
"""

import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer

from eval import tasks
from pipeline import load_recipe
from pipeline.cli import app
from pipeline.config.shipped_recipes import recipe_path
from pipeline.recipe.recipe import Recipe
from tests.benchmarks.__main__ import BENCHMARKS
from tests.pages.page import PAGES, REPOSITORY, Page

_PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
_EXTRAS = _PROJECT["project"]["optional-dependencies"].keys()
_MARKERS = {m.partition(":")[0] for m in _PROJECT["tool"]["pytest"]["ini_options"]["markers"]}
_TARGETS = re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text("utf-8"), re.MULTILINE)
# Programs of others, named so that a reader can go on with what we wrote.
_OTHERS = {"cd", "hf", "ollama", "tensorboard", "transformers", "vllm", "wandb"}


def _check_posttrain(arguments: list[str]) -> None:
    name, *rest = arguments
    commands: dict[str, Any] = typer.main.get_command(app).commands  # pyright: ignore
    assert name in commands, f"there is no command `{name}`"
    if not rest:
        return  # named in a sentence
    options = commands[name].make_context(name, rest).params
    for task in filter(None, (options.get("tasks") or "").split(",")):
        assert tasks.load(task)
    for text in [*(options.get("models") or ()), options.get("model"), options.get("versus")]:
        recipe, _, stage = (text or "").partition(":")
        if recipe.startswith("recipes/"):
            assert stage in _recipe(recipe).stages, text
    path = options.get("recipe") or options.get("run")
    if path is None or not _is_ours(Path(path)):
        return
    recipe = _recipe(str(path), *options.get("overrides") or ())
    for key in ("stage", "start", "until", "show_mask"):
        assert options.get(key) is None or options[key] in recipe.stages, options[key]


def _is_ours(recipe: Path) -> bool:
    """Whether a recipe is shipped; `RECIPE` stands for any."""
    return recipe.parts[0] == "recipes" or not (recipe.suffix or recipe.name.isupper())


@cache
def _recipe(path: str, *overrides: str) -> Recipe:
    return load_recipe(REPOSITORY / recipe_path(Path(path)), overrides=overrides)


def _check_pytest(arguments: list[str]) -> None:
    rest = iter(arguments)
    for argument in rest:
        if argument == "-m":
            assert next(rest) in _MARKERS
        elif argument == "-k":
            next(rest)
        elif argument != "-q":
            assert (REPOSITORY / argument).exists(), argument


def _check_python(arguments: list[str]) -> None:
    if arguments[0] != "-m":
        assert (REPOSITORY / arguments[0]).exists(), arguments[0]
        return
    module, rest = arguments[1], [a for a in arguments[2:] if not a.startswith("-")]
    assert find_spec(module), module
    if module == "tests.benchmarks":
        assert set(rest) <= BENCHMARKS.keys()
    elif module == "tests.claims":
        assert all(re.fullmatch(r"G([1-9]|10)|\d+", word) for word in rest)


def _check_make(arguments: list[str]) -> None:
    assert set(arguments) <= set(_TARGETS)


def _check_pip(arguments: list[str]) -> None:
    for extra in re.findall(r"\[([^]]+)\]", " ".join(arguments)):
        assert extra in _EXTRAS, extra


_CHECKS: dict[str, Callable[[list[str]], None]] = {
    **{"posttrain": _check_posttrain, "make": _check_make, "pip": _check_pip, "uv": _check_pip},
    **dict.fromkeys(("python", ".venv/bin/python"), _check_python),
    ".venv/bin/pytest": _check_pytest,
}


def _read_commands(shown: Page) -> Iterator[tuple[str, list[str]]]:
    """Yield where a command stands, and its words; in prose, what begins like one of ours."""
    for block in shown.blocks:
        if block.language == "sh":
            for number, line in enumerate(block.text.splitlines(), block.line):
                yield from _split(f"{shown.name}:{number}", line)
    for span in shown.spans:
        if span.split()[0] in _CHECKS and " " in span:
            yield from _split(f"{shown.name}: `{span}`", span)


def _split(where: str, line: str) -> Iterator[tuple[str, list[str]]]:
    words: list[str] = []
    for word in [*shlex.split(line, comments=True), "&&"]:
        if word in ("&&", ">"):
            if words:
                yield where, words
            words = []
            if word == ">":
                return
        elif words or not re.fullmatch(r"[A-Z_0-9]+=.*", word):
            words.append(word)


def _check(where: str, program: str, arguments: list[str]) -> None:
    if program in _OTHERS:
        return
    assert program in _CHECKS, f"{where}: nothing is known of `{program}`"
    try:
        _CHECKS[program](arguments)
    except Exception as error:
        raise AssertionError(f"{where}: {error}") from error


@pytest.mark.parametrize("shown", PAGES, ids=lambda shown: shown.name)
def test_every_command_of_a_page_parses(shown: Page) -> None:
    for where, (program, *arguments) in _read_commands(shown):
        _check(where, program, arguments)


def test_every_command_of_posttrain_is_on_a_page() -> None:
    commands: dict[str, Any] = typer.main.get_command(app).commands  # pyright: ignore
    shown = {
        words[1]
        for page in PAGES
        for _, words in _read_commands(page)
        if words[0] == "posttrain" and len(words) > 1
    }
    assert shown == commands.keys()


@pytest.mark.parametrize(
    "line",
    [
        "posttrain compares a b",
        "posttrain plan mine.yaml --no-such-option",
        "posttrain logs recipes/quickstart.yaml no_such_stage",
        "posttrain chat recipes/quickstart.yaml:no_such_stage",
        "posttrain plan recipes/quickstart.yaml --set stages.sft.no_such_key=1",
        "posttrain compare a b --tasks no_such_task",
        "make no-such-target",
        ".venv/bin/pytest tests/no_such_test.py",
        "python -m tests.benchmarks no_such_benchmark",
        "pip install '.[no-such-extra]'",
        "no-such-program",
    ],
)
def test_a_wrong_command_is_noticed(line: str) -> None:
    ((where, (program, *arguments)),) = _split("a page", line)
    with pytest.raises(AssertionError, match="a page"):
        _check(where, program, arguments)
