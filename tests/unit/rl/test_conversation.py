"""pipeline/rl/conversation.py: rollouts with tools, token by token."""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from eval.tools.calculator import calculator
from eval.tools.calls import Call
from eval.tools.tool import make_tool
from eval.tools.toolbox import Toolbox
from eval.tools.turns import ToolUse
from pipeline.rl.conversation import ConversationSampler
from pipeline.rl.engines import GenerateSampler, row_seed
from pipeline.rl.sampler import LoopSampler
from pipeline.rl.vllm_sampler import request_settings
from tests.unit.rl.test_rollout import MODELS, PROMPTS, VOCAB, sampling

KEYS = [100 + number for number in range(len(PROMPTS))]


class EveryTurnCalls:
    """Takes every turn that ended for a call, and answers with four tokens."""

    def read_calls(self, token_ids: Sequence[int]) -> list[Call]:
        return [Call("calculator", {"expression": str(sum(token_ids))})]

    def answer_ids(self, answers: Sequence[tuple[str, str]], *, last_id: int) -> list[int]:
        ((_, text),) = answers
        return [40, 3 + int(text) % (VOCAB - 3), 41, last_id]


def talking(sampler: Any, max_new_tokens: int, max_turns: int = 4) -> ConversationSampler:
    box = Toolbox([make_tool(calculator, is_quick=True)])
    tools = ToolUse(box, EveryTurnCalls(), max_turns)
    return ConversationSampler(sampler, tools, max_new_tokens)


@pytest.mark.parametrize("model", MODELS)
def test_a_row_that_goes_on_draws_what_it_would_have_drawn_without_a_break(model: str) -> None:
    module, sampler = MODELS[model](), LoopSampler(sampling(eos_token_ids=frozenset()))
    whole = sampler(module, PROMPTS, keys=KEYS, seed=7)
    begun = [number % 11 for number in range(len(PROMPTS))]
    pairs = zip(PROMPTS, whole, begun, strict=True)
    prompts = [[*prompt, *one.token_ids[:at]] for prompt, one, at in pairs]
    rest = sampler(module, prompts, keys=KEYS, seed=7, written=begun)
    for one, tail, at in zip(whole, rest, begun, strict=True):
        assert tail.token_ids == one.token_ids[at:]
        assert tail.logprobs == pytest.approx(one.logprobs[at:], abs=1e-5)


@pytest.mark.parametrize("engine", [LoopSampler, GenerateSampler])
def test_rows_with_tools_add_up_and_keep_to_their_budget(engine: Any) -> None:
    module = MODELS["llama"]()
    sampler = talking(engine(sampling(max_new_tokens=24)), 24)
    done: list[int] = []
    rows = sampler(module, PROMPTS, keys=KEYS, seed=3, on_progress=done.append)
    assert max(done) == len(PROMPTS)
    several = 0
    for row in rows:
        assert row.conversation is not None
        assert row.own is not None
        assert len(row.token_ids) == len(row.own) == len(row.logprobs or ()) <= 24
        turns = row.conversation.turns
        own = {place for turn in turns for place in range(turn.begin, turn.end)}
        assert own == {place for place, is_own in enumerate(row.own) if is_own}
        for earlier, later in itertools.pairwise(turns):
            tool = row.token_ids[earlier.end : later.begin]
            assert tool == [40, tool[1], 41, row.token_ids[earlier.end - 1]]
            assert row.logprobs[earlier.end : later.begin] == [0.0] * 4
            assert len(earlier.calls) == 1
        several += len(turns) > 1
        if not row.has_eos:
            assert len(row.token_ids) > 24 - 5
    assert several > len(rows) / 2


def test_the_tokens_of_later_turns_are_what_a_sampler_draws_behind_those_before() -> None:
    module, inner = MODELS["llama"](), LoopSampler(sampling(max_new_tokens=24))
    rows = talking(inner, 24)(module, PROMPTS, keys=KEYS, seed=3)
    for prompt, key, row in zip(PROMPTS, KEYS, rows, strict=True):
        assert row.conversation is not None
        for turn in row.conversation.turns:
            before = row.token_ids[: turn.begin]
            (again,) = inner(
                module, [[*prompt, *before]], keys=[key], seed=3, written=[len(before)]
            )
            assert again.token_ids == row.token_ids[turn.begin : turn.end]


@pytest.mark.parametrize("batch_size", [None, 3])
def test_neither_batch_nor_neighbours_change_a_row(batch_size: int | None) -> None:
    module = MODELS["llama"]()
    all_rows = talking(LoopSampler(sampling(max_new_tokens=20)), 20)(
        module, PROMPTS, keys=KEYS, seed=1
    )
    some = talking(LoopSampler(sampling(max_new_tokens=20, batch_size=batch_size)), 20)(
        module, PROMPTS[4:9], keys=KEYS[4:9], seed=1
    )
    assert [one.token_ids for one in some] == [one.token_ids for one in all_rows[4:9]]


def test_where_nothing_is_called_the_completions_are_the_samplers_own() -> None:
    module, inner = MODELS["llama"](), LoopSampler(sampling())
    silent = ToolUse(Toolbox([]), Silent(), 4)
    rows = ConversationSampler(inner, silent, 12)(module, PROMPTS, keys=KEYS, seed=0)
    for ours, theirs in zip(rows, inner(module, PROMPTS, keys=KEYS, seed=0), strict=True):
        parts = (theirs.token_ids, theirs.has_eos, theirs.logprobs)
        assert (ours.token_ids, ours.has_eos, ours.logprobs) == parts
        assert ours.own == [True] * len(ours.token_ids)


class Silent(EveryTurnCalls):
    """Never reads a call."""

    def read_calls(self, token_ids: Sequence[int]) -> list[Call]:
        return []


def test_generate_draws_other_tokens_in_each_turn() -> None:
    module = MODELS["llama"]()
    inner = GenerateSampler(sampling(eos_token_ids=frozenset()))
    prompt = [5, 6, 7]
    (first,) = inner(module, [prompt], keys=[4], seed=0)
    (second,) = inner(module, [prompt], keys=[4], seed=0, written=[1])
    assert first.token_ids[:11] != second.token_ids
    assert len(second.token_ids) == 11


def test_generate_writes_no_row_beyond_the_positions_of_the_model() -> None:
    module = MODELS["gpt2"]()
    room = module.config.n_positions
    inner = GenerateSampler(sampling(max_new_tokens=40, eos_token_ids=frozenset()))
    prompts = [[5] * (room - 3), [6] * 20]
    rows = inner(module, prompts, keys=[0, 1], seed=0, written=[37, 0])
    assert [len(row.token_ids) for row in rows] == [3, 40]


def test_vllm_gets_a_seed_for_each_turn_and_what_is_left_of_the_budget() -> None:
    asked = [
        request_settings(sampling(max_new_tokens=20), row_seed(0, 1, written), written)
        for written in (0, 5, 10)
    ]
    assert [one["max_tokens"] for one in asked] == [20, 15, 10]
    assert len({one["seed"] for one in asked}) == 3


def test_beginnings_that_make_no_sense_are_refused() -> None:
    module, sampler = MODELS["llama"](), LoopSampler(sampling())
    for written in ([12], [-1], [1, 2]):
        with pytest.raises(ValueError, match=r"as long as|beginnings"):
            sampler(module, [[5, 6]], keys=[0], seed=0, written=written)
    with pytest.raises(ValueError, match="behind its prompt"):
        talking(sampler, 12)(module, [[5]], keys=[0], seed=0, written=[1])
