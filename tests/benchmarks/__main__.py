"""Runs all benchmarks, or those named on the command line."""

import argparse
import os
import sys
from collections.abc import Callable

from tests.benchmarks.align_against_trl import align_against_trl, align_throughput_against_trl
from tests.benchmarks.evaluation_against_lm_eval import evaluation_against_lm_eval
from tests.benchmarks.grpo_against_trl import grpo_full_length, grpo_spread_lengths
from tests.benchmarks.guard_share import guard_share
from tests.benchmarks.large_data import large_data
from tests.benchmarks.large_text import large_text
from tests.benchmarks.nano_gpt_steps import nano_gpt_steps
from tests.benchmarks.planted_items import overlap_megabytes, planted_items_found
from tests.benchmarks.ppo_against_trl import (
    ppo_full_length,
    ppo_full_length_bf16,
    ppo_spread_lengths,
    ppo_spread_lengths_bf16,
)
from tests.benchmarks.precision_speed import bf16_training, head_in_chunks
from tests.benchmarks.pretrain_throughput import pretrain_throughput
from tests.benchmarks.result import Result
from tests.benchmarks.rollout_memory import (
    grpo_lora_memory,
    ppo_shared_lora_memory,
    ppo_vocabulary_memory,
)
from tests.benchmarks.rollout_speed import rollout_speed
from tests.benchmarks.rows_end_to_end import rows_end_to_end
from tests.benchmarks.sandbox_speed import sandbox_calls_seconds, sandbox_tests_seconds
from tests.benchmarks.side_by_side import seeds_side_by_side, side_by_side
from tests.benchmarks.startup import help_seconds, plan_seconds, quickstart_cached_seconds
from tests.benchmarks.steps_against_trl import sft_and_dpo_steps
from tests.benchmarks.tool_speed import calculator_seconds, python_tool_seconds
from tests.benchmarks.training_passes import training_passes, training_passes_bf16
from tests.benchmarks.verdict_speed import (
    math_verdicts,
    number_verdicts,
    pattern_verdicts,
    schema_verdicts,
)
from tests.benchmarks.verification_speed import verification_seconds

BENCHMARKS: dict[str, Callable[[], Result]] = {
    "help_seconds": help_seconds,
    "plan_seconds": plan_seconds,
    "quickstart_cached_seconds": quickstart_cached_seconds,
    "side_by_side": side_by_side,
    "seeds_side_by_side": seeds_side_by_side,
    "verification_seconds": verification_seconds,
    "sandbox_calls_seconds": sandbox_calls_seconds,
    "sandbox_tests_seconds": sandbox_tests_seconds,
    "number_verdicts": number_verdicts,
    "math_verdicts": math_verdicts,
    "pattern_verdicts": pattern_verdicts,
    "schema_verdicts": schema_verdicts,
    "calculator_seconds": calculator_seconds,
    "python_tool_seconds": python_tool_seconds,
    "planted_items_found": planted_items_found,
    "overlap_megabytes": overlap_megabytes,
    "large_data": large_data,
    "large_text": large_text,
    "pretrain_throughput": pretrain_throughput,
    "training_passes": training_passes,
    "training_passes_bf16": training_passes_bf16,
    "nano_gpt_steps": nano_gpt_steps,
    "rollout_speed": rollout_speed,
    "evaluation_against_lm_eval": evaluation_against_lm_eval,
    "rows_end_to_end": rows_end_to_end,
    "guard_share": guard_share,
    "ppo_full_length": ppo_full_length,
    "ppo_spread_lengths": ppo_spread_lengths,
    "ppo_full_length_bf16": ppo_full_length_bf16,
    "ppo_spread_lengths_bf16": ppo_spread_lengths_bf16,
    "grpo_full_length": grpo_full_length,
    "grpo_spread_lengths": grpo_spread_lengths,
    "ppo_shared_lora_memory": ppo_shared_lora_memory,
    "grpo_lora_memory": grpo_lora_memory,
    "ppo_vocabulary_memory": ppo_vocabulary_memory,
    "head_in_chunks": head_in_chunks,
    "bf16_training": bf16_training,
    "sft_and_dpo_steps": sft_and_dpo_steps,
    "align_against_trl": align_against_trl,
    "align_throughput_against_trl": align_throughput_against_trl,
}


def main() -> int:
    """Print one line a benchmark; return 1 when one misses its goal, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    names = parser.parse_args().names or list(BENCHMARKS)
    for name in names:
        if name not in BENCHMARKS:
            parser.error(f"there is no benchmark `{name}`; there are {', '.join(BENCHMARKS)}")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    all_ok = True
    for name in names:
        result = BENCHMARKS[name]()
        print(result.line(), flush=True)
        all_ok = all_ok and result.ok
    return 0 if all_ok else 1


if __name__ == "__main__":
    sys.exit(main())
