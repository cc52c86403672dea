"""The loss of an evaluation is a mean over tokens, however rows share forward passes."""

from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import LlamaForCausalLM
from trl.trainer.sft_config import SFTConfig

from pipeline.data.encoding.examples import IGNORED
from pipeline.training.bins import Bins
from pipeline.training.rows import ROW, NumberedRows
from pipeline.training.sft_trainer import EncodedSftTrainer
from tests.ppo_tasks import tiny_llama, tiny_tokenizer

WORDS = 32
LENGTHS = (30, 3, 4, 25, 2, 9, 5)


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    return tiny_llama(0, WORDS)


@pytest.fixture(scope="module")
def rows() -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(3, WORDS, (n,), generator=generator).tolist() for n in LENGTHS]


@pytest.mark.parametrize("is_padded", [True, False])
@pytest.mark.parametrize("per_device", [1, 3, 7])
def test_every_token_counts_alike(
    is_padded: bool, per_device: int, model: LlamaForCausalLM, rows: list[list[int]], tmp_path: Path
) -> None:
    dataset = Dataset.from_dict(
        {"input_ids": rows, "labels": [[IGNORED, *ids[1:]] for ids in rows], ROW: range(len(rows))}
    )
    trainer = EncodedSftTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(tmp_path),
            per_device_eval_batch_size=per_device,
            dataset_kwargs={"skip_prepare_dataset": True},
            remove_unused_columns=False,
            report_to="none",
            bf16=False,
            use_cpu=True,
        ),
        train_dataset=dataset,
        eval_dataset=dataset,
        processing_class=tiny_tokenizer(WORDS),
    )
    trainer.data_collator = NumberedRows(trainer.data_collator if is_padded else Bins(0))
    total, number = 0.0, 0
    with torch.no_grad():
        for ids in rows:  # one by one, by a plain forward pass
            logprobs = model(input_ids=torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
            total -= float(logprobs.gather(1, torch.tensor(ids[1:])[:, None]).sum())
            number += len(ids) - 1
    assert trainer.evaluate()["eval_loss"] == pytest.approx(total / number, abs=1e-5)
