"""TRL's fused loss head on a CPU: only what is trained goes through it, with the same result."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM
from trl.kernels.chunked_logprob import OPTIONAL_OUTPUTS, ChunkedLogProbFunction
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
    def restore() -> None:
        monkeypatch.setattr(upstream, "_use_triton", _everywhere)
        monkeypatch.setattr(upstream, "_ChunkedLogProbFunction", ChunkedLogProbFunction)

    return restore


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


def test_other_devices_are_upstreams_to_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    assert upstream._use_triton is loss_head._is_compact
    meta = torch.device("meta")
    assert loss_head._is_compact(meta) == loss_head._has_triton(meta)
    monkeypatch.setattr(loss_head, "_sums_of_upstream", _Upstreams)
    states = [torch.empty(3, 4, device="meta") for _ in range(2)]
    assert _sums(loss_head.LogProbabilities, *states, torch.zeros(3)) == "upstream's"


class _Upstreams:
    @staticmethod
    def apply(*_: Any) -> str:
        return "upstream's"


HIDDEN, NUMBER = 8, 11
PULLS = torch.linspace(-1, 2, NUMBER)  # the gradient of each score differs
SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {"temperature": 0.7, "scale": 3.0},
    {"bias": True},
    {"softcap": 2.0},
    {"outputs": ()},
    {"outputs": ("entropy",)},
    {"outputs": ("mean_logits", "log_sum_sq_probs")},
)


def _sums(
    function: Any,
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    *,
    bias: torch.Tensor | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
    scale: float = 1.0,
    outputs: tuple[str, ...] = OPTIONAL_OUTPUTS,
) -> Any:
    how = (temperature, 32768, softcap, scale, outputs)
    return function.apply(hidden, weight, bias, targets, *how)


def _scores_and_gradients(
    function: Any, *, of_entropy: bool = False, dtype: torch.dtype = torch.float32, **settings: Any
) -> list[torch.Tensor | None]:
    torch.manual_seed(1)
    hidden = (torch.randn(NUMBER, HIDDEN) / 4).to(dtype).requires_grad_()
    weight = torch.randn(VOCABULARY, HIDDEN).to(dtype).requires_grad_()
    targets = torch.randint(0, VOCABULARY, (NUMBER,))
    targets[:4] = (hidden @ weight.T).argmax(-1)[:4]
    leaves = [hidden, weight]
    if settings.pop("bias", False):
        leaves.append(torch.randn(VOCABULARY).requires_grad_())
        settings["bias"] = leaves[-1]
    scores = list(_sums(function, hidden, weight, targets, **settings))
    loss = (scores[0] * PULLS).sum()
    if of_entropy:
        loss = loss + (scores[1] * PULLS.flip(0)).sum()
    loss.backward()
    return [*scores, *(leaf.grad for leaf in leaves)]


def _assert_as_upstream(rtol: float = 1e-5, atol: float = 2e-6, **settings: Any) -> None:
    ours = _scores_and_gradients(loss_head.LogProbabilities, **settings)
    theirs = _scores_and_gradients(ChunkedLogProbFunction, **settings)
    assert [each is None for each in ours] == [each is None for each in theirs]
    for a, b in zip(ours, theirs, strict=True):
        if a is not None and b is not None:
            assert a.dtype == b.dtype
            torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


@pytest.fixture(params=[(2**19, 2**26), (1, 2**26), (1, 0), (1, 5 * VOCABULARY)])
def divided(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """All tokens at a time or four, with all, none or the first four kept."""
    elements, kept = request.param
    monkeypatch.setattr(loss_head, "_CHUNK_ELEMENTS", elements)
    monkeypatch.setattr(loss_head, "_CHUNK_TOKENS", 4)
    monkeypatch.setattr(loss_head, "_KEPT_ELEMENTS", kept)
    return request.param


@pytest.mark.parametrize("settings", SETTINGS)
def test_scores_and_gradients_are_upstreams(divided, settings: dict[str, Any]) -> None:
    _assert_as_upstream(**settings)


def test_the_gradient_of_an_entropy_is_upstreams(divided) -> None:
    _assert_as_upstream(of_entropy=True)


def test_in_bf16_scores_and_gradients_are_upstreams_to_its_three_digits() -> None:
    _assert_as_upstream(dtype=torch.bfloat16, rtol=2e-2, atol=2e-2)


def test_under_autocast_only_products_are_rounded() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        _assert_as_upstream(rtol=1e-2, atol=1e-2)
        ours = _scores_and_gradients(loss_head.LogProbabilities)
        theirs = _scores_and_gradients(ChunkedLogProbFunction)
    for a, b in zip(ours[:4], theirs[:4], strict=True):  # of the same logits, in fp32
        assert isinstance(a, torch.Tensor)
        torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-6)


def test_what_is_kept_for_the_backward_pass_changes_no_bit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = _scores_and_gradients(loss_head.LogProbabilities, of_entropy=True)
    monkeypatch.setattr(loss_head, "_KEPT_ELEMENTS", 0)
    anew = _scores_and_gradients(loss_head.LogProbabilities, of_entropy=True)
    for a, b in zip(kept, anew, strict=True):
        assert isinstance(a, torch.Tensor)
        assert torch.equal(a, b)


def test_of_tokens_that_are_as_likely_the_first_is_the_likeliest() -> None:
    hidden, weight = torch.ones(3, 1), torch.tensor([[1.0], [2.0], [2.0], [0.0]])
    scores = _sums(loss_head.LogProbabilities, hidden, weight, torch.tensor([1, 2, 3]))
    assert scores[4].tolist() == [True, False, False]


def test_without_gradients_nothing_is_kept() -> None:
    hidden, weight = torch.ones(3, 1), torch.ones(4, 1, requires_grad=True)
    with torch.no_grad():
        scores = _sums(loss_head.LogProbabilities, hidden, weight, torch.tensor([1, 2, 3]))
    assert scores[0].grad_fn is None


def test_capped_logits_are_left_to_upstreams_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = {"hidden_size": WIDTH, "intermediate_size": 16, "num_hidden_layers": 1, "head_dim": 8}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": VOCABULARY}
    model = Gemma2ForCausalLM(Gemma2Config(**shape, **heads, final_logit_softcapping=0.1))
    upstream.add_fused_lm_head(model)
    ids = torch.arange(12)[None]
    expected = model(input_ids=ids, labels=ids).loss
    monkeypatch.setattr(loss_head._OnCpu, "apply", None)  # would be called
    scored = model(input_ids=ids, labels=ids, fused_lm_head=True)
    torch.testing.assert_close(scored.loss, expected)
