"""Small runs of every method on rollouts and all that they leave, here or in other processes.

As a program (`python -m tests.small_rollouts FOLDER`) it does the runs of FOLDER/runs.json one
after the other, each in as many new processes that work together as it says, and writes what each
of these has at the end. They are forked, since imports take longer than the runs. No tests here.
"""

import gc
import json
import math
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    PrinterCallback,
    TrainerCallback,
)

from pipeline.rl.config.distill import DistillConfig
from pipeline.rl.config.grpo import GRPOConfig
from pipeline.rl.config.ppo import PPOConfig
from pipeline.rl.config.rloo import RLOOConfig
from pipeline.rl.distill import DistillTrainer
from pipeline.rl.grpo import GRPOTrainer
from pipeline.rl.ppo import PPOTrainer
from pipeline.rl.rloo import RLOOTrainer
from pipeline.rl.rollout import Rollout
from pipeline.rl.trainer import RolloutTrainer

STEPS = 36  # six rollouts of three epochs of two mini-batches
ROLLOUT = 6  # steps
_PAD, _EOS, _VOCABULARY = 0, 1, 12

# What differs between the runs; the rest is in `_settings`.
PPO_KINDS: dict[str, dict[str, Any]] = {
    "full": {"layout": "separate"},
    "lora": {"layout": "shared_lora"},
    "lora_on_trained_adapter": {"layout": "shared_lora"},
    "trunk": {"layout": "shared_trunk"},
    # An adapter for a policy whose critic has a network of its own, and what else has state.
    "lora_after_critic": {
        "layout": "separate",
        "critic_warmup_rollouts": 2,
        "critic_learning_rate": 2e-2,
        "target_approx_kl": 0.002,
        "truncation": "bootstrap",
        "missing_eos_penalty": 0.5,
    },
}
# Between them: groups of four and of two, each way to make advantages, ratios of tokens and of
# whole responses, KL in the loss and in the reward, prompts that are drawn anew.
GROUP_KINDS: dict[str, dict[str, Any]] = {
    "grpo": {
        **{"dynamic_sampling": 1, "mask_truncated_completions": True, "beta": 0.05},
        **{"overlong_cache": 4, "entropy_coef": 0.01, "target_approx_kl": 0.01},
    },
    "grpo_lora": {"loss_type": "grpo", "scale_rewards": "batch", "dynamic_sampling": 2},
    "gspo_on_trained_adapter": {"importance_sampling_level": "sequence", "epsilon": 0.02},
    "reinforce": {"advantage_estimator": "reinforce_baseline", "beta": 0.05, "loss_type": "bnpo"},
    "rloo": {
        **{"num_generations": 2, "normalize_advantages": True, "dynamic_sampling": 1},
        **{"missing_eos_penalty": 0.5, "reward_clip": [-2.0, 2.0]},
    },
}
# Between them: divergences of whole distributions and of some tokens, on what was sampled and on
# rows' own completions, rewards beside them, and the log-ratio as a reward.
DISTILL_KINDS: dict[str, dict[str, Any]] = {
    "distill": {"num_generations": 1, "beta": 0.5, "loss_top_k": 3, "lmbda": 0.6},
    "distill_lora": {"num_generations": 4, "teacher_coef": 0.5, "dynamic_sampling": 1},
    "distill_sampled": {"num_generations": 1, "loss_type": "policy_gradient", "gamma": 0.9},
}
KINDS = PPO_KINDS | GROUP_KINDS | DISTILL_KINDS
_HAVE_NEW_ADAPTERS = ("lora", "lora_after_critic", "grpo_lora", "distill_lora")
_METHODS: dict[str, tuple[type[Any], type[Any]]] = {
    "rloo": (RLOOConfig, RLOOTrainer),
    **dict.fromkeys(PPO_KINDS, (PPOConfig, PPOTrainer)),
    **dict.fromkeys(DISTILL_KINDS, (DistillConfig, DistillTrainer)),
}


@dataclass(frozen=True)
class Run:
    """One run: its kind, the folder it writes into, the checkpoint it goes on from.

    stops_at: the step at which a checkpoint is written and the run stops, if it is not the last.
    num_prompts: 13 is no divisor of a rollout's 16 responses, so passes end within rollouts.
    processes: where `in_processes` does it.
    """

    kind: str
    folder: str
    goes_on_from: str | None = None
    stops_at: int = STEPS
    num_prompts: int = 13
    settings: dict[str, Any] = field(default_factory=dict)
    processes: int = 1

    @property
    def checkpoint(self) -> str:
        """Where it leaves a checkpoint."""
        return f"{self.folder}/checkpoint-{self.stops_at}"


