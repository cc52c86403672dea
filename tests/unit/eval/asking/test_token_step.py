"""A token's step by the arithmetic alone is what the model's own forward pass gives."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

import eval.asking.decoding as decoding
import eval.asking.plain_layers as plain_layers
import eval.asking.token_step as steps
from eval.asking.decoding import Decoding
from tests.small_architectures import small

PROMPTS = {7: [5, 6, 7], 3: [8], 9: [9, 10, 11, 12, 13], 1: [14, 15]}
GOING_ON = [[0, 1, 2, 3]] * 6 + [[0, 3, 2]] + [[0, 1, 2]] * 7 + [[2, 1]] + [[0, 1]] * 4
WHOLE = {"sliding_window": None}  # where a window would be given
KNOWN = {"llama": {}, "mistral": WHOLE, "qwen2": WHOLE, "qwen3": WHOLE}


def written_logits(module) -> tuple[list[torch.Tensor], bool]:
    """Return the logits of each step, and whether a token's step made them."""
    with torch.no_grad():
        rows = Decoding(module, PROMPTS, len(GOING_ON))
        found = [rows.logits]
        for number, going_on in enumerate(GOING_ON):
            tokens = torch.tensor([20 + (row + number) % 7 for row in rows.rows])
            rows.advance(tokens, going_on)
            found.append(rows.logits)
        assert len(found) == 1 + len(GOING_ON)
    return found, rows._step is not None


def with_moved_vectors(module):
    """Make norms and biases, which are ones and zeros at first, matter."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def assert_steps_are_its_own(module, monkeypatch) -> None:
    found, is_step = written_logits(module)
    assert is_step
    monkeypatch.setattr(decoding, "plain_decoder", lambda _: None)
    expected, is_step = written_logits(module)
    assert not is_step
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=1e-5)


@pytest.mark.parametrize("newest", [2, 16])
@pytest.mark.parametrize("packs", [True, False])
@pytest.mark.parametrize("name", KNOWN)
def test_a_step_gives_the_logits_of_the_whole_model(monkeypatch, name, packs, newest) -> None:
    monkeypatch.setattr(steps, "_NEWEST", newest)
    if not packs:
        monkeypatch.setattr(plain_layers, "_LARGEST_PACKED", 0)
    assert_steps_are_its_own(with_moved_vectors(small(name, **KNOWN[name])), monkeypatch)


def test_a_head_size_of_its_own_and_other_rotations_are_known(monkeypatch) -> None:
    rope = {"rope_type": "linear", "factor": 2.0, "rope_theta": 100.0}
    module = small("qwen3", head_dim=16, num_key_value_heads=1, rope_parameters=rope, **WHOLE)
    assert_steps_are_its_own(with_moved_vectors(module), monkeypatch)


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "down_proj", "lm_head"]])
def test_adapters_count(monkeypatch, targets) -> None:
    config = LoraConfig(r=4, target_modules=targets, init_lora_weights=False, task_type="CAUSAL_LM")
    model = get_peft_model(small("llama"), config).eval()
    module = model.get_base_model()
    found, _ = written_logits(module)
    assert_steps_are_its_own(module, monkeypatch)
    with model.disable_adapter():
        monkeypatch.undo()
        without, is_step = written_logits(module)
    assert is_step
    assert not torch.allclose(found[-1], without[-1], atol=1e-2)


def hooked(module, part: str):
    module.get_submodule(part).register_forward_hook(lambda *_: None)
    return module


def patched(module):
    module.model.norm.forward = lambda hidden: hidden
    return module


CHANGING = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 100.0}


@pytest.mark.parametrize(
    "make",
    [
        lambda: small("gpt2"),
        lambda: small("gemma2"),
        lambda: small("mistral"),  # a window
        lambda: small("llama", rope_parameters=CHANGING),
        lambda: small("llama").to(torch.bfloat16),
        lambda: hooked(small("llama"), "model.layers.1.self_attn"),
        lambda: hooked(small("qwen3", **WHOLE), "model.layers.0.self_attn.k_norm"),
        lambda: patched(small("llama")),
        lambda: type("Changed", (type(small("llama")),), {})(small("llama").config).eval(),
    ],
)
def test_other_models_go_through_their_own_pass(make) -> None:
    _, is_step = written_logits(make())
    assert not is_step


def test_autocast_goes_through_the_model() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        _, is_step = written_logits(small("llama"))
    assert not is_step


def test_a_hook_on_a_linear_layer_is_called() -> None:
    module = small("llama")
    seen: list[int] = []
    module.lm_head.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    _, is_step = written_logits(module)
    assert is_step
    assert len(seen) == 1 + len(GOING_ON)
    assert isinstance(module.lm_head, nn.Linear)
