"""Data sets of every kind and format become prompts; what has no numbered rows is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict, IterableDataset

from pipeline.rl.config.ppo import PPOConfig
from pipeline.rl.prompts import prompts_of
from tests.ppo_tasks import plain, tiny_tokenizer
from tests.unit.rl.small_trainers import SMALL, MakeTrainer

ROWS = [{"input_ids": [3, 4], "level": 2, "embedding": [0.5, 1.0]}] * 2
WORDS = "{% for m in messages %}t{{ 9 if m['role'] == 'user' else 8 }} {{ m['content'] }} "
TEMPLATE = (
    "{% if tools %}t7 {{ tools[0]['name'] }} {% endif %}{% if thinks %}t5 {% endif %}"
    + WORDS
    + "{% endfor %}{% if add_generation_prompt %}t8 {% endif %}"
)
CHAT = [{"role": "user", "content": "t3"}]


class Numbered(torch.utils.data.Dataset[dict[str, Any]]):
    """A data set of torch's, which has no way to be gone through but by numbers."""

    def __len__(self) -> int:
        return len(ROWS)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return ROWS[number]


def found(data: Any, tmp_path: Path, **settings: Any) -> list[Any]:
    tokenizer = tiny_tokenizer(32)
    tokenizer.chat_template = TEMPLATE
    return prompts_of(data, tokenizer, PPOConfig(**plain(tmp_path), **settings), None)


@pytest.mark.parametrize(
    "data",
    [
        Dataset.from_list(ROWS),
        Dataset.from_list(ROWS).with_format("torch"),
        Dataset.from_list(ROWS).with_format("numpy"),
        Dataset.from_list(ROWS).with_format("pandas"),
        Dataset.from_list(ROWS).with_transform(
            lambda batch: {**batch, "level": [torch.tensor(2)] * len(batch["level"])}
        ),
        [{name: torch.tensor(value) for name, value in row.items()} for row in ROWS],
        tuple({name: np.array(value) for name, value in row.items()} for row in ROWS),
        Numbered(),
    ],
    ids=["plain", "torch", "numpy", "pandas", "transform", "tensors", "arrays", "numbered"],
)
def test_rows_are_the_same_in_every_format(data: Any, tmp_path: Path) -> None:
    for prompt in found(data, tmp_path):
        assert prompt.ids == [3, 4]
        assert prompt.columns == {"level": 2, "embedding": [0.5, 1.0]}
        assert type(prompt.columns["level"]) is int
        assert type(prompt.columns["embedding"]) is list


def test_reward_functions_see_the_values_of_a_torch_format(
    llama: Any, make_trainer: MakeTrainer
) -> None:
    seen: list[Any] = []

    def reward(completions: list[str], level: list[int], **_: Any) -> list[float]:
        seen.extend(level)
        return [0.0 for _ in completions]

    rows = Dataset.from_list(ROWS).with_format("torch")
    make_trainer(llama, rows=rows, rewards=[reward], **SMALL).train()
    assert set(seen) == {2}
    assert {type(each) for each in seen} == {int}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (DatasetDict(train=Dataset.from_list(ROWS)), "several data sets, `train`; give one of"),
        (IterableDataset.from_generator(lambda: iter(ROWS)), "rows of a IterableDataset have none"),
        ((row for row in ROWS), "rows of a generator have none; collect them first"),
        ("trl-lib/tldr", "`trl-lib/tldr` is a name; load the data set first"),
        ([{"input_ids": torch.tensor([[3, 4]])}], "row 0 is no list of token ids; take the one"),
        ([{"input_ids": [3.0]}], "`input_ids` of row 0 is no list of token ids"),
        ([{"input_ids": [0, 3], "attention_mask": [0, 1]}], "row 0 is padded, by its `attention_"),
    ],
    ids=["dict", "stream", "generator", "name", "batch", "floats", "padded"],
)
def test_what_has_no_numbered_rows_of_ids_is_refused(
    data: Any, said: str, llama: Any, make_trainer: MakeTrainer
) -> None:
    with pytest.raises(ValueError, match=said):
        make_trainer(llama, rows=data)


def test_a_chat_is_rendered_with_the_settings_of_its_row_over_the_config(tmp_path: Path) -> None:
    rows = [
        {"prompt": CHAT, "chat_template_kwargs": {"thinks": False, "other": None}},
        {"prompt": CHAT, "chat_template_kwargs": None, "tools": '[{"name": "t6"}]'},
        {"prompt": CHAT, "tools": [{"name": "t6"}]},
    ]
    settings = {"chat_template_kwargs": {"thinks": True}}
    ids = [prompt.ids for prompt in found(Dataset.from_list(rows[:1]), tmp_path, **settings)]
    ids += [prompt.ids for prompt in found(rows[1:], tmp_path, **settings)]
    assert ids == [[9, 3, 8], [7, 6, 5, 9, 3, 8], [7, 6, 5, 9, 3, 8]]


def test_an_answer_that_has_begun_is_continued(tmp_path: Path) -> None:
    begun = [*CHAT, {"role": "assistant", "content": "t4"}]
    assert [each.ids for each in found([{"prompt": begun}], tmp_path)] == [[9, 3, 8, 4]]


@pytest.mark.parametrize(
    ("rows", "settings", "said"),
    [
        ([{"prompt": "t3"}], {"thinks": True}, "is for chats, and all prompts are texts"),
        ([{"prompt": CHAT}], {"thinking": True}, "the chat template does not read `thinking`"),
        ([{"prompt": CHAT}], {"tokenize": False}, "`tokenize` of `chat_template_kwargs` is decid"),
    ],
)
def test_settings_of_a_template_that_nothing_reads_are_refused(
    rows: Any, settings: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=said):
        found(rows, tmp_path, chat_template_kwargs=settings)
