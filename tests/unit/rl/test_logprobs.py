"""Log-probabilities of completion tokens, in chunks, against whole logits and log_softmax.

The oracle is the model's own forward pass, one row at a time, without padding.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from pipeline.rl import logprobs
from pipeline.rl.actor import hidden_after_last, last_hidden, predicting_hidden
from pipeline.rl.logprobs import Head, head_of, hidden_gradient, log_probabilities
from pipeline.rl.sequences import Sequences
from tests.ppo_tasks import tiny_llama
from tests.token_rows import to_rows
from tests.unit.rl.small_trainers import (
    VOCABULARY,
    MakeTrainer,
    confident,
    gradients_of,
    shaken,
)

CPU = torch.device("cpu")
SHAPE = {
    **{"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "vocab_size": 32},
    **{"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 64},
    **{"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None},
}


def random_rows(seed: int = 1, vocabulary: int = VOCABULARY) -> tuple[list, list]:
    """Return prompts and completions of all lengths, any id in them, padding's too."""
    generator = torch.Generator().manual_seed(seed)

    def ids(length: int) -> list[int]:
        return torch.randint(0, vocabulary, (length,), generator=generator).tolist()

    lengths = [(3, 9), (1, 1), (7, 4), (2, 12), (5, 5), (1, 11), (4, 8)]
    return [ids(p) for p, _ in lengths], [ids(c) for _, c in lengths]


def together(prompts: list, completions: list, pad: int = 0) -> Sequences:
    return Sequences.of(prompts, completions, pad=pad, device=CPU)


def row_by_row(
    module: Any,
    prompts: list,
    completions: list,
    *,
    temperature: float = 1.0,
    forbidden: tuple[int, ...] = (),
) -> tuple[Tensor, Tensor]:
    """Return log-probabilities and entropies, (N,) each in fp64, of whole logits of single rows."""
    found, entropies = [], []
    for prompt, completion in zip(prompts, completions, strict=True):
        logits = module(input_ids=torch.tensor([[*prompt, *completion]]), use_cache=False).logits
        logits = logits[0, len(prompt) - 1 : -1].double() / temperature
        allowed = torch.ones(logits.shape[-1], dtype=torch.bool)
        allowed[list(forbidden)] = False
        logits = torch.where(allowed, logits, -1e30)
        logps = logits.log_softmax(-1)
        found.append(logps.gather(-1, torch.tensor(completion)[:, None]).squeeze(-1))
        entropies.append(-(logps.exp() * torch.where(allowed, logps, 0)).sum(-1))
    return torch.cat(found), torch.cat(entropies)


def llama(**more: Any) -> Any:
    return confident(LlamaForCausalLM(LlamaConfig(**{**SHAPE, **more})))


def gpt2() -> Any:
    shape = {"n_embd": 16, "n_head": 2, "n_layer": 2, "n_positions": 64, "vocab_size": 32}
    return confident(GPT2LMHeadModel(GPT2Config(**shape, pad_token_id=0, eos_token_id=1)))


def adapted_head() -> Any:
    config = LoraConfig(r=4, target_modules=["q_proj", "lm_head"], task_type="CAUSAL_LM")
    module: Any = get_peft_model(llama(), config)
    shaken(parameter for parameter in module.parameters() if parameter.requires_grad)
    return module.get_base_model().eval()


def gemma2() -> Any:
    more = {"head_dim": 8, "final_logit_softcapping": 1.5, "attn_implementation": "eager"}
    return confident(Gemma2ForCausalLM(Gemma2Config(**{**SHAPE, **more})))


