"""Judged answers as token ids: as demonstrations and pairs are encoded, and counted."""

from typing import Any

import pytest

from pipeline.data.encoding.label_balance import (
    describe_labels,
    label_metrics,
    one_label_problem,
)
from pipeline.data.encoding.lengths import Limit, describe_rows, is_worth_a_warning
from pipeline.data.encoding.pairs import encode_pairs
from pipeline.data.encoding.unpaired import encode_unpaired
from pipeline.data.reading.records import (
    ChatRow,
    DroppedRow,
    Message,
    PreferenceRow,
    PromptCompletionRow,
    UnpairedRow,
)
from pipeline.errors import PosttrainError
from tests.ppo_tasks import tiny_tokenizer

TOKENIZER = tiny_tokenizer(32)
PAIR = PreferenceRow("row 1", (), " t5", " t6 t7", ("t3 t4", " t5", " t6 t7"))
TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + ' t1' }}"
    "{% endgeneration %}{% else %}{{ message['content'] + ' t2 ' }}{% endif %}{% endfor %}"
)


def answer(prompt: str, completion: str, *, is_desirable: bool = True) -> UnpairedRow:
    return UnpairedRow(PromptCompletionRow("row", prompt, completion), is_desirable)


def test_a_pair_is_two_rows_with_the_tokens_that_it_has_as_a_pair() -> None:
    (pair,), _ = encode_pairs([PAIR], TOKENIZER)
    rows, report = encode_unpaired([PAIR], TOKENIZER)
    assert [(row.prompt_ids, row.completion_ids, row.is_desirable) for row in rows] == [
        (pair.prompt_ids, pair.chosen_ids, True),
        (pair.prompt_ids, pair.rejected_ids, False),
    ]
    assert (report.num_pairs, report.num_rows, report.num_desirable) == (1, 2, 1)
    assert "1 pairs are two rows each" in describe_rows(report.metrics())


def test_a_chat_is_judged_by_its_last_turn() -> None:
    tokenizer = tiny_tokenizer(32)
    tokenizer.chat_template = TEMPLATE
    turns = [("user", "t3"), ("assistant", "t4"), ("user", "t5"), ("assistant", "t6 t7")]
    messages = tuple(Message(role, text) for role, text in turns)  # pyright: ignore
    (row,), _ = encode_unpaired([UnpairedRow(ChatRow("row", messages), False)], tokenizer)
    assert row.prompt_ids == [3, 2, 4, 1, 5, 2]
    assert row.completion_ids == [6, 7, 1]
    assert not row.is_desirable


def test_a_chat_without_a_template_is_refused() -> None:
    messages = Message("user", "t3"), Message("assistant", "t4")
    with pytest.raises(PosttrainError, match="no chat template"):
        encode_unpaired([UnpairedRow(ChatRow("row", messages), True)], TOKENIZER)


@pytest.mark.parametrize(
    ("limit", "kept"),
    [
        (Limit(4), [([4], [5, 1])]),
        (Limit(4, "truncate"), [([4], [5, 1]), ([6, 7], [8, 9])]),
        (Limit(4, "truncate", "left"), [([4], [5, 1]), ([7], [8, 9, 1])]),
    ],
)
def test_rows_that_are_too_long_are_dropped_or_cut_and_counted(limit: Limit, kept: Any) -> None:
    rows, report = encode_unpaired(
        [answer("t4", " t5"), answer("t6 t7", " t8 t9")], TOKENIZER, limit=limit
    )
    assert [(row.prompt_ids, row.completion_ids) for row in rows] == kept
    assert report.num_cut == len(kept) - 1
    assert report.num_dropped_too_long == 2 - len(kept)
    with pytest.raises(PosttrainError, match="5 tokens, longer than 4"):
        encode_unpaired([answer("t6 t7", " t8 t9")], TOKENIZER, limit=Limit(4, "error"))


def test_dropped_rows_are_counted_and_none_left_is_an_error() -> None:
    dropped = DroppedRow("row 2", "it has no label")
    rows, report = encode_unpaired([answer("t4", " t5"), dropped], TOKENIZER)
    assert len(rows) == 1
    assert report.metrics()["rows_dropped_unusable"] == 1
    with pytest.raises(PosttrainError, match="none of 1 rows is left"):
        encode_unpaired([dropped], TOKENIZER)


@pytest.mark.parametrize("label", [{"probability": 0.8}, {"margin": 1.0}])
def test_a_pair_with_a_strength_is_refused(label: dict[str, float]) -> None:
    pair = PreferenceRow("row 1", (), " t5", " t6", ("t3", " t5", " t6"), **label)
    (name,) = label
    with pytest.raises(PosttrainError, match=f"cannot use the `{name}` of this pair"):
        encode_unpaired([pair], TOKENIZER)


@pytest.mark.parametrize(
    ("counts", "settings", "is_told"),
    [
        ((10, 10), {}, False),
        ((12, 10), {}, False),
        ((20, 10), {}, True),
        ((10, 20), {}, True),
        ((10, 20), {"desirable_weight": 2.0}, False),
        ((20, 10), {"undesirable_weight": 2.0}, False),
        ((10, 10), {"desirable_weight": 2.0}, True),
    ],
)
def test_a_warning_is_given_where_upstream_gives_one(
    counts: tuple[int, int], settings: dict[str, float], is_told: bool
) -> None:
    """But for equal numbers with unequal weights, which upstream does not look at."""
    told = label_metrics(*counts, settings)
    assert bool(told) == is_told
    assert _upstream_warns(*counts, **settings) == (is_told and counts[0] != counts[1])
    metrics = {"rows": 30, "rows_used": 30, "rows_desirable": 1, "rows_undesirable": 2, **told}
    assert is_worth_a_warning(metrics) == is_told
    assert ("1 to 1.33 is recommended" in describe_rows(metrics)) == is_told


def _upstream_warns(
    desirable: int, undesirable: int, desirable_weight: float = 1.0, undesirable_weight: float = 1.0
) -> bool:
    """TRL 1.16, KTOTrainer._prepare_dataset: weights of two decimals in either of two ranges."""
    if desirable == undesirable:
        return False
    ratio = undesirable * undesirable_weight / desirable
    other = desirable * desirable_weight / undesirable
    return not (
        round(ratio, 2) <= desirable_weight <= round(ratio * 1.33, 2)
        or round(other / 1.33, 2) <= undesirable_weight <= round(other, 2)
    )


def test_the_recommended_weights_are_within_the_range() -> None:
    (told,) = label_metrics(10, 40, {}).values()
    assert "wanted answers weigh 0.25 times what unwanted ones do" in told
    assert "`desirable_weight` 4 to 5.33 or `undesirable_weight` 0.188 to 0.25" in told
    for settings in ({"desirable_weight": 4.0}, {"undesirable_weight": 0.2}):
        assert not label_metrics(10, 40, settings)


def test_one_label_alone_is_refused_unless_the_other_weighs_nothing() -> None:
    message, hint = one_label_problem(8, 0, {}) or ("", "")
    assert message == "all 8 rows are desirable, and `kto` learns from the difference"
    assert "`stage: sft`" in hint
    assert "undesirable_weight: 0" in hint
    assert one_label_problem(8, 0, {"undesirable_weight": 0}) is None
    assert one_label_problem(0, 8, {"undesirable_weight": 0}) is not None
    assert one_label_problem(8, 1, {}) is None
    assert describe_labels({"rows": 3}) == []
