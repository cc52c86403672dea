"""Training in bf16 against fp32: processor seconds of a step and peak memory, on this machine.

`bf16_training`: pre-training and SFT of all weights, SFT, DPO and PPO of an adapter, PPO of all
weights, of a Llama of 14 million parameters, 8 rows of 128 tokens a step. The ratio is the median
of fp32's seconds over bf16's; what CPUs without bf16 units (AMX, AVX512-BF16) have to gain is
nothing, and there is no goal above that it trains. Sides are processes of their own and take turns.

    python -m tests.benchmarks.precision_speed KIND fp32|bf16     # one side
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, TrainerCallback

from pipeline.rl.logprobs import Head, head_of, hidden_gradient
from tests.benchmarks.clocks import Clocks
from tests.benchmarks.command import run
from tests.benchmarks.result import Result

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = ("pretrain", "sft", "sft_lora", "dpo_lora", "ppo", "ppo_lora")
_ROWS, _LENGTH, _PROMPT, _VOCABULARY = 8, 128, 64, 4096
_STEPS, _WARM_UP = 6, 2


def bf16_training() -> Result:
    """Compare steps of both precisions."""
    found = {kind: {p: _side(kind, p) for p in ("fp32", "bf16")} for kind in KINDS}
    ratios = {
        k: round(each["fp32"]["cpu_s"] / each["bf16"]["cpu_s"], 2) for k, each in found.items()
    }
    memory = {k: round(e["bf16"]["peak_mb"] / e["fp32"]["peak_mb"], 2) for k, e in found.items()}
    return Result(
        name="bf16_training",
        ratio=median(ratios.values()),
        goal=0.0,
        details={
            "speed": ratios,
            "memory": memory,
            "cpu": torch.backends.cpu.get_cpu_capability(),
            "has_amx": torch.cpu._is_amx_tile_supported(),  # pyright: ignore[reportPrivateUsage]
        },
    )


def head_in_chunks() -> Result:
    """Compare chunks of 27 tokens with ours, of a head of 151,936 words and 256 wide, in fp32."""
    torch.manual_seed(0)
    number, words = 432, 151_936
    config = {"vocab_size": words, "hidden_size": 256, "num_hidden_layers": 1}
    module = LlamaForCausalLM(LlamaConfig(**config, intermediate_size=64, num_attention_heads=2))
    hidden, targets = torch.randn(number, 256), torch.randint(0, words, (number,))
    ours = head_of(module)
    seconds: dict[str, list[float]] = {"of 27 tokens": [], "ours": []}
    for name in list(seconds) * 4:
        head = ours if name == "ours" else _SmallChunks(**vars(ours))
        began = Clocks.now()
        hidden_gradient(head, hidden, targets, lambda new, _, part: -new.sum() / number)
        seconds[name].append(Clocks.now().since(began).cpu_s)
    least = {name: round(min(each[1:]), 3) for name, each in seconds.items()}
    tokens = next(iter(ours.chunks(number))).stop
    return Result(
        name="head_in_chunks",
        ratio=least["of 27 tokens"] / least["ours"],
        goal=1.2,
        details={"cpu_s": least, "tokens_a_chunk": tokens},
    )


class _SmallChunks(Head):
    """A head whose chunks have 27 tokens: 2^22 logits of 151,936 words."""

    def chunks(self, number: int) -> Iterator[slice]:
        yield from (slice(begin, begin + 27) for begin in range(0, number, 27))


def _side(kind: str, precision: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "found.txt"
        program = ("-m", "tests.benchmarks.precision_speed", kind, precision)
        run(sys.executable, *program, output=output)
        return json.loads(output.read_text(encoding="utf-8").splitlines()[-1])


class _Steps(TrainerCallback):
    """Clocks at the end of each step."""

    def __init__(self) -> None:
        self.clocks: list[Clocks] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.clocks.append(Clocks.now())


def _measured(kind: str, precision: str) -> dict[str, float]:
    """Train a few steps; return the median of a step's processor seconds, and the peak."""
    torch.manual_seed(0)
    begun_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    steps = _Steps()
    with tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(kind, Path(folder), is_bf16=precision == "bf16")
        trainer.add_callback(steps)
        trainer.train()
    each = [b.since(a).cpu_s for a, b in zip(steps.clocks, steps.clocks[1:], strict=False)]
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begun_kb
    return {"cpu_s": median(each[_WARM_UP - 1 :]), "peak_mb": peak_kb / 1e3}


