"""TRL's fused loss head on a CPU: only what is trained goes through it, with the same result."""

from collections.abc import Callable

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM
from trl.trainer import utils as upstream

import pipeline.training.dpo_trainer
import pipeline.training.sft_trainer  # noqa: F401  it sets what is tested
from pipeline.training import loss_head

VOCABULARY, WIDTH = 64, 16
OUTPUTS = ("log_probs", "entropy", "mean_logits", "is_top1")


def _score(labels: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor, int]:
    """Return the head's outputs, the embedding's gradient, and multiplications in the whole."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    upstream.add_fused_lm_head(model, outputs=OUTPUTS)
    ids = torch.randint(0, VOCABULARY, labels.shape)
    with FlopCounterMode(display=False) as flops:
        output = model(input_ids=ids, labels=labels, fused_lm_head=True)
    output.loss.backward()
    gradient = model.get_input_embeddings().weight.grad
    assert isinstance(gradient, torch.Tensor)
    scores = {name: getattr(output, name).detach() for name in OUTPUTS}
    return scores, gradient, flops.get_total_flops()


def _labels(num_trained: int) -> torch.Tensor:
    labels = torch.full((2, 12), -100)
    labels[:, 12 - num_trained :] = 5
    return labels


def _everywhere(_device: torch.device) -> bool:
    return False


@pytest.fixture
def as_upstream(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr(upstream, "_use_triton", _everywhere)


def test_the_trained_tokens_scores_and_gradients_are_those_of_the_whole(as_upstream) -> None:
    labels = _labels(4)
    alone, gradient, _ = _score(labels)
    as_upstream()
    whole, expected, _ = _score(labels)
    for name in OUTPUTS:
        torch.testing.assert_close(alone[name], whole[name], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6)


def test_only_trained_tokens_go_through_the_head(as_upstream) -> None:
    few, many = (_score(_labels(number))[2] for number in (2, 6))
    # Two rows, four tokens more in each: a multiplication by the head for every one of these.
    assert many - few == 2 * 4 * 2 * WIDTH * VOCABULARY
    as_upstream()
    assert _score(_labels(2))[2] == _score(_labels(6))[2]


def test_a_step_without_a_trained_token_has_a_gradient_of_zero() -> None:
    _, gradient, _ = _score(torch.full((2, 12), -100))
    assert not gradient.any()


def test_other_devices_are_upstreams_to_decide() -> None:
    assert upstream._use_triton is loss_head._is_compact
    meta = torch.device("meta")
    assert loss_head._is_compact(meta) == loss_head._has_triton(meta)
