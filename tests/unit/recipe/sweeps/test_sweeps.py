"""Sweeps written out: which stages, with which names, keys, references and fingerprints."""

from pathlib import Path

import pytest

from pipeline.config.point_names import short_keys, short_name, split_name, value_labels
from pipeline.plan.plan import Plan, make
from pipeline.recipe.load import load
from pipeline.recipe.recipe import Recipe
from pipeline.report.html.swept import is_geometric
from pipeline.stages.best import direction_of, metric_of
from pipeline.store.store import Store

HEAD = """\
name: swept
stages:
  tokenizer: {stage: tokenizer, data: {task: arithmetic}, vocab_size: 300}
"""
BASE = """\
  base:
    stage: pretrain
    model: {architecture: llama, tokenizer: $tokenizer}
    data: [{task: arithmetic}]
    sequence_length: 64
    batch_size: 8
    sweep:
      model.size: [1M, 5M]
      tokens: [20k, 40k]
"""
SIZES_BY_HAND = """\
  by_hand:
    stage: pretrain
    model: {architecture: llama, tokenizer: $tokenizer, size: 5M}
    data: [{task: arithmetic}]
    sequence_length: 64
    batch_size: 8
    tokens: 20k
"""
SFT = "  sft: {stage: sft, model: MODEL, data: {task: arithmetic, rows: 160}}\n"
ALL = [
    *("base[size=1M,tokens=20k]", "base[size=1M,tokens=40k]"),
    *("base[size=5M,tokens=20k]", "base[size=5M,tokens=40k]"),
]


def loaded(folder: Path, text: str, *overrides: str) -> Recipe:
    (folder / "swept.yaml").write_text(text)
    return load(folder / "swept.yaml", overrides=overrides)


def planned(folder: Path, text: str, *overrides: str) -> Plan:
    return make(loaded(folder, text, *overrides), Store(folder / "runs"))


def fingerprints(plan: Plan) -> dict[str, str]:
    return {stage.name: stage.fingerprint for stage in plan.stages}


def test_a_grid_is_a_stage_for_each_combination_in_order(tmp_path: Path) -> None:
    recipe = loaded(tmp_path, HEAD + BASE)
    assert list(recipe.stages) == ["tokenizer", *ALL]
    assert [recipe.stages[name].tokens for name in ALL] == [20_000, 40_000] * 2  # pyright: ignore
    assert [recipe.stages[name].model.size for name in ALL] == ["1M", "1M", "5M", "5M"]  # pyright: ignore


def test_a_point_has_the_fingerprint_of_the_stage_written_by_hand(tmp_path: Path) -> None:
    found = fingerprints(planned(tmp_path, HEAD + BASE + SIZES_BY_HAND))
    assert found["base[size=5M,tokens=20k]"] == found["by_hand"]
    assert len(set(found.values())) == len(ALL) + 1


def test_another_value_leaves_the_stages_that_were_there_as_they_are(tmp_path: Path) -> None:
    before = fingerprints(planned(tmp_path, HEAD + BASE))
    more = BASE.replace("[20k, 40k]", "[10k, 20k, 40k]").replace("[1M, 5M]", "[1M, 30M, 5M]")
    after = fingerprints(planned(tmp_path, HEAD + more))
    assert len(after) == 1 + 9
    assert after.items() >= before.items()


def test_a_list_of_points_sets_what_each_says(tmp_path: Path) -> None:
    points = """\
    sweep:
      - {model.size: 1M, tokens: 20k}
      - {model: {size: 5M}, tokens: 40k, training_args: {learning_rate: 1e-3}}
"""
    recipe = loaded(tmp_path, HEAD + BASE.partition("    sweep:")[0] + points)
    second = "base[size=5M,tokens=40k,learning_rate=0.001]"
    assert list(recipe.stages)[1:] == ["base[size=1M,tokens=20k]", second]
    assert recipe.stages[second].training_args == {"learning_rate": 0.001}  # pyright: ignore


def test_keys_with_a_comma_change_together_and_the_first_names_them(tmp_path: Path) -> None:
    tied = """\
    sweep:
      model.hidden_size, training_args.learning_rate: [[32, 1e-2], [64, 5e-3]]
      tokens: [20k, 40k]
"""
    recipe = loaded(tmp_path, HEAD + BASE.partition("    sweep:")[0] + tied)
    names = [f"base[hidden_size={size},tokens={n}]" for size in (32, 64) for n in ("20k", "40k")]
    assert list(recipe.stages)[1:] == names
    rates = [recipe.stages[name].training_args["learning_rate"] for name in names]  # pyright: ignore
    assert rates == [0.01, 0.01, 0.005, 0.005]
    same = tied.replace("[64,", "[32,")
    recipe = loaded(tmp_path, HEAD + BASE.partition("    sweep:")[0] + same)
    assert list(recipe.stages)[1] == "base[hidden_size=32,learning_rate=0.01,tokens=20k]"


