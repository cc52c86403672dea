"""Which prompts a rollout has and which rows a step trains on, by seed and number alone."""

import itertools

import pytest

from pipeline.rl.sampling_order import deal_rows, draw_prompts, rows_of_step


def _passes(num_prompts: int, size: int, seed: int = 3) -> list[list[int]]:
    """Return the prompts of some rollouts, cut into passes over all prompts."""
    rollouts = range(-(-3 * num_prompts // size))
    drawn = [draw_prompts(num_prompts, one * size, size, seed=seed) for one in rollouts]
    assert {len(each) for each in drawn} == {size}
    asked = list(itertools.chain(*drawn))
    return [asked[begin : begin + num_prompts] for begin in range(0, 3 * num_prompts, num_prompts)]


@pytest.mark.parametrize(
    ("num_prompts", "size"), [(13, 16), (16, 16), (32, 16), (5, 64), (100, 7), (1, 3)]
)
def test_every_prompt_is_asked_once_in_each_pass(num_prompts: int, size: int) -> None:
    """B33, B53: also where a pass ends within a rollout, or a rollout has several."""
    for each in _passes(num_prompts, size):
        assert sorted(each) == list(range(num_prompts))


def test_each_pass_and_each_seed_has_an_order_of_its_own() -> None:
    """B33: a sampler with state would begin a resumed pass in the order of the first."""
    orders = [tuple(each) for seed in (0, 1) for each in _passes(50, 16, seed)]
    assert len(set(orders)) == len(orders) == 6


@pytest.mark.parametrize(("num_rows", "num_mini_batches"), [(16, 1), (16, 2), (24, 4), (8, 8)])
def test_the_mini_batches_of_an_epoch_are_all_rows_once(
    num_rows: int, num_mini_batches: int
) -> None:
    for epoch in range(3):
        rows = [
            rows_of_step(
                num_rows, num_mini_batches, seed=1, rollout=4, epoch=epoch, mini_batch=mini_batch
            )
            for mini_batch in range(num_mini_batches)
        ]
        assert {len(each) for each in rows} == {num_rows // num_mini_batches}
        assert sorted(itertools.chain(*rows)) == list(range(num_rows))


def test_each_epoch_rollout_and_seed_has_rows_in_an_order_of_its_own() -> None:
    numbers = itertools.product(range(2), range(3), range(3))
    orders = {
        tuple(rows_of_step(32, 1, seed=seed, rollout=rollout, epoch=epoch, mini_batch=0))
        for seed, rollout, epoch in numbers
    }
    assert len(orders) == 18


def test_orders_are_the_ones_that_checkpoints_were_written_under() -> None:
    """B33: a pure function of seed and number; other numbers would break runs that were stopped."""
    assert draw_prompts(7, 30, 10, seed=2) == [3, 2, 4, 1, 5, 6, 1, 3, 2, 0]
    assert rows_of_step(8, 2, seed=2, rollout=3, epoch=1, mini_batch=1) == [4, 3, 0, 2]


@pytest.mark.parametrize(("parts", "ranks"), [(1, 1), (2, 2), (4, 1), (1, 3), (3, 4)])
def test_a_step_is_dealt_to_passes_and_processes_without_rest(parts: int, ranks: int) -> None:
    lengths = [(7 * row) % 23 + 1 for row in range(40)]
    rows = list(range(2, 26))
    passes = deal_rows(rows, lengths, parts=parts, ranks=ranks)
    assert [len(each) for each in passes] == [ranks] * parts
    shares = [share for each in passes for share in each]
    assert {len(share) for share in shares} == {24 // (parts * ranks)}
    assert sorted(itertools.chain(*shares)) == rows
    # The longest of a pass is no longer than the shortest of the pass before it.
    spans = [sorted(lengths[row] for share in each for row in share) for each in passes]
    assert all(later[-1] <= earlier[0] for earlier, later in itertools.pairwise(spans))
