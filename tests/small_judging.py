"""A recipe in which a model judges responses, on tiny random models."""

from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.small_folders import small_tokenizer
from tests.small_generating import write_recipe

RECIPE = """\
name: tiny
seed: 5
stages:
  sampled:
    {stage: generate, model: ./chat, prompts: {file: asked.jsonl}, num_samples: 4,
     max_new_tokens: 10, temperature: 0.7}
  pairs:
    stage: label
    data: $sampled
    judge: {model: ./wide, principles: [Be kind., Be brief.], licence: off}
    pairs: all
  best: {stage: label, data: $sampled, judge: {model: ./wide, licence: off}, pairs: best_worst}
  scored: {stage: label, data: $sampled, judge: {model: ./wide, licence: off}}
  thumbs:
    stage: label
    data: $sampled
    reward: [{judge: {model: ./wide, licence: off}, weight: 2}, {use: "mine:vowels"}]
    thumbs: mean
  dpo: {stage: dpo, model: ./chat, data: $pairs, batch_size: 4}
  sampled2:
    {stage: generate, model: $dpo, prompts: {file: asked.jsonl}, num_samples: 3,
     max_new_tokens: 10, temperature: 0.7, seed: 6}
  pairs2: {stage: label, data: $sampled2, judge: {model: ./wide, licence: off}, pairs: all}
  dpo2: {stage: dpo, model: $dpo, data: $pairs2, batch_size: 4}
  compare:
    {stage: compare, baseline: ./chat, candidates: [$dpo, $dpo2], prompts: {file: asked.jsonl},
     limit: 3, max_new_tokens: 8, rewards: {judge: {model: ./wide}}}
  rloo:
    {stage: rloo, model: ./chat, prompts: {file: asked.jsonl}, batch_size: 4,
     reward: {judge: {model: ./wide, licence: off}, weight: 0.5},
     training_args: {max_steps: 2, max_completion_length: 8, num_generations: 2}}
"""


def write_judged_recipe(folder: Path, recipe: str = RECIPE) -> Path:
    """Write the recipe, its models, prompts and reward into a folder; returns its path."""
    path = write_recipe(folder, recipe)
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=264,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=2048,
        eos_token_id=1,
        initializer_range=0.3,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "wide")
    small_tokenizer().save_pretrained(folder / "wide")
    return path
