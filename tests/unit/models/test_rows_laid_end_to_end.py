"""Padded batches run end to end: upstream's losses and gradients, and where they stay padded."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from trl.trainer.utils import add_fused_lm_head

from pipeline.models.padded_rows import laying_end_to_end
from pipeline.models.reward import score_ids
from pipeline.training.loss_head import score_trained_tokens_alone
from reward.model import scores
from tests.rows_laid import note_rows_laid

PAD = 0
IDS = torch.tensor([[5, 6, 7, 8, 9], [10, 11, PAD, PAD, PAD], [12, 13, 14, 15, PAD]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 1, 0]])
LABELS = torch.tensor([[-100] * 3 + [8, 9], [-100, 11] + [-100] * 3, [-100, -100, 14, 15, -100]])
SHAPE = {
    **{"vocab_size": 32, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 8},
    **{"bos_token_id": None, "eos_token_id": None, "initializer_range": 0.2},
}
ONE_SCORE: dict[str, Any] = {"num_labels": 1, "pad_token_id": PAD}


def causal() -> Any:
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(Qwen3Config(**SHAPE)).train()
    score_trained_tokens_alone()
    add_fused_lm_head(model)
    return model


def classifier() -> Any:
    torch.manual_seed(0)
    return LlamaForSequenceClassification(LlamaConfig(**SHAPE, **ONE_SCORE)).train()


def results(model: Any, **asked: Any) -> dict[str, torch.Tensor]:
    """Return what a model makes of the rows, its gradients, and the shape of its layers' input."""
    model.zero_grad()
    seen: list[torch.Size] = []
    norm: Any = model.base_model.norm
    handle = norm.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape))
    output = model(input_ids=IDS, attention_mask=MASK, **asked)
    handle.remove()
    scores = output.log_probs if "labels" in asked else output.logits
    (scores * torch.linspace(-1, 1, scores.numel()).view_as(scores)).sum().backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return {"scores": scores.detach(), "shape": torch.tensor(seen[0]), **found}


@pytest.mark.parametrize(
    ("make", "asked"),
    [(causal, {"labels": LABELS, "fused_lm_head": True}), (classifier, {})],
)
def test_scores_and_gradients_are_those_of_padded_rows(make: Any, asked: dict[str, Any]) -> None:
    model = make()
    padded = results(model, **asked)
    with laying_end_to_end(model):
        found = results(model, **asked)
    assert padded.pop("shape").tolist() == [3, 5, 32]
    assert found.pop("shape").tolist() == [1, 11, 32]
    assert found.keys() == padded.keys()
    for name, expected in padded.items():
        torch.testing.assert_close(
            found[name], expected, atol=3e-6 * float(expected.abs().max()), rtol=0
        )


def test_a_model_is_left_as_it_was() -> None:
    for model in (causal(), classifier()):
        own = vars(model).get("forward")
        with laying_end_to_end(model):
            model(input_ids=IDS, attention_mask=MASK)
        assert vars(model).get("forward") is own
        assert "forward" not in vars(model.base_model)


def test_a_pad_token_within_a_text_is_where_the_head_reads() -> None:
    """As upstream's does: the last token that is not the pad token, whatever the mask says."""
    model = classifier()
    ids = IDS.clone()
    ids[0, 3:] = PAD
    padded = model(input_ids=ids, attention_mask=MASK).logits
    with laying_end_to_end(model):
        found = model(input_ids=ids, attention_mask=MASK).logits
    torch.testing.assert_close(found, padded, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param({"attention_mask": MASK.flip(1)}, id="padded on the left"),
        pytest.param({"attention_mask": MASK, "labels": LABELS}, id="logits of all tokens"),
        pytest.param({"attention_mask": MASK, "use_cache": True}, id="keys and values kept"),
        pytest.param({"attention_mask": None}, id="nothing said of rows"),
    ],
)
def test_rows_of_which_more_is_asked_stay_padded(asked: dict[str, Any]) -> None:
    model = causal()
    padded = model(input_ids=IDS, **asked)
    with laying_end_to_end(model):
        found = model(input_ids=IDS, **asked)
    assert torch.equal(found.logits, padded.logits)


@pytest.mark.parametrize("is_adapted", [False, True])
def test_scores_of_rows_end_to_end_are_those_of_padded_ones(
    is_adapted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = classifier().eval()
    if is_adapted:
        model = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", init_lora_weights=False))
    rows = [row[:length].tolist() for row, length in zip(IDS, (5, 2, 4), strict=True)]
    lengths = note_rows_laid(monkeypatch)
    assert score_ids(model, rows) == pytest.approx(scores(model, rows), abs=1e-5)
    assert lengths == [[5, 4, 2]]


def test_a_head_that_reads_in_a_way_of_its_own_is_left_alone() -> None:
    torch.manual_seed(0)
    shape = {"vocab_size": 32, "n_embd": 32, "n_layer": 1, "n_head": 4, "n_positions": 16}
    config = GPT2Config(**shape, **ONE_SCORE)
    model: Any = GPT2ForSequenceClassification(config).eval()
    padded = model(input_ids=IDS, attention_mask=MASK).logits
    with laying_end_to_end(model):
        assert torch.equal(model(input_ids=IDS, attention_mask=MASK).logits, padded)
