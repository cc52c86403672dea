"""Memory of training on rollouts with adapters, against fine-tuning the same network with LoRA.

`ppo_shared_lora_memory`, `grpo_lora_memory`: peak resident memory above that of the imported
libraries, of PPO (policy, reference, critic and reward model on one network) and of GRPO (policy
and reference), rollouts and training, and that of SFT by TRL's trainer; all with LoRA on a Llama of
59 million parameters, 8 rows of 96 tokens a forward pass. Each side is a process of its own.

    python -m tests.benchmarks.rollout_memory ppo|grpo|sft     # one side; prints its peak in MB

`ppo_vocabulary_memory`: the most bytes of tensors that a training pass holds at once, beyond
weights and gradients, with 8,192 and with 65,536 words: logits of a whole batch would make it eight
times as much.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import weakref
from contextlib import nullcontext
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.benchmarks.result import Result

_GOAL, _GRPO_GOAL = 1 / 1.5, 1 / 1.2
_VOCABULARIES = (8_192, 65_536)
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


def grpo_lora_memory() -> Result:
    """Compare peaks; the ratio is SFT's over GRPO's."""
    peaks = {side: _peak_of(side) for side in ("sft", "grpo")}
    return Result(
        name="grpo_lora_memory",
        ratio=peaks["sft"] / peaks["grpo"],
        goal=_GRPO_GOAL,
        details={"peak_mb": peaks, "grpo_over_sft": round(peaks["grpo"] / peaks["sft"], 3)},
    )


def ppo_vocabulary_memory() -> Result:
    """Compare peaks of a pass; the ratio is that of the small vocabulary over the large one's."""
    small, large = (_pass_bytes(size) for size in _VOCABULARIES)
    return Result(
        name="ppo_vocabulary_memory",
        ratio=small / large,
        goal=1 / 1.1,
        details={"peak_mb": [round(each / 1e6, 2) for each in (small, large)]},
    )


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that are made and still alive; their highest number is `peak`.

    there: what was there before, which is not counted when a view of it is made.
    """

    def __init__(self, there: list[torch.Tensor]) -> None:
        super().__init__()
        self.now, self.peak = 0, 0
        self._seen = {tensor.untyped_storage()._cdata for tensor in there}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return found

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return
        self._seen.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size


def _pass_bytes(vocabulary: int) -> int:
    """Return the peak of one training pass beyond weights and gradients, which are there before."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from pipeline.rl.batch import Batch
    from pipeline.rl.build import Start, build_actor_critic
    from pipeline.rl.config.ppo import PPOConfig
    from pipeline.rl.losses import Losses
    from pipeline.rl.sequences import Sequences
    from pipeline.rl.step_totals import StepTotals

    torch.manual_seed(0)
    network = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=64,
            intermediate_size=256,
            num_hidden_layers=4,
            num_attention_heads=4,
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        args = PPOConfig(output_dir=folder, report_to="none")
        actor = build_actor_critic(Start(network), args)
    for parameter in actor.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    rows = [[3 + (i * j) % 999 for j in range(_PROMPT + _RESPONSE)] for i in range(4 * _ROWS)]
    prompts, responses = [row[:_PROMPT] for row in rows], [row[_PROMPT:] for row in rows]
    sequences = Sequences.of(prompts, responses, pad=0, device=torch.device("cpu"))
    flat = torch.full((len(rows) * _RESPONSE,), 0.01)
    of_rows = sequences.mask.nonzero()[:, 0]
    batch = Batch(
        sequences, *(flat.clone() for _ in range(6)), token_share=1 / len(flat), rows=of_rows
    )
    losses = Losses(actor, args, (), nullcontext)
    there = [tensor for each in actor.parameters() for tensor in (each, each.grad)]
    with _LiveBytes([tensor for tensor in there if tensor is not None]) as live:
        losses.send_back(batch, StepTotals(), trains_policy=True, is_first=True)
    return live.peak


def _peak_of(side: str) -> float:
    command = [sys.executable, "-m", "tests.benchmarks.rollout_memory", side]
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

    words = {f"t{number}": number for number in range(_VOCABULARY - 1)}
    words["<unk>"] = len(words)
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="t1", pad_token="t0")


def _lora() -> Any:
    from peft import LoraConfig

    return LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM")


def _sft(folder: str) -> Any:
    from datasets import Dataset
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

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

    from pipeline.rl.config.ppo import PPOConfig
    from pipeline.rl.layouts.shared_lora import SharedLoraActorCritic
    from pipeline.rl.policy_adapter import adapter_tensors
    from pipeline.rl.ppo import PPOTrainer
    from pipeline.rl.shared_rewards import SharedReward

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
        tensors = adapter_tensors(policy, "default")
        actor = SharedLoraActorCritic(policy)
        score = torch.randn(1, 512)
        reward = SharedReward(_lora(), tensors, score).put_on(actor, "reward", 0)
        return PPOTrainer(actor, [reward], args, prompts, _tokenizer())

    return trainer


def _grpo(folder: str) -> Any:
    from pipeline.rl.config.grpo import GRPOConfig
    from pipeline.rl.grpo import GRPOTrainer

    args = GRPOConfig(
        output_dir=folder,
        per_device_train_batch_size=_ROWS,
        generation_batch_size=_ROWS * 2,
        num_generations=_ROWS,
        num_iterations=2,
        max_completion_length=_RESPONSE,
        total_episodes=_ROWS * 2,
        scoring_batch_size=_ROWS,
        beta=0.04,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    prompts = [{"input_ids": [3 + (i * j) % 999 for j in range(_PROMPT)]} for i in range(2)]

    def kinds(completion_ids: list[list[int]], **_: Any) -> list[float]:
        return [float(len(set(ids))) for ids in completion_ids]

    return lambda network: GRPOTrainer(
        network, kinds, args, prompts, processing_class=_tokenizer(), peft_config=_lora()
    )


def _main(side: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        make = {"sft": _sft, "ppo": _ppo, "grpo": _grpo}[side](folder)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        trainer = make(_network())
        trainer.train()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    parameters = sum(each.numel() for each in trainer.model.parameters())
    print(json.dumps({"peak_mb": (peak - before) / 1024, "parameters": parameters}))


if __name__ == "__main__":
    _main(sys.argv[1])
