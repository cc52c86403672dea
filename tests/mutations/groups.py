"""Mutations of the loop around methods without a critic: groups, fresh prompts, checkpoints."""

from __future__ import annotations

from tests.mutations.mutation import Mutation

_SAMPLING, _EXPERIENCE = "pipeline/rl/rollout_sampling.py", "pipeline/rl/experience.py"
_EDGES = ("tests/unit/rl/test_group_edges.py",)
_TRAINERS = ("tests/unit/rl/test_group_trainers.py",)

GROUPS = [
    Mutation(
        "how many prompts a run has drawn is in its checkpoints",
        "pipeline/rl/state.py",
        'self.prompts_drawn = saved["prompts_drawn"]',
        "pass",
        ("tests/unit/rl/test_resume_rollouts.py",),
    ),
    Mutation(
        "rows of a rollout are in one order, whoever sampled them",
        _SAMPLING,
        "Sampled(sorted(rows, key=lambda row: row.number),",
        "Sampled(rows,",
        ("tests/unit/rl/test_group_processes.py",),
    ),
    Mutation(
        "responses to one prompt are compared with each other",
        _EXPERIENCE,
        "row.number // args.group_size",
        "row.number % args.group_size",
        _EDGES,
    ),
    Mutation(
        "responses of a group are drawn by numbers of their own",
        _SAMPLING,
        "drawn[row // size][0] * size + row % size",
        "drawn[row // size][0] * size",
        _TRAINERS,
    ),
    Mutation(
        "responses that are thrown away count as sampled tokens",
        _SAMPLING,
        "tokens += _sampled_tokens(fresh)",
        "pass",
        _EDGES,
    ),
    Mutation(
        "responses that were cut are left out of the loss where asked",
        _EXPERIENCE,
        "mask = mask & has_eos.unsqueeze(-1)",
        "pass",
        _EDGES,
    ),
    Mutation(
        "rows that are masked count in a mean over rows",
        "pipeline/rl/config/grpo.py",
        "counts_empty_rows=True",
        "counts_empty_rows=False",
        _EDGES,
    ),
    Mutation(
        "a rollout is trained on in as many steps as it began with",
        "pipeline/rl/resume_settings.py",
        '"optimizer steps of a pass over them": args.parts_per_rollout,',
        "",
        _EDGES,
    ),
    Mutation(
        "the best checkpoint is loaded at the end, with a critic or without",
        "pipeline/rl/trainer.py",
        "checkpoint.load_weights(Path(str(self.state.best_model_checkpoint)), self.model)",
        "pass",
        _EDGES,
    ),
]