def test_keys_that_change_together_give_no_more_names_than_tell_them_apart(tmp_path: Path) -> None:
    tied = """\
    sweep:
      seed: [1, 2]
      model.hidden_size, tokens, training_args.learning_rate:
        [[32, 20k, 1e-2], [32, 40k, 1e-2], [64, 20k, 5e-3]]
"""
    text = HEAD + BASE.partition("    sweep:")[0] + tied
    recipe = loaded(tmp_path, text)
    points = ["hidden_size=32,tokens=20k", "hidden_size=32,tokens=40k", "hidden_size=64,tokens=20k"]
    assert list(recipe.stages)[1:] == [
        f"base[seed={n},{point}]" for n in (1, 2) for point in points
    ]
    last = recipe.stages["base[seed=2,hidden_size=64,tokens=20k]"]
    assert last.training_args["learning_rate"] == 0.005  # pyright: ignore
    twice = loaded(tmp_path, text.replace("[32, 40k, 1e-2]", "[32, 20k, 5e-3]"))
    assert "base[seed=1,hidden_size=32,tokens=20k,learning_rate=0.005]" in twice.stages


@pytest.mark.parametrize(
    "reference",
    [
        "$base[size=5M,tokens=20k]",
        "$base[tokens=20k,size=5M]",
        "$base[tokens=20k, size=5M]",
        "$base[model.size=5M,tokens=20k]",
    ],
)
def test_a_point_is_named_by_its_values_in_any_order(reference: str, tmp_path: Path) -> None:
    recipe = loaded(tmp_path, HEAD + BASE + SFT.replace("MODEL", f'"{reference}"'))
    assert recipe.stages["sft"].model == "$base[size=5M,tokens=20k]"  # pyright: ignore


def test_a_part_that_is_enough_names_a_point_and_numbers_match_as_numbers(tmp_path: Path) -> None:
    rates = "    sweep: {training_args.learning_rate: [1e-3, 3e-4]}\n    tokens: 20k\n"
    text = HEAD + BASE.partition("    sweep:")[0] + rates
    recipe = loaded(tmp_path, text + SFT.replace("MODEL", "'$base[learning_rate=1e-3]'"))
    assert recipe.stages["sft"].model == "$base[learning_rate=0.001]"  # pyright: ignore


def test_all_points_stand_in_a_list_alone_or_among_others(tmp_path: Path) -> None:
    compare = "  scores: {stage: compare, baseline: $tiny, candidates: WHICH, tasks: arithmetic}\n"
    text = HEAD + BASE + SIZES_BY_HAND.replace("by_hand", "tiny")
    for written, expected in (
        ('"$base[*]"', ALL),
        ('["$base[*]", $sft]', [*ALL, "sft"]),
        ('[$sft, "$base[size=5M,*]"]', ["sft", *ALL[2:]]),
    ):
        which = compare.replace("WHICH", written) + SFT.replace("MODEL", "$tiny")
        recipe = loaded(tmp_path, text + which)
        assert recipe.stages["scores"].candidates == tuple(f"${name}" for name in expected)  # pyright: ignore
        assert {each.name for each in recipe.references("scores")} == {"tiny", *expected}


def test_a_sweep_of_another_sweeps_stages_takes_their_labels_and_multiplies(tmp_path: Path) -> None:
    answers = """\
  answers:
    stage: evaluate
    tasks: arithmetic
    sweep:
      model: $base[size=1M,*]
      limit: [5, 7]
"""
    recipe = loaded(tmp_path, HEAD + BASE + answers)
    names = [name for name in recipe.stages if name.startswith("answers")]
    assert names == [
        f"answers[size=1M,tokens={tokens},limit={limit}]"
        for tokens in ("20k", "40k")
        for limit in (5, 7)
    ]
    assert recipe.stages[names[2]].model == "$base[size=1M,tokens=40k]"  # pyright: ignore


def test_the_best_is_a_stage_that_is_built_on_all_points(tmp_path: Path) -> None:
    text = HEAD + BASE + SFT.replace("MODEL", '"$base[best: bits_per_byte]"')
    plan = planned(tmp_path, text)
    best = plan.stage("base[best=bits_per_byte]")
    assert (best.kind, best.inputs) == ("best", tuple(ALL))
    assert plan.stage("sft").inputs == ("base[best=bits_per_byte]",)
    names = [stage.name for stage in plan.stages]
    assert names.index("base[best=bits_per_byte]") == names.index("sft") - 1
    part = planned(tmp_path, text.replace("[best:", "[size=1M,best: highest"))
    assert part.stage("base[size=1M,best=highest-bits_per_byte]").inputs == tuple(ALL[:2])