MODELS: dict[str, Callable[[], Any]] = {
    "Llama": llama,
    "tied": lambda: llama(tie_word_embeddings=True),
    "GPT-2": gpt2,
    "LoRA on the head": adapted_head,
    "softcapping": gemma2,
    "logit scale": lambda: confident(
        CohereForCausalLM(CohereConfig(**{**SHAPE, "logit_scale": 0.3}))
    ),
    "logits scaling": lambda: confident(
        GraniteForCausalLM(GraniteConfig(**{**SHAPE, "logits_scaling": 3.0}))
    ),
}


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four chunks for the 50 tokens of `random_rows`."""
    monkeypatch.setattr(logprobs, "_elements_at_a_time", lambda device: 1)
    monkeypatch.setattr(logprobs, "_LEAST_TOKENS", 16)
    assert len(list(head_of(llama()).chunks(50))) == 4


@pytest.mark.parametrize("bonus", [0.0, 0.3], ids=["no bonus", "entropy bonus"])
@pytest.mark.parametrize(
    ("temperature", "forbidden"), [(1.0, ()), (0.5, (0, 5))], ids=["plain", "cold, two forbidden"]
)
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.usefixtures("small_chunks")
def test_values_and_gradients_are_those_of_log_softmax(
    make: Callable[[], Any], temperature: float, forbidden: tuple[int, ...], bonus: float
) -> None:
    """B23: with the temperature in them, and without what is never sampled.

    Gradients of every weight.
    """
    torch.manual_seed(0)
    module = make()
    prompts, completions = random_rows()
    completions = [[token for token in row if token not in forbidden] for row in completions]
    expected, entropies = row_by_row(
        module, prompts, completions, temperature=temperature, forbidden=forbidden
    )
    weights = torch.linspace(-1, 2, len(expected))
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    ((expected + bonus * entropies) * weights).sum().backward()
    gradients = {name: p.grad for name, p in trained.items()}
    for parameter in trained.values():
        parameter.grad = None

    sequences = together(prompts, completions)
    head = head_of(module, temperature=temperature, forbidden=forbidden)
    hidden = predicting_hidden(module.base_model, sequences)
    found, exact = log_probabilities(head, hidden, sequences.targets, with_entropy=True)
    assert exact is not None
    torch.testing.assert_close(found.double(), expected, atol=2e-5, rtol=0)
    torch.testing.assert_close(exact.double(), entropies, atol=2e-5, rtol=0)

    def loss_of(new: Tensor, entropy: Tensor | None, part: slice) -> Tensor:
        torch.testing.assert_close(new, found[part], atol=1e-6, rtol=0)
        if entropy is None:
            return (new * weights[part]).sum()
        torch.testing.assert_close(entropy, exact[part], atol=1e-5, rtol=0)
        return ((new + bonus * entropy) * weights[part]).sum()

    is_asked = bool(bonus)
    targets = sequences.targets
    hidden.backward(hidden_gradient(head, hidden, targets, loss_of, with_entropy=is_asked))
    assert gradients
    for name, parameter in trained.items():
        expected_gradient = gradients[name]
        assert expected_gradient is not None, name
        scale = float(expected_gradient.abs().max())
        assert scale > 0, name
        torch.testing.assert_close(
            parameter.grad, expected_gradient, atol=2e-5 * scale, rtol=0,
            msg=lambda said, of=name: f"{of}: {said}",
        )  # fmt: skip


def test_a_token_is_scored_by_what_precedes_it() -> None:
    """B01: on a model that is a table of bigrams, and nothing else."""
    torch.manual_seed(2)
    table = torch.randn(VOCABULARY, VOCABULARY).log_softmax(-1)
    module: Any = tiny_llama(
        0, VOCABULARY, num_hidden_layers=0, hidden_size=VOCABULARY, num_attention_heads=2
    )
    with torch.no_grad():  # a one-hot vector, normalised: its size is the root of its length
        module.model.embed_tokens.weight.copy_(torch.eye(VOCABULARY))
        module.lm_head.weight.copy_(table.T / VOCABULARY**0.5)
    prompts, completions = random_rows()
    sequences = together(prompts, completions)
    found, _ = log_probabilities(
        head_of(module), predicting_hidden(module.base_model, sequences), sequences.targets
    )
    pairs = [
        (before, token)
        for prompt, completion in zip(prompts, completions, strict=True)
        for before, token in zip([prompt[-1], *completion], completion, strict=False)
    ]
    expected = torch.stack([table[before, token] for before, token in pairs])
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("pad", [0, 1, 17])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_padded_batch_is_its_rows_alone(
    kind: str, pad: int, request: pytest.FixtureRequest
) -> None:
    """B05, B06, B43: right padding needs neither a mask nor positions, whatever id it has."""
    module = request.getfixturevalue(kind)
    prompts, completions = random_rows()
    assert any(pad in row for row in completions)
    sequences = together(prompts, completions, pad=pad)
    hidden = predicting_hidden(module.base_model, sequences)
    after = hidden_after_last(last_hidden(module.base_model, sequences), sequences)
    alone = [
        module.base_model(input_ids=torch.tensor([[*prompt, *completion]])).last_hidden_state[0]
        for prompt, completion in zip(prompts, completions, strict=True)
    ]
    expected = [h[len(p) - 1 : -1] for h, p in zip(alone, prompts, strict=True)]
    torch.testing.assert_close(hidden, torch.cat(expected), atol=1e-5, rtol=0)
    torch.testing.assert_close(after, torch.stack([h[-1] for h in alone]), atol=1e-5, rtol=0)
    found, _ = log_probabilities(head_of(module), hidden, sequences.targets)
    torch.testing.assert_close(
        found.double(), row_by_row(module, prompts, completions)[0], atol=1e-5, rtol=0
    )


def test_rows_have_their_tokens_and_zeros_after_them() -> None:
    prompts, completions = random_rows()
    sequences = together(prompts, completions)
    rows = to_rows(sequences, sequences.targets + 1)
    for row, completion in zip(rows.tolist(), completions, strict=True):
        assert row == [token + 1 for token in completion] + [0] * (12 - len(completion))


def test_log_probabilities_in_bf16_are_close_to_those_in_fp64(llama: Any) -> None:
    """B56: the projection may be in bf16, the softmax is not: it alone would cost more.

    A logit in bf16 has 8 bits and is summed up of products of such numbers: it is off by a few
    times 2^-8 of itself, and log p by as much as the largest of them at most, for the target and
    for the sum that it is divided by. What a CPU's kernels add up first only moves it within this.
    """
    prompts, completions = random_rows()
    expected, _ = row_by_row(llama.double(), prompts, completions)
    llama.float()
    sequences = together(prompts, completions)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        head = head_of(llama)
        hidden = predicting_hidden(llama.base_model, sequences)
        found, _ = log_probabilities(head, hidden, sequences.targets)
        careless = head.project(hidden).bfloat16().log_softmax(-1, dtype=torch.bfloat16)
    assert found.dtype == torch.float32
    step = 2**-8 * float(head.project(hidden).abs().max())
    assert (found - expected).abs().max() < 4 * step
    careless = careless.gather(1, sequences.targets[:, None]).squeeze(1)
    assert (careless - expected).abs().mean() > 1.5 * (found - expected).abs().mean()


@pytest.mark.usefixtures("small_chunks")
def test_gradients_in_bf16_are_close_to_those_in_fp32(llama: Any) -> None:
    """B56: chunk after chunk, though autocast keeps one copy of the weights for all of them."""
    sequences = together(*random_rows())
    gradients: list[dict[str, Tensor]] = []
    for is_bf16 in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
            hidden = predicting_hidden(llama.base_model, sequences)
            gradient = hidden_gradient(
                head_of(llama), hidden, sequences.targets, lambda new, _, part: new.sum()
            )
        hidden.backward(gradient)
        gradients.append(gradients_of(llama))
    for name, each in gradients[0].items():
        apart = (gradients[1][name] - each).norm() / each.norm()
        assert float(apart) < 0.05, name


class Largest(TorchDispatchMode):
    """Keeps the number of elements of the largest tensor that any operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        each = found if isinstance(found, list | tuple) else [found]
        sizes = [one.numel() for one in each if isinstance(one, Tensor)]
        self.elements = max([self.elements, *sizes])
        return found


