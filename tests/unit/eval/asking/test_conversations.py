"""Answers of a model with tools: what is asked, verified, counted and compared."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from eval.asking.conversations import generate_with_tools
from eval.asking.loglik import continuation_logprobs
from eval.asking.run import evaluate
from eval.asking.sampler import generate
from eval.comparison.comparison import compare_results
from eval.comparison.score_rows import compare_scores
from eval.model import LanguageModel
from eval.results import CALLED, CALLED_NEEDED, CALLS_RIGHT, NOT_CALLED, VERIFIED
from eval.task import Example, Split, Task
from eval.tools.tool import Tool
from pipeline.data.encoding.chat import ChatEncoder
from pipeline.models.language import wrap
from pipeline.tools.use import tool_settings, use_tools
from reward.verdict import Verdict
from reward.verifiers.numeric import numeric
from tests.talking_models import (
    QUESTIONS,
    calculator_tool,
    question,
    talking_model,
    talking_tokenizer,
)


class Sums(Task):
    """The questions that the model knows by heart."""

    name = "sums"
    version = 1
    kind = "skill"
    summary = "sums and products"
    max_new_tokens = 80

    def examples(self, split: Split) -> Iterator[Example]:
        for problem, answer in QUESTIONS.items() if split == "test" else ():
            right = answer or str(sum(map(int, problem.split(" + "))))
            text = question(problem)
            yield Example(problem, text, right, right, text, right, needs_tool=answer is not None)

    def documents(self, seed: int) -> Iterator[str]:
        return iter(())

    def verify(self, response: str, reference: str) -> Verdict:
        return numeric(response, reference)


@pytest.fixture(scope="module")
def bare() -> LanguageModel:
    tokenizer = talking_tokenizer()
    return wrap(talking_model(tokenizer), tokenizer, name="talker", form="chat")


def with_tools(model: LanguageModel, tool: Tool | None = None, max_turns: int = 4) -> LanguageModel:
    tools = [tool or calculator_tool()]
    settings, encoder = tool_settings(tools, model.tokenizer), ChatEncoder(model.tokenizer)
    return replace(
        model,
        tools=use_tools(tools, model.tokenizer, max_turns=max_turns),
        encode_chat=lambda turns: encoder.prompts([(turns, "the question", settings)])[0],
    )


def asked(model: LanguageModel, **settings: Any) -> list[Any]:
    defaults = {"limit": 9, "styles": ["zero-shot"], "shots": [1], "batch_size": 3, "seed": 0}
    return evaluate(model, [Sums()], counts_calls=True, **{**defaults, **settings})


def by_metric(results: list[Any], metric: str) -> dict[str, float | None]:
    return {one.item: one.score for one in results if one.metric == metric}


def test_a_model_with_a_calculator_calls_and_its_last_turn_is_verified(bare: LanguageModel) -> None:
    results = asked(with_tools(bare))
    assert by_metric(results, VERIFIED) == dict.fromkeys(QUESTIONS, 1.0)
    called = {item: float(answer is not None) for item, answer in QUESTIONS.items()}
    assert by_metric(results, CALLED) == called
    assert by_metric(results, CALLED_NEEDED) == {"47 * 35": 1.0, "81 * 92": 1.0}
    assert by_metric(results, NOT_CALLED) == {"10 + 0": 1.0, "400 + 15": 1.0}
    assert by_metric(results, CALLS_RIGHT)["47 * 35"] == 1.0
    assert by_metric(results, CALLS_RIGHT)["10 + 0"] is None
    first = results[0]
    assert first.response == "It is 1645."
    arguments = json.dumps({"expression": "47 * 35"})
    expected = {"name": "calculator", "arguments": arguments, "answer": "1645", "error": None}
    assert first.calls == [expected]
    whole = with_tools(bare).tokenizer(first.response)["input_ids"]
    assert len(whole) < first.num_tokens  # the call is the model's, too, and the answer is not


def test_calls_with_errors_are_told_apart(bare: LanguageModel) -> None:
    def broken(expression: str) -> str:
        raise RuntimeError(expression)

    results = asked(with_tools(bare, replace(calculator_tool(), function=broken)))
    assert by_metric(results, CALLS_RIGHT)["47 * 35"] == 0.0
    assert results[0].calls[0]["error"] == "raised"
    assert results[0].calls[0]["answer"] == "error: RuntimeError: 47 * 35"


def test_a_response_is_cut_where_tools_and_model_have_used_the_budget(bare: LanguageModel) -> None:
    task = Sums()
    task.max_new_tokens = 42
    settings: dict[str, Any] = {"limit": 1, "styles": ["zero-shot"], "shots": [1]}
    (result,) = evaluate(with_tools(bare), [task], batch_size=1, seed=0, **settings)
    assert "cut off after 42 tokens" in result.reason
    assert result.calls is not None


def test_without_tools_nothing_is_counted_and_results_are_what_they_were(
    bare: LanguageModel,
) -> None:
    results = asked(bare)
    assert by_metric(results, CALLED) == dict.fromkeys(QUESTIONS)
    prompts = [bare.encode_chat([("user", question(each))]) for each in QUESTIONS]  # pyright: ignore
    settings: dict[str, Any] = {"max_new_tokens": 20, "batch_size": 2, "seed": 3}
    for temperature in (0.0, 1.0):
        ours = generate_with_tools(bare, prompts, temperature=temperature, **settings)
        assert ours == generate(bare, prompts, temperature=temperature, **settings)


def test_a_response_that_goes_on_draws_as_it_would_have_without_a_break(
    bare: LanguageModel,
) -> None:
    prompts = [[5, 6, 7], [8, 9]]
    model = replace(bare, eos_token_ids=frozenset())
    settings: dict[str, Any] = {
        "max_new_tokens": 12,
        "temperature": 1.0,
        "batch_size": 2,
        "seed": 3,
    }
    whole = generate(model, prompts, keys=[4, 2], **settings)
    begun = [5, 1]
    parts = zip(prompts, whole, begun, strict=True)
    longer = [[*prompt, *one.token_ids[:at]] for prompt, one, at in parts]
    rest = generate(model, longer, keys=[4, 2], written=begun, **settings)
    for one, tail, at in zip(whole, rest, begun, strict=True):
        assert tail.token_ids == one.token_ids[at:]


def test_the_log_ratio_counts_the_models_tokens_alone(bare: LanguageModel) -> None:
    model = with_tools(bare)
    results = asked(model, temperature=1.0, trained_from=bare)
    sampled = [one for one in results if one.metric == VERIFIED]
    assert any(one.calls for one in sampled)
    assert all(one.log_ratio == pytest.approx(0.0, abs=1e-4) for one in sampled)
    noisy = replace(bare, module=talking_model(bare.tokenizer, [], knows_tools=False))
    (first, *_) = [
        one for one in asked(model, temperature=1.0, trained_from=noisy) if one.metric == VERIFIED
    ]
    assert model.encode_chat is not None
    prompt = model.encode_chat([("user", first.prompt)])
    (response,) = generate_with_tools(
        model, [prompt], max_new_tokens=80, temperature=1.0, batch_size=1, seed=0
    )
    conversation = response.conversation
    assert conversation is not None
    turns = [
        (
            [*prompt, *conversation.token_ids[: one.begin]],
            conversation.token_ids[one.begin : one.end],
        )
        for one in conversation.turns
    ]
    ours, theirs = (
        sum(continuation_logprobs(each, turns, batch_size=1)) for each in (model, noisy)
    )
    assert first.log_ratio == pytest.approx(ours - theirs, rel=1e-4)


def test_a_model_without_tools_is_compared_with_one_that_has_some(bare: LanguageModel) -> None:
    alone = [one for one in asked(bare) if one.metric == VERIFIED]
    results = {"alone": alone, "tools": asked(with_tools(bare))}
    rows = {(row.metric, row.model): row for row in compare_scores(results, "alone")}
    assert rows[VERIFIED, "tools"].score == 1.0
    assert rows[CALLED_NEEDED, "tools"].score == 1.0
    assert rows[CALLED, "tools"].n == 4
    assert rows[CALLED, "tools"].low is not None
    assert rows[CALLED, "alone"].score is None
    assert rows[CALLED, "tools"].delta is None
    assert compare_results(results, "alone").rows
