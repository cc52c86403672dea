"""Every chat template that TRL ships: with and without thinking, calls of tools, inner turns.

What a template cannot show is refused with its turn; what it shows is learnt after the very ids
that a model is asked with.
"""

import json
from pathlib import Path

import pytest
import trl
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from pipeline.data.chat import ChatEncoder
from pipeline.data.records import ChatRow, ChatSettings, Message, ToolCall
from pipeline.data.tokens import Tokens
from pipeline.errors import PosttrainError
from pipeline.recipe.chat_templates import control_tokens
from tests.unit.data.small_tokenizers import byte_level_tokenizer

FOLDER = Path(trl.__file__).parent / "chat_templates"
SHIPPED = sorted(path.stem for path in FOLDER.glob("*.jinja"))
PARAMETERS = {
    "type": "object",
    "properties": {"place": {"type": "string", "description": "a town"}},
    "required": ["place"],
}
TOOL = {"name": "weather", "description": "Weather of a place.", "parameters": PARAMETERS}
TOOLS = ChatSettings(json.dumps([{"type": "function", "function": TOOL}]))
PLAIN = (
    Message("user", "What is 3 + 4?"),
    Message("assistant", "The answer is 7."),
    Message("user", "And of France?"),
    Message("assistant", "Paris it is."),
)
THOUGHT = (
    Message("user", "What is 3 + 4?"),
    Message("assistant", "The answer is 7.", "Add three and four."),
    Message("user", "And of France?"),
    Message("assistant", "Paris it is.", "A capital is asked for."),
)
CALLING = (
    Message("user", "How is it in Lima?"),
    Message("assistant", "", calls=(ToolCall("weather", '{"place": "Lima"}', "c12345678"),)),
    Message("tool", "Fog all day.", name="weather", call_id="c12345678"),
    Message("assistant", "Foggy, as ever."),
)
LOSES_THOUGHTS = {  # even of the last turn
    *("deepseek_r1_distill", "deepseek_r1_distill_training", "deepseekv3", "deepseekv3_training"),
    *("gemma4", "gemma4_v3", "gemma4_v4", "qwen3_instruct_2507_training"),
}
KNOWS_NO_CALLS = {
    *("cohere", "cohere2", "cohere2_training", "cohere_training"),
    *("deepseek_r1_distill", "deepseek_r1_distill_training"),
    *("gemma", "gemma3", "gemma3_training", "gemma_training"),
    *("idefics3", "idefics3_training", "lfm2", "lfm2_training", "llama3", "llama3_training"),
    *("llava_next", "llava_next_training", "phi3", "phi3_5", "phi3_5_training", "phi3_training"),
    *("qwen2_5_vl", "qwen2_5_vl_training", "smolvlm", "smolvlm_training"),
}


def tokenizer_for(name: str) -> PreTrainedTokenizerFast:
    """A small tokenizer with every control token that the template spells."""
    text = (FOLDER / f"{name}.jinja").read_text()
    tokenizer = byte_level_tokenizer()
    there = set(tokenizer.get_vocab())
    tokenizer.add_tokens(
        [AddedToken(each, special=True) for each in control_tokens(text) if each not in there]
    )
    tokenizer.add_tokens([AddedToken(each) for each in ("<tool_call>", "</tool_call>")])
    tokenizer.chat_template = text
    return tokenizer


def examples(tokenizer: PreTrainedTokenizerFast, row: ChatRow) -> list[Tokens]:
    return ChatEncoder(tokenizer).encode([row])[0]


def runs(tokenizer: PreTrainedTokenizerFast, found: list[Tokens]) -> list[str]:
    """What is learnt, each run of it."""
    texts: list[str] = []
    for tokens in found:
        is_open = False
        for token, trained in zip(tokens.ids, tokens.trained, strict=True):
            if trained and not is_open:
                texts.append("")
            if trained:
                texts[-1] += tokenizer.decode([token])
            is_open = trained
    return texts


@pytest.mark.parametrize("name", SHIPPED)
def test_each_answer_is_learnt_once_after_the_ids_that_it_is_asked_with(name: str) -> None:
    tokenizer = tokenizer_for(name)
    found = examples(tokenizer, ChatRow("f:1", PLAIN))
    learnt = runs(tokenizer, found)
    assert len(learnt) == 2
    assert "The answer is 7." in learnt[0]
    assert "Paris it is." in learnt[1]
    assert not any("France" in each or "3 + 4" in each for each in learnt)
    encoder = ChatEncoder(tokenizer)
    for turns in (1, 3):
        prompt = encoder.prompt_ids(PLAIN[:turns])
        shown = tokenizer.decode(prompt)
        homes = [each.ids[: len(prompt)] == prompt for each in found]
        # Some templates are asked to think (`<think>\n`) and then show no thought to have been.
        assert any(homes) or shown.rstrip().endswith(("<think>", "</think>", "final<|message|>"))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_thought_is_learnt_with_its_answer_or_its_turn_refused(name: str) -> None:
    tokenizer = tokenizer_for(name)
    row = ChatRow("f:1", THOUGHT)
    if name in LOSES_THOUGHTS:
        with pytest.raises(PosttrainError, match=r"the reasoning of turn 4 \(assistant\)"):
            examples(tokenizer, row)
        return
    learnt = runs(tokenizer, examples(tokenizer, row))
    assert len(learnt) == 2
    assert "Add three and four." in learnt[0]
    assert "The answer is 7." in learnt[0]
    assert "A capital is asked for." in learnt[1]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_call_is_learnt_and_its_answer_is_not_or_it_is_refused(name: str) -> None:
    tokenizer = tokenizer_for(name)
    row = ChatRow("f:1", CALLING, settings=TOOLS)
    if name in KNOWS_NO_CALLS:
        with pytest.raises(PosttrainError, match=r"refuses|drops|shows no"):
            examples(tokenizer, row)
        return
    learnt = runs(tokenizer, examples(tokenizer, row))
    assert "weather" in learnt[0]
    assert "Lima" in learnt[0]
    assert "Foggy, as ever." in learnt[-1]
    assert not any("Fog all day" in each or "a town" in each for each in learnt)
