"""Mutations of stages that run side by side: their order, their processes, their end."""

from tests.mutations.mutation import Mutation

_STAGES = "tests/stages/test_side_by_side.py"
_SCHEDULE = "tests/unit/run/test_schedule.py"

SIDE_BY_SIDE = [
    Mutation(
        "what has the longest way to the end goes first",
        "pipeline/run/schedule.py",
        "for key in sorted(ready, key=lambda key: -self._left_s[key]):",
        "for key in ready:",
        (_SCHEDULE,),
    ),
    Mutation(
        "a stage that takes all slots is waited for",
        "pipeline/run/schedule.py",
        "if key in self.graph.alone and busy:",
        "if False:",
        (_SCHEDULE,),
    ),
    Mutation(
        "a stage that uses a GPU waits until one is free",
        "pipeline/run/schedule.py",
        "elif wanted == 0 or (wanted <= idle and not is_kept):",
        "elif True:",
        (_SCHEDULE,),
    ),
    Mutation(
        "what comes free is kept for the stage that needs more",
        "pipeline/run/schedule.py",
        "                is_kept = True",
        "                pass",
        (_SCHEDULE,),
    ),
    Mutation(
        "each process sees its own GPUs alone",
        "pipeline/run/slots.py",
        '{} if devices is None else {VISIBLE: ",".join(devices)}',
        "{}",
        (f"{_STAGES}::test_the_process_of_a_slot_sees_its_gpus_alone",),
    ),
    Mutation(
        "an idle process that holds memory on a GPU ends before another begins there",
        "pipeline/run/slots.py",
        "if is_full or set(slot.devices or ()) & set(devices or ()):",
        "if is_full:",
        (f"{_STAGES}::test_the_process_of_a_slot_sees_its_gpus_alone",),
    ),
    Mutation(
        "processes that share a stage beside others are told to stop too",
        "pipeline/run/team.py",
        "            stop.pass_on(number)",
        "            pass",
        (
            f"{_STAGES}::test_on_gpus_of_their_own_several_processes_run_beside_other_stages"
            "_and_stop_with_them",
        ),
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
        "gone = self.schedule.fail(ended.key)",
        "gone = self.schedule.fail(ended.key); raise error",
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
