"""The code beside the shipped recipes: tasks, a text, a reward in TRL's convention, counts."""

import math

import pytest

from recipes.gsm8k_rewards import ends_with_the_answer
from recipes.library_sources import LibrarySources
from recipes.ngrams import Ngrams
from recipes.sums import HurriedSums, Sums


def test_columns_of_sums_add_up_and_a_forgotten_carry_is_wrong() -> None:
    task = Sums()
    demonstrated = list(task.demonstrations())
    for split in ("train", "test"):
        for example in task.examples(split):
            assert split == "test" or example in demonstrated
            assert task.verify(example.response, example.reference).score == 1
            left, right = example.document.rstrip(":").split("+")
            assert int(example.reference) == int(left) + int(right)
            carries = int(left) % 10 + int(right) % 10 > 9
            assert bool(example.flawed) == carries
            for flawed in example.flawed:
                assert task.verify(flawed.response, example.reference).score == 0


def test_half_of_the_writers_forget_the_carry_where_there_is_one() -> None:
    task = HurriedSums()
    carrying = [each for each in task.demonstrations() if each.flawed]
    wrong = [task.verify(each.response, each.reference).score == 0 for each in carrying]
    assert len(carrying) > 800
    assert 0.45 < sum(wrong) / len(wrong) < 0.55
    for line in (line for text in task.documents(1) for line in text.splitlines()):
        sums, _, steps = line.partition(": ")
        assert task.verify(steps, str(sum(map(int, sums.split("+"))))).score == 1


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("So 3 * 6 = 18.\n#### 18", 1.0),
        ("The answer is $1,200.", 1.0),
        ("Therefore \\boxed{18}", 1.0),
        ("18 eggs are left", 0.0),
        ("#### 18 and more words", 0.0),
    ],
)
def test_an_answer_at_the_end_is_paid_in_chats_and_in_plain_texts(text, reward) -> None:
    assert ends_with_the_answer([[{"role": "assistant", "content": text}]], answer=["18"]) == [
        reward
    ]
    assert ends_with_the_answer([text]) == [reward]


def test_what_comes_next_is_what_most_often_followed_the_longest_known_context() -> None:
    ngrams = Ngrams(order=3)
    for document in ([1, 2, 3], [1, 2, 4], [1, 2, 3], [5, 2, 4]):
        ngrams.count(document)
    assert ngrams.next_token([1, 2]) == 3
    assert ngrams.next_token([9, 9, 5, 2]) == 4
    assert ngrams.next_token([7, 2]) == ngrams.next_token([2])  # nothing followed 7, 2
    assert ngrams.next_token([1, 2, 7]) == 2  # nothing followed 7: the commonest token


def test_a_score_backs_off_where_a_context_was_never_followed_so() -> None:
    ngrams = Ngrams(order=3)
    ngrams.count([1, 2, 3])
    ngrams.count([4, 2, 5])
    assert ngrams.log_score([1, 2], [3]) == 0.0
    assert ngrams.log_score([1, 2], [5]) == pytest.approx(math.log(0.4 / 2))
    assert ngrams.log_score([1], [2, 3]) == ngrams.log_score([1, 2], [3])
    assert ngrams.log_score([1, 2], [9]) == -math.inf


def test_the_library_is_cut_into_pieces_of_which_training_never_reads_those_held_out() -> None:
    task = LibrarySources()
    one, again, other = (list(task.documents(seed)) for seed in (1, 1, 2))
    assert one == again != other
    assert sorted(one) == sorted(other)
    assert sum(map(len, one)) > 7_000_000  # scaling.yaml reads 2.56M tokens of 2.6 characters once
    held_out = list(task.held_out_documents(1))
    assert held_out == list(task.held_out_documents(2))
    assert len(held_out) == 100
    assert not {each for each in held_out if len(each) > 100} & set(one)
    assert task.source.startswith("Python 3.")
