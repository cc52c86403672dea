"""Recipes drawn at random, and whether `check` says of each what a run comes to."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml
from hypothesis import strategies as st

from tests.forked import Ended, in_child, run_forked
from tests.small_model import save_model

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_TARGETS: tuple[Any, ...] = (
    *("all-linear", ["q_proj"], ["q_proj", "v_proj"], ["query"], ["q_proj", "nowhere"]),
    *(["lm_head"], ["embed_tokens"], "model.layers.0.*proj"),
)
_LORA_FIELDS: tuple[dict[str, Any], ...] = (
    *({}, {"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"modules_to_save": ["nowhere"]}),
    *({"layers_to_transform": [0]}, {"layers_to_transform": [7]}, {"lora_dropout": 0.1}),
    *({"target_parameters": ["nowhere"]}, {"exclude_modules": ["lm_head"]}, {"bias": "all"}),
)
_EVALUATION: tuple[dict[str, Any], ...] = (
    *({}, {"eval_strategy": "steps", "eval_steps": 1}, {"eval_strategy": "epoch"}),
    {"eval_strategy": "steps", "eval_steps": 1, "load_best_model_at_end": True},
)
_REPORTS: tuple[Any, ...] = ("none", "none", "none", "tensorboard", "wandb", ["mlflow"])
_WORDS = "Once upon a time there was a dog. "
_REWARD = """\
def longer(completions, **columns):
    return [float(len(str(each))) for each in completions]
"""
MODELS = ("llama", "gpt2", "bloom")


@dataclass(frozen=True)
class Drawn:
    """A recipe and the rows of its sources, by file."""

    recipe: Mapping[str, Any]
    files: Mapping[str, list[Any]]


def drawn_recipes() -> st.SearchStrategy[Drawn]:
    """Return recipes of one training stage, a random model of two layers and a few rows."""
    return st.builds(_drawn, st.sampled_from(("sft", "reward_model", "dpo", "ppo")), st.data())


def _drawn(kind: str, data: st.DataObject) -> Drawn:
    pick = data.draw
    stage: dict[str, Any] = {
        "stage": kind,
        "model": f"./{pick(st.sampled_from(MODELS))}",
        "data": {"file": "rows.jsonl"},
        "batch_size": pick(st.integers(1, 6)),
    }
    if pick(st.booleans()):
        stage["data"]["holdout"] = 0.3
    if pick(st.booleans()):
        stage["too_long"] = pick(st.sampled_from(("drop", "truncate", "error")))
    if pick(st.booleans()):
        stage["truncation_side"] = pick(st.sampled_from(("left", "right")))
    if kind == "sft" and pick(st.booleans()):
        stage["packing"] = True
    if pick(st.booleans()):
        targets = pick(st.sampled_from(_TARGETS))
        stage["lora"] = {"r": 2, "target_modules": targets, **pick(st.sampled_from(_LORA_FIELDS))}
    lengths = st.sampled_from((2, 20, 60, 120, 256, 300))
    if kind == "ppo":
        stage["prompts"] = stage.pop("data")
        stage.pop("truncation_side", None)
        stage |= {"reward": {"use": "longer:longer"}, "best_of": 0}
        args: dict[str, Any] = {"total_episodes": 2, "num_ppo_epochs": 1}
        args["max_completion_length"] = pick(st.sampled_from((4, 8, 250, 256)))
        args |= {"max_prompt_length": pick(lengths)} if pick(st.booleans()) else {}
    else:
        args = {"max_steps": 1, **pick(st.sampled_from(_EVALUATION))}
        args |= {"max_length": pick(lengths)} if pick(st.booleans()) else {}
    args["report_to"] = pick(st.sampled_from(_REPORTS))
    sizes = pick(st.lists(st.integers(0, 5), min_size=4, max_size=12))
    rows = [_row(kind, number, size) for number, size in enumerate(sizes)]
    recipe = {"name": "tiny", "seed": 3, "stages": {"train": {**stage, "training_args": args}}}
    return Drawn(recipe, {"rows.jsonl": rows})


def _row(kind: str, number: int, length: int) -> dict[str, Any]:
    asked, answer = f"{number}? {_WORDS * (number % 3)}", _WORDS * length + "The end."
    if kind == "ppo":
        return {"prompt": [{"role": "user", "content": f"{number}? {_WORDS * length}"}]}
    if kind != "sft":
        return {"prompt": asked, "chosen": answer, "rejected": "No."}
    turns = {"user": asked, "assistant": answer}
    return {"messages": [{"role": role, "content": text} for role, text in turns.items()]}


def save_models(folder: Path) -> None:
    """Save a model of each architecture, one of them one that sees the other rows of a line."""
    for architecture in MODELS:
        fields: dict[str, Any] = {"initializer_range": 0.3}
        if architecture != "llama":
            fields |= {"n_head": 4, "n_layer": 2}
        save_model(folder / architecture, architecture, **fields)


def checked_and_run(drawn: Drawn, models: Path, folder: Path) -> tuple[Ended, Ended]:
    """Check a recipe and run it, each in a process of its own; return how both ended."""
    for model in models.iterdir():
        if not (folder / model.name).exists():
            (folder / model.name).symlink_to(model)
    shutil.rmtree(folder / "runs", ignore_errors=True)
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(dict(drawn.recipe)))
    (folder / "longer.py").write_text(_REWARD)
    for name, rows in drawn.files.items():
        (folder / name).write_text("".join(f"{json.dumps(row)}\n" for row in rows))

    def check() -> None:
        from pipeline.commands.check import check_all
        from pipeline.plan.plan import make
        from pipeline.recipe.load import load
        from pipeline.store.store import Store

        for line in check_all(make(load(recipe), Store(folder / "runs"))):
            print(line)

    return in_child(check, folder / "check.log"), run_forked(recipe, folder / "runs")


def differ(checked: Ended, ran: Ended) -> str:
    """Return in what the two differ; "" where a run comes to what `check` said of it."""
    if checked.code == ran.code == 0:
        return ""
    ends = [ended.output.splitlines()[-1:] for ended in (checked, ran)]
    if (checked.code, ends[0]) == (ran.code, ends[1]):
        return ""
    return f"check ended with {checked.code}: {ends[0]}; the run with {ran.code}: {ends[1]}"