def _trainer(kind: str, folder: Path, *, is_bf16: bool) -> Any:
    from peft import LoraConfig, get_peft_model

    from pipeline.models.frozen import keep_frozen

    stage, _, how = kind.partition("_")
    usual = {
        **{"output_dir": str(folder), "report_to": "none", "save_strategy": "no", "use_cpu": True},
        **{"bf16": is_bf16, "disable_tqdm": True, "max_steps": _STEPS, "seed": 1},
        "per_device_train_batch_size": _ROWS,
    }
    lora = LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM") if how else None
    module = _module()
    if lora is not None and is_bf16:  # as stages load it
        keep_frozen(module.requires_grad_(requires_grad=False), torch.bfloat16)
    ids = [[3 + (i * j) % (_VOCABULARY - 3) for j in range(_LENGTH)] for i in range(8 * _ROWS)]
    if stage == "ppo":
        return _ppo(module, lora, ids, usual)
    model = module if lora is None else get_peft_model(module, lora)
    if stage == "dpo":
        return _dpo(model, ids, usual)
    from transformers import Trainer, TrainingArguments

    args = TrainingArguments(**usual, logging_strategy="no")
    rows: Any = [{"input_ids": row, "labels": row} for row in ids]
    if stage == "pretrain":
        return Trainer(model=model, args=args, train_dataset=rows)
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    return SFTTrainer(
        model=model,
        args=SFTConfig(
            **usual,
            gradient_checkpointing=False,
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=_tokenizer(),
    )


def _module() -> Any:
    shape = {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 6}
    heads = {"num_attention_heads": 6, "vocab_size": _VOCABULARY, "pad_token_id": 0}
    return LlamaForCausalLM(LlamaConfig(**shape, **heads, eos_token_id=1))


def _tokenizer() -> Any:
    from tests.ppo_tasks import tiny_tokenizer

    return tiny_tokenizer(_VOCABULARY)


def _dpo(model: Any, ids: list[list[int]], usual: dict[str, Any]) -> Any:
    from datasets import Dataset
    from trl import DPOConfig

    from pipeline.training.dpo_trainer import EncodedDpoTrainer
    from pipeline.training.rows import NumberedRows

    rows = [
        {
            **{"row": number, "prompt_ids": row[:_PROMPT]},
            **{"chosen_ids": row[_PROMPT:], "rejected_ids": row[:_PROMPT]},
        }
        for number, row in enumerate(ids)
    ]
    trainer = EncodedDpoTrainer(
        model=model,
        args=DPOConfig(**usual, gradient_checkpointing=False, remove_unused_columns=False),
        train_dataset=Dataset.from_list(rows),
        processing_class=_tokenizer(),
        on_reference=lambda _: None,
    )
    trainer.data_collator = NumberedRows(trainer.data_collator)
    return trainer


def _ppo(module: Any, lora: Any, ids: list[list[int]], usual: dict[str, Any]) -> Any:
    """Steps of it are whole iterations: a rollout, its scores, and an epoch of one step."""
    from pipeline.rl.config.ppo import PPOConfig
    from pipeline.rl.ppo import PPOTrainer

    return PPOTrainer(
        module,
        [lambda completion_ids, **_: [float(len(each)) for each in completion_ids]],
        PPOConfig(**usual, num_ppo_epochs=1, max_completion_length=_LENGTH - _PROMPT),
        [{"input_ids": row[:_PROMPT]} for row in ids],
        _tokenizer(),
        peft_config=lora,
    )


if __name__ == "__main__":
    print(json.dumps(_measured(*sys.argv[1:])))
