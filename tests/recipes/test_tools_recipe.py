"""The recipe in which a model learns when to call a calculator: its plan, the price of a call."""

from pathlib import Path

from pipeline import load_recipe
from pipeline.config.user_code import load_object
from pipeline.plan.plan import make
from pipeline.store.store import Store

RECIPES = Path(__file__).parents[2] / "recipes"


def test_the_recipe_is_planned_from_any_folder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    stages = {stage.name for stage in make(load_recipe("tools"), Store(tmp_path / "runs")).stages}
    assert {"sft", "grpo", "grpo_tools", "compare"} <= stages


def test_each_call_has_its_price() -> None:
    calls = load_object("call_prices:calls", RECIPES)
    call = {"function": {"name": "calculator", "arguments": {}}}
    answer = {"role": "assistant", "content": "7"}
    called = {"role": "assistant", "content": "", "tool_calls": [call, call]}
    told = {"role": "tool", "content": "7"}
    assert calls(completions=[[answer], [called, told, answer]]) == [0.0, 2.0]
