"""Which stage begins next: order, what waits, what runs alone, and what a failure takes with it."""

import random
from collections.abc import Collection, Mapping, Sequence

import pytest

from pipeline.run.schedule import Graph, Schedule, longest_ways, seconds_left

# The quickstart's: preferences and PPO are the long way; the answers can be had meanwhile.
NEEDS = {
    "base": (),
    "sft": ("base",),
    "dpo": ("sft",),
    "preference": ("sft",),
    "ppo": ("preference",),
    "base_answers": ("base",),
    "ppo_answers": ("ppo",),
}
SECONDS = {
    "base": 75.0,
    "sft": 50.0,
    "dpo": 60.0,
    "preference": 15.0,
    "ppo": 80.0,
    "base_answers": 20.0,
    "ppo_answers": 10.0,
}


def schedule_of(
    needs: Mapping[str, Sequence[str]] = NEEDS,
    *,
    slots: int = 2,
    seconds: Mapping[str, float | None] = SECONDS,
    alone: Collection[str] = (),
    free: Collection[str] = (),
    takes: Mapping[str, int] | None = None,
    devices: Sequence[str] = (),
) -> Schedule[str]:
    return Schedule(Graph(list(needs), needs, seconds, alone, free, takes or {}), slots, devices)


def begun(schedule: Schedule[str]) -> list[str]:
    """Return all that begins now."""
    return list(iter(schedule.begin_next, None))


def test_one_slot_takes_them_in_the_recipes_order() -> None:
    schedule = schedule_of(slots=1)
    order: list[str] = []
    while now := begun(schedule):
        order += now
        schedule.end(now[0])
    assert order == list(NEEDS)


def test_the_longest_way_to_the_end_goes_first() -> None:
    schedule = schedule_of()
    assert begun(schedule) == ["base"]
    schedule.end("base")
    assert begun(schedule) == ["sft", "base_answers"]
    schedule.end("sft")
    assert begun(schedule) == ["preference"]  # 105 s to the end, of dpo 60 s, earlier in the recipe
    schedule.end("base_answers")
    assert begun(schedule) == ["dpo"]


def test_without_known_times_the_longest_chain_goes_first() -> None:
    schedule = schedule_of(seconds=dict.fromkeys(NEEDS))
    schedule.begin_next()
    schedule.end("base")
    assert begun(schedule) == ["sft", "base_answers"]
    schedule.end("sft")
    assert begun(schedule) == ["preference"]


def test_what_is_not_known_counts_as_the_mean_and_what_is_there_as_nothing() -> None:
    needs = {"a": (), "b": ("a",), "c": ("b",)}
    ways = longest_ways(Graph(list(needs), needs, {"a": 10.0, "b": None, "c": 30.0}))
    assert ways == {"c": 30.0, "b": 50.0, "a": 60.0}
    ways = longest_ways(Graph(list(needs), needs, {"a": 10.0, "b": None, "c": 30.0}, free={"c"}))
    assert ways == {"c": 0.0, "b": 10.0, "a": 20.0}


def test_what_is_there_takes_no_slot() -> None:
    schedule = schedule_of({"a": (), "b": (), "c": (), "d": ("c",)}, seconds=ALIKE, free={"c", "d"})
    assert begun(schedule) == ["c", "a", "b"]
    schedule.end("c")
    assert begun(schedule) == ["d"]
    assert schedule.num_left == 2


ALIKE = dict.fromkeys("abcd", 1.0)


def test_nothing_runs_beside_one_that_takes_all_slots() -> None:
    needs = {"a": (), "b": (), "c": (), "d": ()}
    seconds = {"a": 2.0, "b": 3.0, "c": 1.0, "d": 4.0}
    schedule = schedule_of(needs, seconds=seconds, alone={"b"})
    assert begun(schedule) == ["d"]  # b is next, and waits for it; a and c do not go before it
    schedule.end("d")
    assert begun(schedule) == ["b"]
    schedule.end("b")
    assert begun(schedule) == ["a", "c"]


def test_a_failure_takes_with_it_what_needs_it_and_nothing_else() -> None:
    schedule = schedule_of()
    begun(schedule)
    schedule.end("base")
    begun(schedule)
    assert schedule.fail("sft") == ["dpo", "preference", "ppo", "ppo_answers"]
    assert begun(schedule) == []
    schedule.end("base_answers")
    assert begun(schedule) == []
    assert schedule.num_left == 0


def test_the_time_left_is_that_of_the_longest_way_or_of_the_cores() -> None:
    def left_s(slots: int, *running: str, **changes: float | None) -> float | None:
        return seconds_left(Graph(list(NEEDS), NEEDS, {**SECONDS, **changes}), slots, running)

    assert left_s(1, "base") == 310
    assert left_s(2, "base") == 75 + 50 + 15 + 80 + 10
    assert left_s(2, "base", base=5.0) == 5 + 50 + 15 + 80 + 10
    assert left_s(2, "base", dpo=None) is None


ONE_EACH = dict.fromkeys(SECONDS, 1)


