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

from pipeline.data.encoding.chat import ChatEncoder
from pipeline.data.encoding.tokens import Tokens
from pipeline.data.reading.records import ChatRow, ChatSettings, Message, ToolCall
from pipeline.errors import PosttrainError
from pipeline.model_files.chat_templates import control_tokens
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
KNOWS_NO_CALLS = {  # or no tools
    *("deepseekv3", "deepseekv3_training"),
    *("cohere", "cohere2", "cohere2_training", "cohere_training"),
    *("deepseek_r1_distill", "deepseek_r1_distill_training"),
    *("gemma", "gemma3", "gemma3_training", "gemma_training"),
    *("idefics3", "idefics3_training", "lfm2", "lfm2_training", "llama3", "llama3_training"),
    *("llava_next", "llava_next_training", "phi3", "phi3_5", "phi3_5_training", "phi3_training"),
    *("qwen2_5_vl", "qwen2_5_vl_training", "smolvlm", "smolvlm_training"),
}


CALL = (ToolCall("mul", '{"a": 3, "b": 18}'),)
# What of a conversation is learnt, found in public reports of what was not.
LEARNT: dict[str, tuple[str, tuple[Message, ...], list[str]]] = {
    "a call whose first token begins as the one that is asked with (DeepSeek)": (
        "deepseekv3",
        (Message("user", "3*18"), Message("assistant", "", calls=CALL)),
        [
            "<\uff5ctool\u2581calls\u2581begin\uff5c><\uff5ctool\u2581call\u2581begin\uff5c>"
            'function<\uff5ctool\u2581sep\uff5c>mul\n```json\n{"a": 3, "b": 18}\n```'
            "<\uff5ctool\u2581call\u2581end\uff5c><\uff5ctool\u2581calls\u2581end\uff5c>"
            "<\uff5cend\u2581of\u2581sentence\uff5c>"
        ],
    ),
    "a response without the opening that it was asked with": (
        "qwen3_5_think",
        (Message("user", "2+2?"), Message("assistant", "It is 4.\n</think>\n\nFour.")),
        ["It is 4.\n</think>\n\nFour.<|im_end|>"],
    ),
    "an empty block that the template puts in": (
        "nemotron_3_nano",
        (Message("user", "Solve."), Message("assistant", "import sys")),
        ["import sys<|im_end|>"],
    ),
    "what is thought in tight tags": (
        "qwen3",
        (Message("user", "Legs?"), Message("assistant", "<think>Four each.</think>Twelve.")),
        ["<think>\nFour each.\n</think>\n\nTwelve.<|im_end|>"],
    ),
    "every turn as it is written when it is the last": (
        "gptoss",
        THOUGHT,
        [
            "<|channel|>analysis<|message|>Add three and four.<|end|><|start|>assistant<|channel|>"
            "final<|message|>The answer is 7.<|return|>",
            "<|channel|>analysis<|message|>A capital is asked for.<|end|><|start|>assistant"
            "<|channel|>final<|message|>Paris it is.<|return|>",
        ],
    ),
}


@pytest.mark.parametrize(("name", "messages", "learnt"), LEARNT.values(), ids=LEARNT)
def test_this_is_learnt(name: str, messages: tuple[Message, ...], learnt: list[str]) -> None:
    tokenizer = tokenizer_for(name)
    assert runs(tokenizer, examples(tokenizer, ChatRow("f:1", messages))) == learnt


def test_a_control_token_in_tools_or_in_a_call_is_refused() -> None:
    tokenizer = tokenizer_for("qwen3")
    evil = (ToolCall("weather", '{"place": "<|im_end|>"}'),)
    row = ChatRow("f:1", (Message("user", "Hi"), Message("assistant", "", calls=evil)))
    with pytest.raises(PosttrainError, match=r"the call in turn 2 spells the control token `<.im_"):
        examples(tokenizer, row)
    tools = ChatSettings(TOOLS.tools.replace("a town", "<|im_start|>"))
    with pytest.raises(PosttrainError, match="`tools` spells the control token"):
        examples(tokenizer, ChatRow("f:1", PLAIN, settings=tools))


def test_variables_of_a_row_reach_the_template_and_what_is_decided_here_does_not() -> None:
    tokenizer = tokenizer_for("qwen3")
    asked = ChatSettings(variables='{"enable_thinking": false}')
    (found,) = examples(tokenizer, ChatRow("f:1", PLAIN[:2], settings=asked))
    assert runs(tokenizer, [found]) == ["The answer is 7.<|im_end|>"]
    taken = ChatSettings(variables='{"add_generation_prompt": true}')
    with pytest.raises(PosttrainError, match="gives `add_generation_prompt`, which is no variable"):
        examples(tokenizer, ChatRow("f:1", PLAIN[:2], settings=taken))


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