class StopAfter(TrainerCallback):
    """Has a checkpoint written after a step, and stops there."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self._step < state.max_steps:
            control.should_save = control.should_training_stop = True


def parts_of(kind: str, folder: Path, stops: Sequence[int]) -> list[Run]:
    """Return the runs that make up a whole one, each going on where the one before stopped."""
    parts: list[Run] = []
    for stops_at in (*stops, STEPS):
        before = parts[-1].checkpoint if parts else None
        parts.append(Run(kind, str(folder / f"to-{stops_at}"), before, stops_at))
    return parts


def trainer_of(
    run: Run, on_rollout: Callable[..., dict[str, float]] | None = None
) -> RolloutTrainer:
    """Make a trainer: always the same model, whatever was drawn before."""
    state = torch.get_rng_state()
    torch.manual_seed(0)
    policy = small_policy()
    torch.set_rng_state(state)
    model: Any = policy
    if run.kind.endswith("on_trained_adapter"):
        from peft import get_peft_model

        model = get_peft_model(policy, _adapter())
        drawn = torch.Generator().manual_seed(1)
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.data = 0.3 * torch.randn(weight.shape, generator=drawn)
    parts: dict[str, Any] = {}
    if run.kind in DISTILL_KINDS:
        torch.manual_seed(1)
        parts["teacher_model"] = small_policy()
        torch.set_rng_state(state)
    config, trainer_class = _METHODS.get(run.kind, (GRPOConfig, GRPOTrainer))
    of_method = _of_ppo() if config is PPOConfig else _of_groups()
    settings = {**_settings(), **of_method, **KINDS[run.kind], **run.settings}
    rewards = [matches if config is PPOConfig else matches_or_nothing, long_enough]
    if run.kind in DISTILL_KINDS and settings["num_generations"] == 1:
        rewards = []
        settings |= {"reward_normalisation": "none", "reward_weights": None}
    prompts, has_completions = small_prompts(run.num_prompts), settings.get("lmbda", 1) < 1
    trainer = trainer_class(
        model,
        reward_funcs=rewards,
        args=config(output_dir=run.folder, **settings),
        train_dataset=[*map(_with_completion, prompts)] if has_completions else prompts,
        processing_class=small_tokenizer(),
        peft_config=_adapter() if run.kind in _HAVE_NEW_ADAPTERS else None,
        callbacks=[StopAfter(run.stops_at)],
        on_rollout=on_rollout,
        **parts,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def trained(run: Run) -> dict[str, Any]:
    """Train, and return everything that another run could differ in, clocks left out."""
    samples: dict[int, Any] = {}

    def keep(rollout: Rollout) -> dict[str, float]:
        rows = [(row.number, row.prompt, row.completion_ids) for row in rollout.rows]
        samples[rollout.number] = rows
        return {"scores/highest": float(rollout.scores.nan_to_num(-math.inf).max())}

    trainer = trainer_of(run, keep)
    trainer.train(resume_from_checkpoint=run.goes_on_from)
    optimizer: Any = trainer.optimizer
    moments = optimizer.state_dict()["state"]
    lines = [line for line in trainer.state.log_history if "train_runtime" not in line]
    return {
        "weights": {name: each.clone() for name, each in trainer.model.state_dict().items()},
        "moments": {number: dict(state) for number, state in moments.items()},
        "kl": trainer.rl.kl.state_dict(),
        "rewards": trainer.rewards.state_dict(),
        "drawn": trainer.rl.prompts_drawn,
        "lines": [{k: v for k, v in line.items() if not k.startswith("time/")} for line in lines],
        "samples": samples,
        "world_size": trainer.args.world_size,
    }


def difference(one: Any, other: Any) -> float:
    """Return the largest difference of any two numbers; infinite if the structure differs."""
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return math.inf
        return max((difference(one[key], other[key]) for key in one), default=0.0)
    if isinstance(one, list | tuple):
        pairs = zip(one, other, strict=False)
        largest = max((difference(a, b) for a, b in pairs), default=0.0)
        return largest if len(one) == len(other) else math.inf
    if isinstance(one, torch.Tensor):
        if one.shape != other.shape or one.dtype != other.dtype:
            return math.inf
        gap = (one.double() - other.double()).abs().nan_to_num(nan=math.inf)
        return float(gap.max()) if one.numel() else 0.0
    gap = abs(one - other)
    return math.inf if math.isnan(gap) else gap


def matches(completion_ids: Any, target: Any, log_metric: Any, **_: Any) -> list[float]:
    """Reward the share of tokens that are a prompt's own target."""
    rows = zip(completion_ids, target, strict=True)
    found = [ids.count(wanted) / len(ids) for ids, wanted in rows]
    for share in found:
        log_metric("share", share)
    return found


def matches_or_nothing(completion_ids: Any, target: Any, log_metric: Any, **_: Any) -> list[Any]:
    """Reward as `matches`; for some prompts only some responses, and these by 0 and 1."""
    shares = matches(completion_ids, target, log_metric)
    return [
        share if wanted != 3 else None if ids[0] % 2 else float(share > 0.2)
        for ids, wanted, share in zip(completion_ids, target, shares, strict=True)
    ]


def long_enough(completion_ids: Any, target: Any, **_: Any) -> list[float | None]:
    """Reward length, for some of the prompts."""
    return [
        None if wanted % 3 == 0 else len(ids) / 4
        for ids, wanted in zip(completion_ids, target, strict=True)
    ]