def test_a_stage_waits_until_a_device_is_free_and_what_takes_none_goes_on() -> None:
    takes = {**ONE_EACH, "base_answers": 0}
    schedule = schedule_of(takes=takes, devices=["5"], slots=3)
    assert begun(schedule) == ["base"]
    schedule.end("base")
    assert begun(schedule) == ["sft", "base_answers"]
    schedule.end("sft")
    assert begun(schedule) == ["preference"]
    assert schedule.taken == {"base_answers": (), "preference": ("5",)}
    assert schedule.kept_waiting() == ["dpo"]
    schedule.fail("preference")
    assert begun(schedule) == ["dpo"], "a failure gives its device back"


def test_side_by_side_each_has_devices_of_its_own_and_those_that_come_free_are_taken_again() -> (
    None
):
    schedule = schedule_of(dict.fromkeys("abcd", ()), seconds=ALIKE, takes=ALIKE_DEVICES, slots=4)
    schedule.devices = ["0", "1", "GPU-7"]
    assert begun(schedule) == ["a", "b", "c"]
    assert schedule.taken == {"a": ("0",), "b": ("1",), "c": ("GPU-7",)}
    assert schedule.likely_devices() is None
    schedule.end("b")
    assert schedule.likely_devices() == ("1",)
    assert begun(schedule) == ["d"]
    assert schedule.taken["d"] == ("1",)


ALIKE_DEVICES = dict.fromkeys("abcd", 1)


def test_what_comes_free_is_kept_for_the_one_that_needs_two() -> None:
    """Else smaller ones would pass it for ever."""
    seconds = {"a": 9.0, "b": 5.0, "c": 3.0, "d": 1.0}
    takes = {"a": 1, "b": 2, "c": 1, "d": 0}
    needs = dict.fromkeys("abcd", ())
    schedule = schedule_of(needs, seconds=seconds, takes=takes, devices=["0", "1"], slots=4)
    assert begun(schedule) == ["a", "d"]
    assert schedule.kept_waiting() == ["b"]
    schedule.end("a")
    assert begun(schedule) == ["b"]
    assert schedule.taken["b"] == ("0", "1")
    schedule.end("b")
    assert begun(schedule) == ["c"]


def test_one_that_asks_for_more_than_there_are_has_them_all() -> None:
    needs = dict.fromkeys("ab", ())
    schedule = schedule_of(needs, seconds=ALIKE, takes={"a": 8, "b": 1}, devices=["0", "1"])
    assert begun(schedule) == ["a"]
    assert schedule.taken["a"] == ("0", "1")


@pytest.mark.parametrize("seed", range(30))
def test_no_device_is_two_stages_and_each_has_as_many_as_it_takes(seed: int) -> None:
    draw = random.Random(seed)
    names = [f"s{number}" for number in range(draw.randint(1, 12))]
    needs = {
        name: draw.sample(names[:n], draw.randint(0, min(n, 2))) for n, name in enumerate(names)
    }
    devices = [str(number) for number in range(draw.randint(1, 4))]
    takes = {name: draw.randint(0, len(devices)) for name in names}
    seconds = {name: draw.random() for name in names}
    alone = [name for name in names if draw.random() < 0.1]
    slots = draw.randint(2, 5)
    schedule = schedule_of(
        needs, slots=slots, seconds=seconds, alone=alone, takes=takes, devices=devices
    )
    num_ended = 0
    while begun(schedule) or schedule.running:
        taken = [device for each in schedule.taken.values() for device in each]
        assert len(taken) == len(set(taken))
        assert set(taken) <= set(devices)
        assert all(len(schedule.taken[name]) == takes[name] for name in schedule.running)
        assert not set(schedule.kept_waiting()) & set(schedule.running)
        schedule.end(draw.choice(schedule.running))
        num_ended += 1
    assert num_ended == len(names), "none waits for ever"


@pytest.mark.parametrize("seed", range(30))
def test_each_begins_once_after_what_it_needs_and_never_too_many_at_once(seed: int) -> None:
    """Drawn graphs, times, failures and orders of ending."""
    draw = random.Random(seed)
    names = [f"s{number}" for number in range(draw.randint(1, 12))]
    needs = {
        name: draw.sample(names[:number], draw.randint(0, min(number, 3)))
        for number, name in enumerate(names)
    }
    seconds = {name: draw.choice([None, draw.random()]) for name in names}
    alone = [name for name in names if draw.random() < 0.1]
    slots = draw.randint(1, 4)
    schedule = schedule_of(needs, slots=slots, seconds=seconds, alone=alone)
    ended: list[str] = []
    lost: list[str] = []
    while True:
        for name in begun(schedule):
            assert set(needs[name]) <= set(ended)
        running = list(schedule.running)
        if not running:
            break
        assert len(running) <= slots
        assert len(running) == 1 or not set(running) & set(alone)
        name = draw.choice(running)
        if draw.random() < 0.15:
            lost += [name, *schedule.fail(name)]
        else:
            schedule.end(name)
            ended.append(name)
    assert sorted([*ended, *lost]) == sorted(names)