def test_the_best_of_reward_models_is_a_reward_model(tmp_path: Path) -> None:
    more = """\
  rm:
    stage: reward_model
    model: $by_hand
    data: {task: arithmetic, rows: 50}
    sweep: {training_args.learning_rate: [1e-3, 1e-4]}
  ranked: {stage: evaluate, model: "$rm[best: held_out_accuracy]", pairs: {task: arithmetic}}
"""
    recipe = loaded(tmp_path, HEAD + SIZES_BY_HAND + more)
    best = recipe.stages["rm[best=held_out_accuracy]"]
    assert (best.stage, best.direction) == ("best_reward_model", "highest")  # pyright: ignore
    assert best.models == ("$rm[learning_rate=0.001]", "$rm[learning_rate=0.0001]")  # pyright: ignore


def test_what_set_says_is_there_before_the_sweep_is_written_out(tmp_path: Path) -> None:
    fewer = loaded(tmp_path, HEAD + BASE, "stages.base.sweep.tokens=[30k]", "seed=4")
    assert list(fewer.stages)[1:] == ["base[size=1M,tokens=30k]", "base[size=5M,tokens=30k]"]
    same = loaded(tmp_path, HEAD + BASE, "stages.base.batch_size=4")
    assert {same.stages[name].batch_size for name in ALL} == {4}  # pyright: ignore
    more = loaded(tmp_path, HEAD + BASE, "stages.base.sweep.training_args.learning_rate=[1e-3]")
    assert list(more.stages)[1] == "base[size=1M,tokens=20k,learning_rate=0.001]"


def test_keys_are_short_unless_two_would_be_the_same() -> None:
    assert short_keys(["model.size", "tokens"]) == {"model.size": "size", "tokens": "tokens"}
    assert short_keys(["a.size", "b.size"]) == {"a.size": "a.size", "b.size": "b.size"}
    assert short_keys(["reward.0.weight", "data.0"]) == {
        "reward.0.weight": "weight",
        "data.0": "data.0",
    }


def test_values_that_no_folder_can_be_called_are_numbered() -> None:
    assert value_labels(["1M", 0.001, True, None]) == ["1M", "0.001", "true", "null"]
    assert value_labels(["data/a.txt", "../b"]) == ["data-a.txt", "..-b"]
    assert value_labels(["a/b", "a:b"]) == ["1", "2"]
    assert value_labels([{"r": 8}, {"r": 16}]) == ["r-8", "r-16"]
    assert value_labels(["x" * 40, "y"]) == ["1", "2"]


def test_there_is_little_room_in_a_progress_bar() -> None:
    assert short_name("base[size=1M,tokens=4M]") == "base[1M,4M]"
    assert short_name("base") == "base"


@pytest.mark.parametrize(
    ("metric", "direction"),
    [
        *[(name, "lowest") for name in ("loss", "eval_loss", "bits_per_byte", "facts loss")],
        *[(name, "highest") for name in ("held_out_accuracy", "sums verified_accuracy few-shot 3")],
        ("steps", None),
        ("loss accuracy", None),
    ],
)
def test_a_metrics_name_says_which_values_are_good(metric: str, direction: str | None) -> None:
    assert direction_of(metric) == direction


def test_a_metric_of_several_sources_is_their_mean() -> None:
    metrics = {"loss": 2.0, "bpb a": 1.0, "bpb b": 3, "bpb_before a": 9.0, "bpb c": None}
    assert metric_of(metrics, "loss") == metric_of(metrics, "bpb") == 2.0
    assert metric_of(metrics, "bpb b") == 3.0
    assert metric_of(metrics, "los") is None


@pytest.mark.parametrize(
    ("values", "is_by_factors"),
    [([100, 200, 400], True), ([1, 2, 3], False), ([1e-4, 3e-4, 1e-3], True), ([0, 1, 10], False)],
)
def test_values_that_grow_by_factors_get_an_axis_of_doublings(
    values: list[float], is_by_factors: bool
) -> None:
    assert is_geometric(values) is is_by_factors


@pytest.mark.parametrize("name", ["base", "base[*]", "base[]", "base[size]", "[a=b]", "a[b=c]d"])
def test_other_names_are_of_no_sweep(name: str) -> None:
    assert split_name(name) is None
