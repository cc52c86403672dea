"""Mutations of what is promised about model folders, chat templates and tokens without a row."""

from __future__ import annotations

from tests.mutations.mutation import Mutation

_FOLDERS = ("tests/unit/models/test_model_folders.py",)
_TEMPLATES = ("tests/unit/data/encoding/test_hostile_templates.py",)
_TOKENS = ("tests/unit/models/test_vocabulary.py",)

FOLDERS = [
    Mutation(
        "an index never points outside its folder",
        "pipeline/model_files/tensors.py",
        'if "/" in shard or',
        "if",
        _FOLDERS,
    ),
    Mutation(
        "a chat template gets little memory",
        "pipeline/data/encoding/template.py",
        "with time_limit(RENDER_LIMIT_S), memory_limit():\n            yield",
        "with time_limit(RENDER_LIMIT_S):\n            yield",
        _TEMPLATES,
    ),
    Mutation(
        "errors of the libraries on a broken folder are one line",
        "pipeline/models/foreign.py",
        "SafetensorError, StrictDataclassError),",
        "SafetensorError),",
        _FOLDERS,
    ),
    Mutation(
        "padding without a row becomes a token that has one",
        "pipeline/models/vocabulary.py",
        "if isinstance(pad, int) and pad >= rows:",
        "if False:",
        _TOKENS,
    ),
    Mutation(
        "padding without a row forbids no other token",
        "pipeline/rl/sampling.py",
        "is_known = isinstance(pad, int) and pad < rows",
        "is_known = isinstance(pad, int)",
        _TOKENS,
    ),
    Mutation(
        "a reward model has one output",
        "pipeline/models/reward.py",
        "if module.config.num_labels != 1:",
        "if False:",
        _FOLDERS,
    ),
]
