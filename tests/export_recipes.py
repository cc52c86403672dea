"""The recipe whose results are exported, and one that goes on from an export."""

RECIPE = """\
name: tiny
seed: 3
stages:
  tokenizer: {stage: tokenizer, data: [{task: arithmetic}], vocab_size: 300}
  base:
    stage: pretrain
    model: {architecture: llama, tokenizer: $tokenizer, hidden_size: 32, num_hidden_layers: 2,
            max_position_embeddings: 1024}
    data: [{task: arithmetic}]
    tokens: 6k
    sequence_length: 64
    batch_size: 8
  sft: {stage: sft, model: $base, data: {file: DIR/chats.jsonl}, batch_size: 8}
  lora:
    stage: sft
    model: $base
    data: {file: DIR/chats.jsonl}
    batch_size: 8
    lora: {r: 4}
    training_args: {learning_rate: 1e-2}
  rm:
    stage: reward_model
    model: $sft
    data: {task: arithmetic, rows: 24}
    eval_data: {task: arithmetic, split: validation, rows: 8}
    batch_size: 8
    training_args: {learning_rate: 1e-3}
  rm_lora:
    stage: reward_model
    model: $lora
    data: {task: arithmetic, rows: 24}
    eval_data: {task: arithmetic, split: validation, rows: 8}
    batch_size: 8
    lora: {r: 4}
    training_args: {learning_rate: 1e-2}
  dpo:
    stage: dpo
    model: $lora
    data: {task: arithmetic, rows: 24}
    eval_data: {task: arithmetic, split: validation, rows: 8}
    batch_size: 8
    lora: {r: 2, target_modules: [q_proj, v_proj]}
    training_args: {learning_rate: 1e-2}
  answers: {stage: evaluate, model: $sft, texts: {file: DIR/text.txt}, styles: zero-shot}
  compare:
    {stage: compare, baseline: $base, candidates: [$answers, $dpo], texts: {file: DIR/text.txt}}
  later: {stage: sft, model: $sft, data: {file: DIR/chats.jsonl}}
"""
AGAIN = """\
name: again
stages:
  merged: {stage: merge, model: ./dpo}
  more:
    {stage: sft, model: ./dpo, data: {file: chats.jsonl, rows: 8}, batch_size: 8, lora: {r: 2}}
"""