def test_chunks_of_the_head_follow_the_vocabulary_and_the_memory() -> None:
    """Never a few tokens, for which the head's weights would be read and written each time."""
    of_this_machine = logprobs._elements_at_a_time(torch.device("cpu"))  # pyright: ignore[reportPrivateUsage]
    assert 2**22 <= of_this_machine <= 2**24
    for elements, vocabulary, number in (
        (2**22, 32_768, 128),
        (2**24, 32_768, 512),
        (2**22, 151_936, 64),
        (2**24, 151_936, 110),
    ):
        head = Head(lambda hidden: hidden, vocabulary, elements=elements)
        first, *_, last = head.chunks(1000)
        assert (first.start, first.stop) == (0, number)
        assert last.stop >= 1000


@pytest.mark.parametrize("entropy_coef", [0.0, 0.01])
def test_logits_of_a_whole_batch_never_exist(
    entropy_coef: float, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over a whole rollout: sampled, scored and trained on, with 8 rows of up to 34 tokens."""
    vocabulary, chunk = 4096, 2**16
    monkeypatch.setattr(logprobs, "_elements_at_a_time", lambda device: chunk)
    monkeypatch.setattr(logprobs, "_LEAST_TOKENS", 16)
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    module = tiny_llama(0, vocabulary, **shape, num_hidden_layers=1)
    trainer = make_trainer(
        module,
        rows=[{"input_ids": list(range(3, 13))}],
        per_device_train_batch_size=8,
        max_completion_length=24,
        num_ppo_epochs=1,
        entropy_coef=entropy_coef,
    )
    with Largest() as largest:
        trainer.train()
    tokens = trainer.state.log_history[0]["completions/length_mean"] * 8
    assert tokens > 150
    assert largest.elements >= chunk
    assert largest.elements <= max(chunk, vocabulary * 16)
    assert tokens * vocabulary > 8 * largest.elements
