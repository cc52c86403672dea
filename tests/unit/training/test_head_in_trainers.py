"""Our part in TRL's loss head changes no log line and no weight of TRL's own trainers.

Every case trains two steps twice, the same but for the head: losses, gradient norms, all metrics
and the weights afterwards are equal to 1e-6.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import MixtralConfig, MixtralForCausalLM
from trl.kernels import chunked_logprob
from trl.trainer import utils
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from pipeline.training import loss_head
from tests.ppo_tasks import tiny_llama, tiny_tokenizer

SHAPE = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
VOCABULARY = 40
LORA = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
WHOLE_HEAD = LoraConfig(
    r=4, target_modules=["q_proj"], modules_to_save=["lm_head"], task_type="CAUSAL_LM"
)
SETTINGS = {
    **{"use_cpu": True, "bf16": False, "report_to": "none", "seed": 1, "max_steps": 2},
    **{"save_strategy": "no", "disable_tqdm": True, "gradient_checkpointing": False},
    **{"logging_steps": 1, "learning_rate": 0.1, "optim": "sgd", "per_device_train_batch_size": 4},
}
OF_TIME = ("runtime", "per_second")


@contextmanager
def upstreams_head() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "_use_triton", chunked_logprob._use_triton)
        patch.setattr(utils, "_ChunkedLogProbFunction", chunked_logprob.ChunkedLogProbFunction)
        yield


def ids(number: int, length: int) -> list[int]:
    return [2 + (number * 7 + place * 5) % (VOCABULARY - 2) for place in range(length)]


def mixture() -> Any:
    torch.manual_seed(0)
    experts = {"num_local_experts": 4, "num_experts_per_tok": 2, "num_hidden_layers": 1}
    sizes = {**SHAPE, "vocab_size": VOCABULARY, "num_key_value_heads": 2}
    return MixtralForCausalLM(MixtralConfig(**sizes, **experts, pad_token_id=0, eos_token_id=1))


def sft(folder: Path, case: dict[str, Any]) -> Any:
    case = dict(case)
    model = case.pop("model", None)
    lora, are_all_trained = case.pop("lora", None), case.pop("all_tokens", False)
    rows = [
        {
            "input_ids": ids(number, 5 + number),
            "labels": ids(number, 5 + number)
            if are_all_trained
            else [-100] * 3 + ids(number, 5 + number)[3:],
        }
        for number in range(8)
    ]
    packed = case.pop("packed", False)
    settings = {**SETTINGS, "dataset_kwargs": {"skip_prepare_dataset": True}, **case}
    if packed:  # TRL packs by itself, and lays rows end to end in a line
        settings |= {"dataset_kwargs": None, "packing": True, "max_length": 24}
    return SFTTrainer(
        model=model() if model else tiny_llama(0, VOCABULARY, **SHAPE),
        args=SFTConfig(output_dir=str(folder), **settings),
        train_dataset=Dataset.from_list(rows),
        processing_class=tiny_tokenizer(VOCABULARY),
        peft_config=lora,
    )


class DpoOnIds(DPOTrainer):
    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset


def dpo(folder: Path, case: dict[str, Any]) -> Any:
    case = dict(case)
    lora = case.pop("lora", None)
    rows = [
        {
            "prompt_ids": ids(number, 3),
            "chosen_ids": ids(number + 1, 4 + number),
            "rejected_ids": ids(number + 2, 9 - number),
        }
        for number in range(8)
    ]
    return DpoOnIds(
        model=tiny_llama(0, VOCABULARY, **SHAPE),
        ref_model=None if lora else tiny_llama(1, VOCABULARY, **SHAPE),
        args=DPOConfig(output_dir=str(folder), **{**SETTINGS, **case}),
        train_dataset=Dataset.from_list(rows),
        processing_class=tiny_tokenizer(VOCABULARY),
        peft_config=lora,
    )


def trained(make: Any, folder: Path, case: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    torch.manual_seed(0)  # of a new adapter
    trainer = make(folder, case)
    trainer.train()
    return trainer.state.log_history, [each.detach() for each in trainer.model.parameters()]


def assert_equal(make: Any, folder: Path, case: dict[str, Any]) -> None:
    loss_head.score_trained_tokens_alone()
    lines, weights = trained(make, folder, case)
    with upstreams_head():
        expected_lines, expected_weights = trained(make, folder, case)
    assert len(lines) == len(expected_lines) == 3
    for line, expected in zip(lines, expected_lines, strict=True):
        assert line.keys() == expected.keys()
        for name in line:
            if not name.endswith(OF_TIME):
                assert line[name] == pytest.approx(expected[name], rel=2e-6, abs=1e-6), name
    for ours, theirs in zip(weights, expected_weights, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "case",
    [
        {},
        {"all_tokens": True},
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
        {"model": lambda: tiny_llama(0, VOCABULARY, **SHAPE, tie_word_embeddings=True)},
        {"model": mixture},
        {"lora": LORA},
        {"lora": WHOLE_HEAD},
        {"packed": True},
        {"loss_type": "dft"},
        {"label_smoothing_factor": 0.1},
    ],
    ids=(
        *("plain", "all_tokens", "accumulated", "tied", "mixture", "lora", "lora_whole_head"),
        *("packed", "dft", "smoothed"),
    ),
)
def test_sft_is_as_with_upstreams_head(tmp_path: Path, case: dict[str, Any]) -> None:
    assert_equal(sft, tmp_path, case)


@pytest.mark.parametrize(
    "case",
    [
        {},
        {"loss_type": ["ipo"]},
        {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2]},
        {"precompute_ref_log_probs": True},
        {"lora": LORA},
        {"use_weighting": True},
        {"ld_alpha": 0.5},
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
    ],
    ids=(
        *("plain", "ipo", "sigmoid_and_sft", "precomputed", "lora", "weighted", "ld_alpha"),
        "accumulated",
    ),
)
def test_dpo_is_as_with_upstreams_head(tmp_path: Path, case: dict[str, Any]) -> None:
    assert_equal(dpo, tmp_path, case)
