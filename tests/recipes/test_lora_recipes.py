"""The shipped LoRA recipes, for a hub model on a GPU, on a small local model with `--set`."""

import json
from pathlib import Path

import pytest

from eval.tasks import load
from tests.forked import run_forked, warm
from tests.trained import Trained

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(scope="module")
def local(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny chat model, chats and preferences."""
    warm()
    folder = tmp_path_factory.mktemp("local")
    trained.copy(folder)
    task = load("arithmetic")
    with (folder / "chats.jsonl").open("w") as chats:
        for _, example in zip(range(40), task.demonstrations(), strict=False):
            turns = [("user", example.prompt), ("assistant", example.response)]
            messages = [{"role": role, "content": content} for role, content in turns]
            chats.write(json.dumps({"messages": messages}) + "\n")
    with (folder / "pairs.jsonl").open("w") as pairs:
        for _, pair in zip(range(60), task.preference_pairs(), strict=False):
            prompt = [{"role": "user", "content": pair.prompt}]
            row = {"prompt": prompt, "chosen": pair.chosen, "rejected": pair.rejected}
            pairs.write(json.dumps(row) + "\n")
    return folder


def _sets(stage: str, model: Path, data: str) -> list[str]:
    return [
        f"stages.{stage}.model={model}",
        f"stages.{stage}.data={data}",
        f"stages.{stage}.precision=fp32",
        f"stages.{stage}.batch_size=8",
        f"stages.{stage}.training_args.max_length=128",
        f"stages.{stage}.training_args.per_device_train_batch_size=4",
    ]


def test_lora_sft_runs_on_a_small_local_model(local: Path, tmp_path: Path) -> None:
    model = local / "runs/tiny/sft"
    overrides = [
        *_sets("sft", model, f"{{file: {local}/chats.jsonl}}"),
        *(f"stages.compare.baseline={model}", "stages.compare.precision=fp32"),
        "stages.compare.limit=5",
    ]
    ended = run_forked(RECIPES / "lora_sft.yaml", tmp_path / "runs", overrides=overrides)
    assert ended.code == 0, ended.output
    assert (tmp_path / "runs/lora_sft/sft/adapter_model.safetensors").is_file()
    assert (tmp_path / "runs/lora_sft/compare/comparison.json").is_file()


def test_lora_dpo_runs_on_a_small_local_model(local: Path, tmp_path: Path) -> None:
    model, data = local / "runs/tiny/sft", f"{{file: {local}/pairs.jsonl, holdout: 0.2}}"
    overrides = [
        *_sets("preference", model, data),
        *_sets("dpo", model, data),
        *("stages.preference.eval_data=[]", "stages.dpo.eval_data=[]"),
        *(f"stages.compare.baseline={model}", "stages.compare.precision=fp32"),
        "stages.compare.limit=5",
    ]
    ended = run_forked(RECIPES / "lora_dpo.yaml", tmp_path / "runs", overrides=overrides)
    assert ended.code == 0, ended.output
    metrics = json.loads((tmp_path / "runs/lora_dpo/dpo/artifact.json").read_text())["metrics"]
    assert metrics["initial_kl"] == 0.0
    assert metrics["held_out_pairs"] > 0
    assert (tmp_path / "runs/lora_dpo/merged/model.safetensors").is_file()


def test_gsm8k_grpo_runs_on_a_small_local_model(local: Path, tmp_path: Path) -> None:
    rows = [
        {"question": f"Tom has {n} pens and gets {n}. How many?", "answer": f"It is.\n#### {2 * n}"}
        for n in range(1, 17)
    ]
    for name in ("train", "test"):
        lines = [json.dumps(row) + "\n" for row in (rows[:12] if name == "train" else rows[12:])]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    task = f"gsm8k(train={tmp_path}/train.jsonl,test={tmp_path}/test.jsonl)"
    overrides = [
        f"stages.start.model={local / 'runs/tiny/sft'}",
        f'stages.grpo.prompts={{task: "{task}"}}',
        *("stages.grpo.precision=fp32", "stages.grpo.batch_size=16", "stages.grpo.best_of=0"),
        *(
            f"stages.grpo.training_args.{setting}"
            for setting in (
                *("generation_batch_size=16", "total_episodes=32"),
                *("max_completion_length=16", "per_device_train_batch_size=16"),
            )
        ),
        *(f'stages.compare.tasks="{task}"', "stages.compare.precision=fp32"),
    ]
    ended = run_forked(RECIPES / "gsm8k_grpo.yaml", tmp_path / "runs", overrides=overrides)
    assert ended.code == 0, ended.output
    metrics = json.loads((tmp_path / "runs/gsm8k_grpo/grpo/artifact.json").read_text())["metrics"]
    assert metrics["steps"] == 2
    (first, _) = (tmp_path / "runs/gsm8k_grpo/grpo/metrics.jsonl").read_text().splitlines()[:2]
    assert json.loads(first)["rewards/ends_with_the_answer/n"] == 16