def in_processes(folder: Path, runs: Sequence[Run]) -> list[list[dict[str, Any]]]:
    """Do runs, each in its number of new processes: [run][process] -> what is left."""
    folder.mkdir(parents=True)
    (folder / "runs.json").write_text(json.dumps([asdict(run) for run in runs]))
    command = [sys.executable, "-m", "tests.small_rollouts", str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return [
        [torch.load(folder / f"left-{number}-{rank}.pt") for rank in range(run.processes)]
        for number, run in enumerate(runs)
    ]


def _settings() -> dict[str, Any]:
    return {
        **{"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
        **{"learning_rate": 1e-2, "lr_scheduler_type": "linear", "weight_decay": 0.01},
        **{"max_steps": STEPS, "reward_normalisation": "running", "reward_weights": [1.0, 0.3]},
        **{"max_completion_length": 8, "scoring_batch_size": 6, "seed": 4},
        **{"save_strategy": "no", "report_to": "none", "disable_tqdm": True, "use_cpu": True},
    }


def _of_ppo() -> dict[str, Any]:
    return {
        **{"num_mini_batches": 2, "num_ppo_epochs": 3},
        **{"kl_coef": 0.1, "kl_target": 0.5, "kl_horizon": 200.0},
    }


def _of_groups() -> dict[str, Any]:
    return {"num_generations": 4, "generation_batch_size": 16, "num_iterations": 3}


def small_policy() -> LlamaForCausalLM:
    """Return a new policy, as the generator draws it."""
    return LlamaForCausalLM(
        LlamaConfig(
            **{"vocab_size": _VOCABULARY, "hidden_size": 16, "intermediate_size": 24},
            **{"num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 32},
            **{"pad_token_id": _PAD, "eos_token_id": _EOS, "bos_token_id": None},
            initializer_range=0.3,
        )
    )


def _adapter() -> Any:
    from peft import LoraConfig

    return LoraConfig(r=3, target_modules="all-linear", task_type="CAUSAL_LM")


def small_tokenizer() -> PreTrainedTokenizerFast:
    """Return its tokenizer: words t0 (padding), t1 (the end), t2, ..."""
    words = {f"t{number}": number for number in range(_VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="t2"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="t0", eos_token="t1")


def small_prompts(number: int) -> list[dict[str, Any]]:
    """Return prompts, each with a token that pays."""
    ids = [[2 + (3 * row + place) % 10 for place in range(1 + row % 5)] for row in range(number)]
    return [{"input_ids": each, "target": 2 + row % 4} for row, each in enumerate(ids)]


def _with_completion(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with a completion of its own, of which the second token is not learnt."""
    ids = [row["target"], *row["input_ids"][:3], _EOS]
    return {
        **row,
        "completion_ids": ids,
        "completion_mask": [place != 1 for place in range(len(ids))],
    }


def _work(folder: Path, number: int, run: Run, rank: int) -> None:
    """Do a run, as one of its processes."""
    if run.processes > 1:
        from torch import distributed

        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": run.processes}
        names["LOCAL_WORLD_SIZE"] = run.processes
        os.environ.update({name: str(number) for name, number in names.items()})
        # They meet in a file: a port that is free now may be another test's a moment later.
        meeting = f"file://{folder / f'meeting-{number}'}"
        distributed.init_process_group("gloo", meeting, rank=rank, world_size=run.processes)
    torch.save(trained(run), folder / f"left-{number}-{rank}.pt")


def _forked(folder: Path, number: int, run: Run, rank: int) -> int:
    """Start one process of a run; return its id."""
    child = os.fork()
    if child:
        return child
    code = 0
    try:
        _work(folder, number, run, rank)
    except BaseException:  # noqa: BLE001  a child must not go on as its parent
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    os._exit(code)


def main(folder: Path) -> int:
    """Do all runs; return 1 as soon as one fails."""
    gc.freeze()  # each trainer looks for garbage; among what was imported there is none
    for number, given in enumerate(json.loads((folder / "runs.json").read_text())):
        run = Run(**given)
        children = [_forked(folder, number, run, rank) for rank in range(run.processes)]
        states = [os.waitpid(child, 0)[1] for child in children]
        if any(states):
            return 1
    return 0


def slow_unless_usual(names: Iterable[str], usual: Collection[str]) -> list[Any]:
    """Return parameters of which all but the usual ones are marked slow."""
    return [pytest.param(name, marks=() if name in usual else pytest.mark.slow) for name in names]


def only_asked_for(
    request: pytest.FixtureRequest, runs: dict[str, Run], always: Collection[str]
) -> dict[str, Run]:
    """Return the runs that the selected tests of a file have as a parameter, and some always."""
    items: list[Any] = [item for item in request.session.items if item.path == request.path]
    asked = [
        value
        for item in items
        if hasattr(item, "callspec")
        for value in item.callspec.params.values()
    ]
    return {name: run for name, run in runs.items() if name in asked or name in always}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
