"""Memory of PPO with adapters on one network, against fine-tuning the same network with LoRA.

`ppo_shared_lora_memory`: peak resident memory above that of the imported libraries, of PPO (policy,
reference, critic and reward model; rollouts and training) and that of SFT by TRL's trainer, both
with LoRA on a Llama of 46 million parameters, 8 rows of 96 tokens a forward pass. Each side is a
process of its own.

    python -m tests.benchmarks.ppo_memory ppo|sft     # one side; prints its peak in MB
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from typing import Any

import torch

from tests.benchmarks.result import Result

_GOAL = 1 / 1.5
_ROWS, _PROMPT, _RESPONSE, _VOCABULARY = 8, 32, 64, 16_384


def ppo_shared_lora_memory() -> Result:
    """Compare peaks; the ratio is SFT's over PPO's."""
    peaks = {side: _peak_of(side) for side in ("sft", "ppo")}
    return Result(
        name="ppo_shared_lora_memory",
        ratio=peaks["sft"] / peaks["ppo"],
        goal=_GOAL,
        details={"peak_mb": peaks, "ppo_over_sft": round(peaks["ppo"] / peaks["sft"], 3)},
    )


def _peak_of(side: str) -> float:
    command = [sys.executable, "-m", "tests.benchmarks.ppo_memory", side]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1])["peak_mb"])


def _network() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=_VOCABULARY,
        hidden_size=512,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=8,
        max_position_embeddings=256,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {f"t{number}": number for number in range(_VOCABULARY)}
    words["<unk>"] = len(words)
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="t1", pad_token="t0")


def _lora() -> Any:
    from peft import LoraConfig

    return LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM")


def _sft(folder: str) -> Any:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows = [[3 + (i * j) % 999 for j in range(_PROMPT + _RESPONSE)] for i in range(_ROWS * 4)]
    args = SFTConfig(
        output_dir=folder,
        per_device_train_batch_size=_ROWS,
        max_steps=3,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    data = Dataset.from_dict({"input_ids": rows, "labels": rows})
    return lambda network: SFTTrainer(
        network, args, train_dataset=data, processing_class=_tokenizer(), peft_config=_lora()
    )


def _ppo(folder: str) -> Any:
    from peft import get_peft_model

    from pipeline.ppo.adapted import SharedReward
    from pipeline.ppo.config import PPOConfig
    from pipeline.ppo.shared_lora import POLICY, SharedLoraActorCritic, adapter_tensors
    from pipeline.ppo.trainer import PPOTrainer

    args = PPOConfig(
        output_dir=folder,
        per_device_train_batch_size=_ROWS,
        num_mini_batches=2,
        num_ppo_epochs=2,
        max_completion_length=_RESPONSE,
        total_episodes=_ROWS * 2,
        scoring_batch_size=_ROWS,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    prompts = [{"input_ids": [3 + (i * j) % 999 for j in range(_PROMPT)]} for i in range(_ROWS * 2)]

    def trainer(network: Any) -> Any:
        policy: Any = get_peft_model(network, _lora())
        tensors = adapter_tensors(policy, POLICY)
        actor = SharedLoraActorCritic(policy)
        score = torch.randn(1, 512)
        reward = SharedReward(_lora(), tensors, score).put_on(actor, "reward", 0)
        return PPOTrainer(actor, [reward], args, prompts, _tokenizer())

    return trainer


def _main(side: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        make = _sft(folder) if side == "sft" else _ppo(folder)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        trainer = make(_network())
        trainer.train()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    parameters = sum(each.numel() for each in trainer.model.parameters())
    print(json.dumps({"peak_mb": (peak - before) / 1024, "parameters": parameters}))


if __name__ == "__main__":
    _main(sys.argv[1])
