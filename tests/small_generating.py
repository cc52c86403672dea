"""A recipe that samples, judges, pairs and learns in two rounds, on tiny random models."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from tests.small_folders import small_tokenizer

SAMPLING = "num_samples: 4, max_new_tokens: 10, temperature: 0.7"
RECIPE = f"""\
name: tiny
seed: 5
stages:
  sampled:
    stage: generate
    model: ./chat
    prompts: [{{file: asked.jsonl}}, {{task: arithmetic, rows: 8}}]
    {SAMPLING.replace(", ", chr(10) + "    ")}
    batch_size: 12
  scored:
    stage: label
    data: $sampled
    reward:
      - {{use: "mine:vowels", weight: 2}}
      - {{verify: all, weight: 5}}
  pairs: {{stage: label, data: $sampled, reward: {{use: "mine:vowels"}}, pairs: best_worst}}
  thumbs: {{stage: label, data: {{stage: $sampled}}, reward: {{use: "mine:vowels"}}, thumbs: mean}}
  best: {{stage: best_of_n, data: $scored, cut: keep}}
  sft: {{stage: sft, model: ./chat, data: $best, batch_size: 4}}
  rm: {{stage: reward_model, model: ./chat, data: $pairs, batch_size: 4}}
  kto: {{stage: kto, model: ./chat, data: $thumbs, batch_size: 4}}
  judged:
    {{stage: label, data: $sampled, reward: {{model: ./judge, licence: "off"}}, pairs: all}}
  dpo: {{stage: dpo, model: ./chat, data: [$pairs], batch_size: 4}}
  sampled2:
    {{stage: generate, model: $dpo, prompts: {{file: asked.jsonl}}, {SAMPLING}, seed: 6}}
  pairs2: {{stage: label, data: $sampled2, reward: {{use: "mine:vowels"}}, pairs: best_worst}}
  dpo2:
    {{stage: dpo, model: $dpo, data: {{stage: $pairs2, holdout: 0.2}}, batch_size: 4}}
  compare:
    {{stage: compare, baseline: ./chat, candidates: [$dpo, $dpo2], prompts: $sampled2, limit: 3,
     max_new_tokens: 8, rewards: {{use: "mine:vowels"}}}}
"""
REWARD = """\
def vowels(completions, **columns):
    texts = [each if isinstance(each, str) else each[0]["content"] for each in completions]
    return [float(sum(letter in "aeiou" for letter in text.lower())) for text in texts]
"""


def write_recipe(folder: Path, recipe: str = RECIPE) -> Path:
    """Write the recipe with its models, prompts and reward into a folder; returns its path."""
    settings: dict[str, Any] = {
        "vocab_size": 264,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
        "eos_token_id": 1,
        "initializer_range": 0.3,
    }
    for seed, name in enumerate(("chat", "judge")):
        torch.manual_seed(seed)
        made: Any = LlamaForCausalLM(LlamaConfig(**settings))
        if name == "judge":
            settings |= {"num_labels": 1, "pad_token_id": 0}
            made = LlamaForSequenceClassification(LlamaConfig(**settings))
        made.save_pretrained(folder / name)
        small_tokenizer().save_pretrained(folder / name)
    rows = [
        {"messages": [{"role": "user", "content": f"Question {'x' * n}?"}], "topic": f"t{n}"}
        for n in range(24)
    ]
    (folder / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "mine.py").write_text(REWARD)
    (folder / "tiny.yaml").write_text(recipe)
    return folder / "tiny.yaml"
