"""Mutations of stages that run side by side: their order, their processes, their end."""

from tests.mutations.mutation import Mutation

_STAGES = "tests/stages/test_side_by_side.py"
_SCHEDULE = "tests/unit/run/test_schedule.py"

SIDE_BY_SIDE = [
    Mutation(
        "what has the longest way to the end goes first",
        "pipeline/run/schedule.py",
        "first = max(ready, key=lambda key: self._left_s[key])",
        "first = ready[0]",
        (_SCHEDULE,),
    ),
    Mutation(
        "a stage that takes all slots is waited for",
        "pipeline/run/schedule.py",
        "return None if first in self.graph.alone and busy else first",
        "return first",
        (_SCHEDULE,),
    ),
    Mutation(
        "a failed stage takes with it what needs it, at any distance",
        "pipeline/run/schedule.py",
        "lost.add(later)",
        "pass",
        (_SCHEDULE,),
    ),
    Mutation(
        "a stage that fails lets the others come to their end",
        "pipeline/run/runner.py",
        "gone = self._schedule.fail(ended.key)",
        "gone = self._schedule.fail(ended.key); raise error",
        (f"{_STAGES}::test_a_stage_that_fails_lets_the_others_come_to_the_same_bytes",),
    ),
    Mutation(
        "one signal stops all",
        "pipeline/run/team.py",
        "self._slots.signal(number)",
        "pass",
        (f"{_STAGES}::test_one_signal_stops_all_and_each_goes_on_from_its_checkpoint",),
    ),
    Mutation(
        "no process of a slot outlives the run",
        "pipeline/run/slot_worker.py",
        "    end_with_parent()\n",
        "",
        (f"{_STAGES}::test_no_process_outlives_a_killed_run_and_each_holds_its_stages_lock",),
    ),
    Mutation(
        "what seeds share runs once",
        "pipeline/run/runner.py",
        "if first != (number, name):",
        "if False:",
        (f"{_STAGES}::test_stages_of_several_seeds_run_side_by_side_and_what_they_share_once",),
    ),
]
