"""A global batch of 8 means the same mathematics as 8 x 1, 4 x 2 and 2 x 4 per device."""

import json

import pytest

from tests.forked import run_forked, warm

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


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], list[float]]:
    """Losses of every step by stage and per-device batch."""
    from tests.conftest import ALIGNED

    warm()
    folder = tmp_path_factory.mktemp("split")
    recipe = folder / "tiny.yaml"
    recipe.write_text(ALIGNED.replace("rows: 160", "rows: 157"))
    found: dict[tuple[str, int], list[float]] = {}
    for per_device in (8, 4, 2):
        key = "training_args.per_device_train_batch_size"
        overrides = [f"stages.{stage}.{key}={per_device}" for stage in STAGES]
        for until in ("rm", "dpo", "kto"):
            runs = folder / f"runs-{per_device}"
            ended = run_forked(recipe, runs, overrides=overrides, until=until)
            assert ended.code == 0, ended.output
        for stage in STAGES:
            path = folder / f"runs-{per_device}" / "tiny" / stage / "metrics.jsonl"
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            found[stage, per_device] = [line["loss"] for line in lines]
            if stage == "sft":
                found["accuracy", per_device] = [line["mean_token_accuracy"] for line in lines]
            for name in FIGURES.get(stage, ()):
                found[f"{stage} {name}", per_device] = [line[name] for line in lines]
    return found


@pytest.mark.parametrize("per_device", [4, 2])
@pytest.mark.parametrize("stage", STAGES)
def test_the_losses_do_not_depend_on_the_batch_split(
    losses: dict[tuple[str, int], list[float]], stage: str, per_device: int
) -> None:
    whole, split = losses[stage, 8], losses[stage, per_device]
    assert len(whole) == len(split) >= 14
    differences = [abs(a - b) for a, b in zip(whole, split, strict=True)]
    assert max(differences[:10]) <= 1e-5
    assert max(differences) <= 1e-4


@pytest.mark.parametrize("per_device", [4, 2])
def test_the_share_of_right_tokens_is_of_all_tokens_of_a_step(
    losses: dict[tuple[str, int], list[float]], per_device: int
) -> None:
    """157 rows: the last forward pass has one; 0.004 apart as upstream averages passes."""
    whole, split = losses["accuracy", 8], losses["accuracy", per_device]
    assert split == pytest.approx(whole, abs=1e-4)


@pytest.mark.parametrize("per_device", [4, 2])
@pytest.mark.parametrize(
    "figure", [f"{stage} {name}" for stage, names in FIGURES.items() for name in names]
)
def test_what_is_logged_of_pairs_does_not_depend_on_the_batch_split(
    losses: dict[tuple[str, int], list[float]], figure: str, per_device: int
) -> None:
    whole, split = losses[figure, 8], losses[figure, per_device]
    assert split == pytest.approx(whole, rel=1e-3, abs=1e-4)


def test_an_epoch_of_pairs_has_as_many_steps_as_fill_whole_batches(
    losses: dict[tuple[str, int], list[float]],
) -> None:
    """125 pairs are 15 steps of 8 and 5 pairs left out; 61 pairs twice are 2 x 7 steps."""
    assert {len(losses["rm", per_device]) for per_device in (8, 4, 2)} == {15}
    assert {len(losses["dpo", per_device]) for per_device in (8, 4, 2)} == {14}
