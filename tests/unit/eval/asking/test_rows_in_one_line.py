"""Rows that are read as one line are what each is by itself, through the model's own pass."""

import pytest
import torch

import eval.asking.decoding as decoding
import eval.asking.one_line as one_line
from eval.asking.loglik import continuation_logprobs
from eval.asking.one_line import Row, lines, read_line
from eval.asking.plain_layers import plain_decoder
from eval.model import LanguageModel
from tests.small_architectures import small

WHOLE = {"sliding_window": None}  # where a window would be given
KNOWN = {"llama": {}, "mistral": WHOLE, "qwen2": WHOLE, "qwen3": WHOLE}
SHARED = [3 + place % 50 for place in range(20)]
CONTEXTS = ([5, 6, 7, 8, 9], [10, 11], [12])
OPTIONS = ([20], [21, 22, 23], [24, 25], [21, 22, 30, 31, 32])
PAIRS = [(context, option) for option in OPTIONS for context in CONTEXTS]
LONG = [(SHARED + context, option) for context, option in PAIRS]
ALONE = [(context, OPTIONS[place]) for place, context in enumerate(CONTEXTS)]


def made(name: str, **fields):
    """Make a model whose norms and biases, which are ones and zeros at first, matter."""
    module = small(name, **KNOWN[name], **fields)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def logprobs(module, pairs) -> list[float]:
    none = frozenset[int]()
    model = LanguageModel("m", module, None, "document", lambda _: [], None, none)  # pyright: ignore
    return continuation_logprobs(model, pairs, batch_size=64)


def by_itself(module, context: list[int], continuation: list[int]) -> float:
    with torch.no_grad():
        logits = module(input_ids=torch.tensor([context + continuation])).logits[0].double()
    found = torch.log_softmax(logits[len(context) - 1 : -1], -1)
    return float(found.gather(-1, torch.tensor(continuation).unsqueeze(-1)).sum())


@pytest.mark.parametrize("line", [8, 2048])
@pytest.mark.parametrize("pairs", [PAIRS, LONG, ALONE], ids=["shared", "beginning", "alone"])
@pytest.mark.parametrize("name", KNOWN)
def test_continuations_are_as_probable_as_each_by_itself(monkeypatch, name, pairs, line) -> None:
    monkeypatch.setattr(one_line, "_LINE", line)
    module = made(name, num_key_value_heads=1) if name == "llama" else made(name)
    monkeypatch.setattr(type(module), "forward", None)
    found = logprobs(module, pairs)
    monkeypatch.undo()
    expected = [by_itself(module, *pair) for pair in pairs]
    assert found == pytest.approx(expected, abs=2e-4)


def test_rows_that_are_too_long_go_through_the_model(monkeypatch) -> None:
    module = made("llama")
    expected = logprobs(module, PAIRS)
    monkeypatch.setattr("eval.asking.loglik.LONGEST", 11)
    monkeypatch.setattr("eval.asking.loglik.read_line", None)
    assert logprobs(module, PAIRS) == pytest.approx(expected, abs=2e-4)


def test_a_line_has_as_many_rows_as_fit_and_at_least_one(monkeypatch) -> None:
    monkeypatch.setattr(one_line, "_LINE", 5)
    rows = [Row([1] * length, []) for length in (7, 2, 3, 1, 5)]
    assert list(lines(rows)) == [slice(0, 1), slice(1, 3), slice(3, 4), slice(4, 5)]


def test_broken_weights_are_named() -> None:
    module = made("qwen3")
    with torch.no_grad():
        module.lm_head.weight[0] = torch.nan
    with pytest.raises(ValueError, match="m gives NaN"):
        logprobs(module, PAIRS)


@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_a_window_or_training_is_left_to_the_model(name) -> None:
    assert plain_decoder(small("mistral")) is None
    assert plain_decoder(made(name).train()) is None
    assert plain_decoder(made(name)) is not None


@pytest.mark.parametrize("line", [8, 2048])
@pytest.mark.parametrize("prompts", [CONTEXTS, [SHARED + each for each in CONTEXTS]])
def test_prompts_in_lines_leave_what_the_model_would(monkeypatch, prompts, line) -> None:
    monkeypatch.setattr(one_line, "_LINE", line)
    module = made("qwen3", num_key_value_heads=1)

    def read() -> decoding.Decoding:
        with torch.no_grad():
            return decoding.Decoding(module, dict(enumerate(prompts)), 4)

    ours = read()
    monkeypatch.setattr(decoding, "plain_decoder", lambda _: None)
    theirs = read()
    torch.testing.assert_close(ours.logits, theirs.logits, atol=2e-4, rtol=1e-5)
    is_token = ours.mask[:, None, : ours.length, None].bool()
    for our, their in zip(ours.cache.layers, theirs.cache.layers, strict=True):
        for one, other in ((our.keys, their.keys), (our.values, their.values)):
            torch.testing.assert_close(one * is_token, other * is_token, atol=2e-4, rtol=1e-5)


def test_each_row_has_its_place_in_the_line() -> None:
    decoder = plain_decoder(made("llama"))
    assert decoder is not None
    with torch.no_grad():
        read = read_line(decoder, [3], [Row([4, 5], [[6], [7, 8]]), Row([9], [])], keeps=True)
    assert read.rows == [slice(1, 6), slice(6, 7)]
    assert read.starts == [0, 4]
    assert len(read.hidden) == 5
    assert {len(keys) for keys, _ in read.held} == {7}
