"""Methods without a critic in processes that work together (gloo): what they do in one, row by row.

Groups are compared over all processes, so that it does not matter which of them sampled what.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.small_rollouts import (
    DISTILL_KINDS,
    GROUP_KINDS,
    ROLLOUT,
    Run,
    difference,
    in_processes,
    only_asked_for,
    slow_unless_usual,
    trained,
)

_KINDS = (*GROUP_KINDS, *DISTILL_KINDS)
_USUAL = ("grpo", "rloo", "distill", "one_group", "drawn_anew")  # the others are slow
_STEPS = 2 * ROLLOUT
_STOP = ROLLOUT + 3
_STATE = ("weights", "moments", "kl", "rewards", "drawn", "lines", "samples")
# Of twelve responses in two steps. Three groups for two processes; one group, of whose responses
# both have a share; and for three processes four groups, or single ones that are drawn anew, of
# whose two responses one process has none.
_TWELVE = {"generation_batch_size": 12, "gradient_accumulation_steps": 1}
_UNEVEN: dict[str, tuple[str, int, dict[str, Any]]] = {
    "three_groups": ("grpo", 2, {**_TWELVE, "num_generations": 4}),
    "one_group": ("gspo_on_trained_adapter", 2, {**_TWELVE, "num_generations": 12}),
    "four_groups": ("reinforce", 3, {**_TWELVE, "num_generations": 3}),
    "drawn_anew": ("rloo", 3, {**_TWELVE, "dynamic_sampling": 3}),
}

Ends = dict[str, list[dict[str, Any]]]


def _run(kind: str, folder: Path, processes: int, settings: dict[str, Any]) -> Run:
    """Return a run with the same responses in each step for any number of processes."""
    in_a_step = settings.get("generation_batch_size", 16) // 2
    passes = settings.get("gradient_accumulation_steps", 2)
    own = {
        **{"learning_rate": 1e-3},  # low, as Adam makes steps of this size even of rounding errors
        **settings,
        "per_device_train_batch_size": in_a_step // passes // processes,
    }
    return Run(kind, str(folder), stops_at=_STEPS, settings=own, processes=processes)


@pytest.fixture(scope="module")
def ends(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ends:
    """What all processes have at the end of each run that is asked for, and of some more."""
    folder = tmp_path_factory.mktemp("processes")
    begun = replace(_run("grpo", folder / "begun", 2, {}), stops_at=_STOP)
    alone = replace(_run("grpo", folder / "alone", 1, {}), stops_at=_STOP)
    runs = {
        **{kind: _run(kind, folder / kind, 2, {}) for kind in _KINDS},
        **{
            name: _run(kind, folder / name, processes, settings)
            for name, (kind, processes, settings) in _UNEVEN.items()
        },
        "begun": begun,
        "resumed": replace(begun, goes_on_from=begun.checkpoint, stops_at=_STEPS),
        "alone": alone,
        "more": replace(begun, goes_on_from=alone.checkpoint, stops_at=_STEPS),
    }
    runs = only_asked_for(
        request, runs, ("grpo", "drawn_anew", "begun", "resumed", "alone", "more")
    )
    return dict(zip(runs, in_processes(folder / "work", list(runs.values())), strict=True))


def _gaps(one: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    return {name: difference(one[name], other[name]) for name in _STATE}


@pytest.mark.parametrize("name", slow_unless_usual([*_KINDS, *_UNEVEN], _USUAL))
def test_processes_end_where_one_does(name: str, ends: Ends, tmp_path: Path) -> None:
    """B48, B49: rows of uneven lengths and unequal groups, some without a score."""
    kind, processes, settings = _UNEVEN.get(name, (name, 2, {}))
    alone, together = trained(_run(kind, tmp_path, 1, settings)), ends[name][0]
    assert (alone["world_size"], together["world_size"]) == (1, processes)
    gaps = _gaps(alone, together)
    assert gaps["samples"] == gaps["drawn"] == 0
    assert gaps["weights"] <= 1e-6
    assert max(gaps[part] for part in ("moments", "kl", "rewards")) <= 1e-5
    assert gaps["lines"] <= 1e-4  # norms of several


def test_single_groups_are_drawn_anew_where_one_process_has_no_response(ends: Ends) -> None:
    replaced = [line["groups/replaced"] for line in ends["drawn_anew"][0]["lines"]]
    assert sum(replaced) > 0


def test_all_processes_have_the_same_to_the_bit(ends: Ends) -> None:
    for name, (first, *others) in ends.items():
        for other in others:
            assert _gaps(first, other) == dict.fromkeys(_STATE, 0.0), name


def test_two_processes_go_on_where_two_were_stopped(ends: Ends) -> None:
    """B34: in the middle of a rollout, which both take up."""
    whole, resumed = ends["grpo"][0], ends["resumed"][0]
    assert list(resumed["samples"]) == []
    state = _STATE[:-1]
    assert {part: difference(whole[part], resumed[part]) for part in state} == dict.fromkeys(
        state, 0.0
    )


def test_two_processes_go_on_where_one_was_stopped(ends: Ends) -> None:
    """How rows are split over processes may change: the end is the same up to rounding."""
    whole, resumed = ends["grpo"][0], ends["more"][0]
    assert difference(whole["weights"], resumed["weights"]) <= 1e-6
    assert difference(whole["lines"], resumed["lines"]) <= 1e-4
