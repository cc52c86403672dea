"""Adapters on a base model without a chat template: what one stage adds, the next one knows."""

import json
from pathlib import Path

from transformers import AutoTokenizer

from tests.forked import run_forked, warm
from tests.small_model import save_model

STEP = "lora: {r: 2}, batch_size: 2, training_args: {max_steps: 1, logging_steps: 1}"
RECIPE = f"""\
name: tiny
seed: 3
stages:
  sft: {{stage: sft, model: ./model, data: {{file: chats.jsonl}}, {STEP}}}
  rm: {{stage: reward_model, model: $sft, data: {{file: pairs.jsonl}}, {STEP}}}
  dpo: {{stage: dpo, model: $sft, data: {{file: pairs.jsonl}}, {STEP}}}
  ppo:
    stage: ppo
    model: $sft
    prompts: {{file: prompts.jsonl}}
    reward: {{model: $rm}}
    lora: {{r: 2}}
    batch_size: 2
    best_of: 0
    training_args: {{max_completion_length: 8, total_episodes: 2, num_ppo_epochs: 1}}
  merged: {{stage: merge, model: $ppo}}
"""


def test_every_stage_goes_on_from_an_adapter_with_new_tokens(tmp_path: Path) -> None:
    warm()
    save_model(tmp_path / "model", tie_word_embeddings=True)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "model/chat_template.jinja").unlink(missing_ok=True)
    asked = [{"role": "user", "content": "A dog?"}]
    rows = {
        "chats": {"messages": [*asked, {"role": "assistant", "content": "Yes."}]},
        "pairs": {
            "prompt": asked,
            "chosen": [{"role": "assistant", "content": "Yes."}],
            "rejected": [{"role": "assistant", "content": "No."}],
        },
        "prompts": {"prompt": asked},
    }
    for name, row in rows.items():
        (tmp_path / f"{name}.jsonl").write_text(f"{json.dumps(row)}\n" * 4)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    ended = run_forked(tmp_path / "recipe.yaml", tmp_path / "runs")
    assert ended.code == 0, ended.output
    sft = json.loads((tmp_path / "runs/tiny/sft/artifact.json").read_text())
    assert sft["metrics"]["new_tokens"] == ["<|im_start|>", "<|im_end|>"]
    merged = AutoTokenizer.from_pretrained(tmp_path / "runs/tiny/merged")
    assert "<|im_end|>" in merged.get_vocab()
