"""What a pair's probability and margin make of DPO's loss, against plain forward passes."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from trl.trainer.dpo_config import DPOConfig

from pipeline.training.dpo_trainer import EncodedDpoTrainer
from pipeline.training.rows import NumberedRows
from tests.ppo_tasks import tiny_llama, tiny_tokenizer
from tests.rows_laid import note_rows_laid

BETA = 0.3
SHAPE = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
PAIRS = (
    ([3, 4], [5, 6, 1], [7, 1]),
    ([9], [8, 8, 8, 1], [10, 11, 1]),
    ([12, 13, 14], [4, 1], [15, 16, 17, 18, 1]),
    ([5, 5], [6, 1], [20, 1]),
)
LABELS = {"probability": [0.5, 1.0, 0.8, 0.95], "margin": [3.0, 0.0, 0.5, 0.1]}
LORA = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")


def dataset(labels: dict[str, list[float]], times: int = 1) -> Any:
    from datasets import Dataset

    columns = zip(*PAIRS, strict=True)
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    rows = dict(zip(names, map(list, columns), strict=True)) | labels
    repeated = {name: list(values) * times for name, values in rows.items()}
    return Dataset.from_dict(repeated | {"row": list(range(times * len(PAIRS)))})


def confident(seed: int) -> Any:
    module = tiny_llama(seed, 32, **SHAPE)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.mul_(6)
    return module


def trainer_of(
    folder: Path,
    labels: dict[str, list[float]],
    *,
    lora: bool = False,
    times: int = 1,
    **settings: Any,
) -> EncodedDpoTrainer:
    given = {
        **{"beta": BETA, "use_cpu": True, "bf16": False, "report_to": "none", "seed": 1},
        **{"per_device_train_batch_size": 4, "gradient_checkpointing": False, "max_steps": 3},
        **{"save_strategy": "no", "disable_tqdm": True, "remove_unused_columns": False},
        **{"learning_rate": 0.3, "logging_steps": 1, "max_length": 64, "disable_dropout": True},
        **settings,
    }
    return EncodedDpoTrainer(
        model=confident(0),
        ref_model=None if lora else confident(1),
        args=DPOConfig(output_dir=str(folder), **given),
        train_dataset=dataset(labels, times),
        processing_class=tiny_tokenizer(32),
        peft_config=LORA if lora else None,
        on_reference=lambda done: None,
    )


def logprob(module: Any, prompt: list[int], response: list[int]) -> float:
    """The log-probability of a response alone, without a batch and its padding."""
    with torch.no_grad():
        logits = module(torch.tensor([prompt + response])).logits[0].double().log_softmax(-1)
    begin = len(prompt) - 1
    return sum(float(logits[begin + place, token]) for place, token in enumerate(response))


def deltas(policy: Any, reference: Any, *, are_means: bool) -> list[float]:
    found: list[float] = []
    for prompt, chosen, rejected in PAIRS:
        of_each = [
            (logprob(policy, prompt, each) - logprob(reference, prompt, each))
            / (len(each) if are_means else 1)
            for each in (chosen, rejected)
        ]
        found.append(of_each[0] - of_each[1])
    return found


def expected_loss(kind: str, delta: float, probability: float, margin: float) -> float:
    """The loss of the label, and of the label the other way round, by their chances."""

    def of(sign: int) -> float:
        z = sign * (BETA * delta - margin)
        if kind == "sigmoid":
            return math.log1p(math.exp(-z))
        if kind == "hinge":
            return max(0.0, 1 - z)
        return (sign * delta - 1 / (2 * BETA)) ** 2

    return probability * of(1) + (1 - probability) * of(-1)


def loss_of(trainer: EncodedDpoTrainer) -> float:
    """The loss of all pairs as the first step has it."""
    (batch,) = trainer.get_train_dataloader()
    batch.pop("row", None)
    with torch.no_grad():
        return float(trainer.compute_loss(trainer.model, batch))


@pytest.mark.parametrize("precomputed", [False, True])
@pytest.mark.parametrize("kind", ["sigmoid", "hinge", "ipo"])
def test_the_loss_is_the_expected_one_of_each_pairs_own_label(
    kind: str, precomputed: bool, tmp_path: Path
) -> None:
    labels = {k: v for k, v in LABELS.items() if kind != "ipo" or k != "margin"}
    settings = {"loss_type": [kind], "precompute_ref_log_probs": precomputed}
    trainer = trainer_of(tmp_path, labels, **settings)
    told = deltas(trainer.model, confident(1), are_means=kind == "ipo")
    margins = labels.get("margin", [0.0] * 4)
    each = zip(told, labels["probability"], margins, strict=True)
    expected = sum(expected_loss(kind, *row) for row in each) / 4
    assert loss_of(trainer) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["sigmoid", "hinge", "ipo"])
def test_labels_that_say_nothing_are_upstreams_loss(kind: str, tmp_path: Path) -> None:
    certain = {"probability": [1.0] * 4} | ({"margin": [0.0] * 4} if kind != "ipo" else {})
    losses = [loss_of(trainer_of(tmp_path, each, loss_type=[kind])) for each in (certain, {})]
    assert losses[0] == pytest.approx(losses[1], abs=1e-7)


@pytest.mark.parametrize("lora", [False, True])
def test_policy_and_reference_take_rows_end_to_end(
    lora: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(tmp_path, LABELS, lora=lora)
    lengths = note_rows_laid(monkeypatch)
    loss_of(trainer)
    chosen = [len(prompt) + len(response) for prompt, response, _ in PAIRS]
    rejected = [len(prompt) + len(response) for prompt, _, response in PAIRS]
    assert [sorted(each) for each in lengths] == [sorted([*chosen, *rejected])] * 2


def test_rows_whose_layers_are_computed_again_keep_their_padding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attention would have forgotten by then which rows there are."""
    trainer = trainer_of(tmp_path, LABELS, gradient_checkpointing=True)
    lengths = note_rows_laid(monkeypatch)
    trainer.data_collator = NumberedRows(trainer.data_collator)
    trainer.train()
    assert lengths == []


