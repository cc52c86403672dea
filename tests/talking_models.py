"""A tiny model that knows a few conversations by heart, some of them with calls of a calculator."""

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from eval.tools.calculator import calculator
from eval.tools.tool import Tool, make_tool
from pipeline.data.encoding.chat import ChatEncoder
from pipeline.data.reading.records import ChatRow, Message, ToolCall
from pipeline.model_files.own_template import CHAT_TEMPLATE
from pipeline.tools.use import tool_settings
from tests.unit.data.small_tokenizers import byte_level_tokenizer

QUESTIONS = {"47 * 35": "1645", "81 * 92": "7452", "10 + 0": None, "400 + 15": None}


def question(problem: str) -> str:
    return f"What is {problem}?"


@cache
def calculator_tool() -> Tool:
    return make_tool(calculator, timeout_s=None, is_quick=True)


def talking_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = byte_level_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.eos_token, tokenizer.pad_token = "<|end|>", "<|pad|>"
    return tokenizer


def conversation(problem: str, answer: str | None) -> tuple[Message, ...]:
    """Return a question and its answer; with a call before it if the answer is given."""
    said = Message("user", question(problem))
    if answer is None:
        left, _, right = problem.split()
        return said, Message("assistant", f"It is {int(left) + int(right)}.")
    call = ToolCall("calculator", json.dumps({"expression": problem}))
    told = Message("tool", answer, name="calculator")
    return (
        said,
        Message("assistant", "", calls=(call,)),
        told,
        Message("assistant", f"It is {answer}."),
    )


def talking_model(
    tokenizer: PreTrainedTokenizerFast,
    chats: Sequence[Sequence[Message]] = (),
    *,
    knows_tools: bool = True,
    steps: int = 400,
) -> Any:
    """Return a Llama that says all of these conversations by heart, greedily."""
    chats = chats or [conversation(*pair) for pair in QUESTIONS.items()]
    settings = tool_settings([calculator_tool()] if knows_tools else [], tokenizer)
    rows = [ChatRow("f:1", tuple(chat), settings=settings) for chat in chats]
    examples = [one for examples in ChatEncoder(tokenizer).encode(rows) for one in examples]
    width = max(len(one.ids) for one in examples)
    ids = torch.tensor([one.ids + [0] * (width - len(one.ids)) for one in examples])
    labels = torch.full_like(ids, -100)
    for row, one in enumerate(examples):
        for place, is_own in enumerate(one.trained):
            if is_own:
                labels[row, place] = one.ids[place]
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        num_attention_heads=4,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **shape,
    )
    module = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    wanted = labels[:, 1:]
    for _ in range(steps):
        logits = module(input_ids=ids).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten())
        if loss < 0.01:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return module.eval()
