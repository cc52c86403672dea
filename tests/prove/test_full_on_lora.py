"""Full training on top of an adapter is full training on the merged model, to the last bit."""

from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.conftest import TINY
from tests.forked import run_forked, warm

_ARGS = "batch_size: 8, training_args: {learning_rate: 1e-3}"
_MORE = f"{{stage: pretrain, data: {{task: arithmetic}}, tokens: 4k, sequence_length: 64, {_ARGS}}}"
_STAGES = {
    "sft": f"{{stage: sft, data: {{task: arithmetic, rows: 16}}, {_ARGS}}}",
    "rm": f"{{stage: reward_model, data: {{task: arithmetic, rows: 16}}, {_ARGS}}}",
    "dpo": f"{{stage: dpo, data: {{task: arithmetic, rows: 16}}, {_ARGS}}}",
    "more": _MORE,
    "ppo": (
        "{stage: ppo, prompts: {task: arithmetic}, reward: {use: rewards:variety}, batch_size: 8, "
        "best_of: 0, training_args: {total_episodes: 8, max_completion_length: 4}}"
    ),
}


@pytest.mark.slow
def test_full_training_on_an_adapter_is_full_training_on_the_merged_model(tmp_path: Path) -> None:
    warm()
    lines = [TINY.partition("  sft:\n")[0]]
    lines.append(
        "  adapter: {stage: sft, model: $base, data: {task: arithmetic, rows: 32}, "
        "batch_size: 8, lora: {r: 4}, training_args: {learning_rate: 1e-2}}\n"
        "  merged: {stage: merge, model: $adapter}\n"
    )
    lines += [
        f"  {name}_on_{model}: {block.replace('{', '{model: $' + model + ', ', 1)}\n"
        for name, block in _STAGES.items()
        for model in ("adapter", "merged")
    ]
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text("".join(lines))
    counted = "[float(len({*ids})) for ids in completion_ids]"
    reward = f"def variety(completion_ids, **_):\n    return {counted}\n"
    (tmp_path / "rewards.py").write_text(reward)
    ended = run_forked(recipe, tmp_path / "runs")
    assert ended.code == 0, ended.output
    start = load_file(tmp_path / "runs/tiny/merged/model.safetensors")
    for name in _STAGES:
        one, other = (
            load_file(tmp_path / f"runs/tiny/{name}_on_{model}/model.safetensors")
            for model in ("adapter", "merged")
        )
        assert one.keys() == other.keys()
        assert all(bool((each == other[key]).all()) for key, each in one.items()), name
        moved = [
            key for key, each in start.items() if key in one and bool((one[key] != each).any())
        ]
        assert len(moved) > 10, name