def test_several_losses_are_weighted(tmp_path: Path) -> None:
    both = {"loss_type": ["sigmoid", "hinge"], "loss_weights": [1.0, 0.5]}
    whole = loss_of(trainer_of(tmp_path, LABELS, **both))
    parts = [loss_of(trainer_of(tmp_path, LABELS, loss_type=[k])) for k in ("sigmoid", "hinge")]
    assert whole == pytest.approx(parts[0] + 0.5 * parts[1], rel=1e-6)


def weights_after(folder: Path, labels: dict[str, list[float]], **settings: Any) -> torch.Tensor:
    torch.manual_seed(0)  # of a new adapter
    # Plain gradient descent: Adam would make whole steps of rounding errors.
    trainer = trainer_of(folder, labels, times=3, optim="sgd", **settings)
    trainer.data_collator = NumberedRows(trainer.data_collator)
    trainer.train()
    trained = (each.detach().flatten() for each in trainer.model.parameters() if each.requires_grad)
    return torch.cat(list(trained))


@pytest.mark.parametrize("lora", [False, True])
def test_neither_the_batch_split_nor_when_the_reference_is_computed_changes_what_is_learnt(
    lora: bool, tmp_path: Path
) -> None:
    whole = weights_after(tmp_path, LABELS, lora=lora)
    split = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    for settings in (split, {"precompute_ref_log_probs": True}):
        other = weights_after(tmp_path, LABELS, lora=lora, **settings)
        assert float((whole - other).abs().max()) <= 1e-5
    plain = weights_after(tmp_path, {}, lora=lora)
    assert float((whole - plain).abs().max()) >= 1e-3
