"""A global batch of 8 means the same mathematics as 8 x 1, 4 x 2 and 2 x 4 per device."""

import pytest

from tests.forked import run_forked, warm
from tests.together import metrics
from tests.trained import Trained

# The last batch of an epoch of SFT is not full; reward model and DPO leave the rest of one out
# (upstream weighs its rows by the split: 0.18 between 8 x 1 and 2 x 4). KTO's KL term is of a whole
# step (upstream's of a forward pass).
STAGES = ("base", "sft", "rm", "dpo", "kto")
# Upstream has means of each forward pass's: of its tokens, of the least and the largest reward.
FIGURES = {
    "rm": ("min_reward", "mean_reward", "max_reward", "accuracy", "margin"),
    "dpo": ("entropy", "mean_token_accuracy", "logits/chosen", "logits/rejected", "logps/chosen"),
    "kto": (
        "kl",
        "entropy",
        "logits/chosen",
        "logps/rejected",
        "rewards/chosen",
        "rewards/margins",
    ),
}


# What a stage has in the aligned recipe, and the other splits that are tried.
WHOLE = {"base": 8, "sft": 8, "rm": 4, "dpo": 4, "kto": 4}
OTHERS = {"base": (4, 2), "sft": (2,), "rm": (8, 2), "dpo": (2,), "kto": (8, 2)}
SPLITS = [(stage, per_device) for stage in STAGES for per_device in OTHERS[stage]]
Lines = list[dict[str, float]]


@pytest.fixture(scope="module")
def lines(
    trained: Trained, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, int], Lines]:
    """Metrics of every step by stage and per-device batch; all from the same earlier stages."""
    warm()
    found = {(stage, WHOLE[stage]): metrics(trained.runs, stage) for stage in STAGES}
    for stage, per_device in SPLITS:
        runs = trained.without(stage, tmp_path_factory.mktemp("split"))
        key = f"stages.{stage}.training_args.per_device_train_batch_size"
        ended = run_forked(trained.recipe, runs, overrides=[f"{key}={per_device}"], only=stage)
        assert ended.code == 0, ended.output
        found[stage, per_device] = metrics(runs, stage)
    return found


def _both(
    lines: dict[tuple[str, int], Lines], stage: str, per_device: int, name: str
) -> tuple[list[float], list[float]]:
    whole, split = lines[stage, WHOLE[stage]], lines[stage, per_device]
    return [line[name] for line in whole], [line[name] for line in split]


@pytest.mark.parametrize(("stage", "per_device"), SPLITS)
def test_the_losses_do_not_depend_on_the_batch_split(
    lines: dict[tuple[str, int], Lines], stage: str, per_device: int
) -> None:
    whole, split = _both(lines, stage, per_device, "loss")
    assert len(whole) == len(split) >= 14
    differences = [abs(a - b) for a, b in zip(whole, split, strict=True)]
    assert max(differences[:10]) <= 1e-5
    assert max(differences) <= 1e-4


def test_the_share_of_right_tokens_is_of_all_tokens_of_a_step(
    lines: dict[tuple[str, int], Lines],
) -> None:
    """157 rows: the last forward pass has one; 0.004 apart as upstream averages passes."""
    whole, split = _both(lines, "sft", 2, "mean_token_accuracy")
    assert split == pytest.approx(whole, abs=1e-4)


@pytest.mark.parametrize(("stage", "per_device"), [each for each in SPLITS if each[0] in FIGURES])
def test_what_is_logged_of_pairs_does_not_depend_on_the_batch_split(
    lines: dict[tuple[str, int], Lines], stage: str, per_device: int
) -> None:
    for name in FIGURES[stage]:
        whole, split = _both(lines, stage, per_device, name)
        assert split == pytest.approx(whole, rel=1e-3, abs=1e-4), name


def test_an_epoch_of_pairs_has_as_many_steps_as_fill_whole_batches(
    lines: dict[tuple[str, int], Lines],
) -> None:
    """125 pairs are 15 steps of 8 and 5 pairs left out; 61 pairs twice are 2 x 7 steps."""
    assert {len(each) for (stage, _), each in lines.items() if stage == "rm"} == {15}
    assert {len(each) for (stage, _), each in lines.items() if stage == "dpo"} == {14}
