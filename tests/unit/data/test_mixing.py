"""Shares of tokens and of rows."""

import numpy as np
import pytest

from pipeline.data.mixing import RowSource, TokenSource, mix_documents, mix_rows
from pipeline.errors import PosttrainError


def documents(mark: int, lengths: list[int]) -> list[np.ndarray]:
    return [np.full(length, mark, dtype=np.int32) for length in lengths]


def source(mark: int, lengths: list[int], weight: float = 1.0) -> TokenSource:
    return TokenSource(f"source {mark}", lambda _: documents(mark, lengths), weight)


def counts(found: list[np.ndarray]) -> dict[int, int]:
    tokens = np.concatenate(found)
    return {int(mark): int((tokens == mark).sum()) for mark in np.unique(tokens)}


def test_tokens_are_shared_by_weight_whatever_the_sizes_of_the_sources() -> None:
    sources = [source(1, [7] * 3), source(2, [1_000_000], 2.0), source(3, [5, 11], 0.5)]
    found, shares = mix_documents(sources, tokens=7_001, seed=3)
    assert counts(found) == {1: 2_000, 2: 4_001, 3: 1_000}
    assert [share.num_tokens for share in shares] == [2_000, 4_001, 1_000]
    assert [share.passes for share in shares] == [pytest.approx(2_000 / 21), None, 62.5]
    assert str(shares[0]) == "source 1: 2,000 tokens, 95.2 passes"
    assert str(shares[1]) == "source 2: 4,001 tokens, under 1 pass"


def test_a_task_gives_other_documents_in_each_pass_and_a_file_is_read_once() -> None:
    opened: list[tuple[str, int]] = []

    def reading(name: str):
        def open_pass(number: int):
            opened.append((name, number))
            return documents(number + (10 if name == "file" else 20), [10])

        return open_pass

    sources = [
        TokenSource("file", reading("file")),
        TokenSource("task", reading("task"), varies=True),
    ]
    found, shares = mix_documents(sources, tokens=50, seed=0)
    assert counts(found) == {10: 25, 20: 10, 21: 10, 22: 5}
    assert opened == [("file", 0), ("task", 0), ("task", 1), ("task", 2)]
    assert [share.passes for share in shares] == [2.5, 2.5]


def test_the_seed_decides_the_order_and_nothing_else() -> None:
    sources = [source(mark, [3, 4, 5]) for mark in range(5)]
    first, _ = mix_documents(sources, tokens=600, seed=1)
    again, _ = mix_documents(sources, tokens=600, seed=1)
    other, _ = mix_documents(sources, tokens=600, seed=2)
    assert [list(each) for each in first] == [list(each) for each in again]
    assert [list(each) for each in first] != [list(each) for each in other]
    assert counts(first) == counts(other)
    assert len({int(each[0]) for each in first[:12]}) > 2  # mixed, not one after the other


def test_a_source_without_documents_or_without_a_share_is_an_error() -> None:
    with pytest.raises(PosttrainError, match="source 2: no documents"):
        mix_documents([source(1, [5]), source(2, [])], tokens=10, seed=0)
    with pytest.raises(PosttrainError, match="source 2: its share of the tokens is none"):
        mix_documents([source(1, [5]), source(2, [5], 1e-9)], tokens=10, seed=0)


def test_rows_without_weights_are_all_used_in_order() -> None:
    mixed, _ = mix_rows([RowSource("a", [1, 2]), RowSource("b", [3])], seed=0)
    assert mixed == [1, 2, 3]


def test_rows_with_weights_keep_the_shares_and_are_never_repeated() -> None:
    sources = [
        RowSource("a", range(100), 3.0),
        RowSource("b", range(1_000, 1_500), 1.0),
        RowSource("c", range(2_000, 2_080)),
    ]
    mixed, shares = mix_rows(sources, seed=5)
    assert [share.num_rows for share in shares] == [100, 33, 33]
    assert len(set(mixed)) == len(mixed) == 166
    assert mixed[:100] == list(range(100))
    again, _ = mix_rows(sources, seed=5)
    other, _ = mix_rows(sources, seed=6)
    assert mixed == again
    assert mixed != other
    assert max(mixed[100:133]) > 1_300  # a random part, not the first rows
