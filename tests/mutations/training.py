"""What training promises, broken."""

from tests.mutations.mutation import Mutation

TRAINING = [
    Mutation(
        "batch_size means the same however it is split: no epoch's rest",
        "pipeline/training/rows.py",
        "self._length = num_rows - num_rows % group",
        "self._length = num_rows",
        ("tests/invariants/test_batch_split.py",),
    ),
    Mutation(
        "batch_size is global; accumulation is derived",
        "pipeline/config/batch.py",
        "share, rest = divmod(batch_size, world_size)",
        "share, rest = divmod(batch_size, 1)",
        ("tests/stages/test_launch.py",),
    ),
    Mutation(
        "packed documents do not see each other",
        "pipeline/data/encoding/packing.py",
        'return {**batch, "use_cache": False}',
        'return {**batch, "use_cache": True}',
        ("tests/unit/data/encoding/test_packing.py",),
    ),
    Mutation(
        "a packed document's first token is not predicted from another's last",
        "pipeline/data/encoding/packing.py",
        "labels[at + 1 : end] = ids[at + 1 : end]",
        "labels[at:end] = ids[at:end]",
        ("tests/unit/data/encoding/test_packing.py",),
    ),
    Mutation(
        "rows in bins do not see each other",
        "pipeline/training/bins.py",
        "positions[line, place] = torch.arange(lengths[number])",
        "positions[line, place] = torch.arange(start, start + lengths[number])",
        ("tests/unit/training/test_bins.py",),
    ),
    Mutation(
        "the loss is on the response only",
        "pipeline/data/encoding/tokens.py",
        "[False] * len(before) + [True] * len(after)",
        "[True] * len(before) + [True] * len(after)",
        ("tests/unit/data/encoding/test_examples.py",),
    ),
    Mutation(
        "text in your data never becomes a control token",
        "pipeline/data/encoding/tokens.py",
        "split_special_tokens=True",
        "split_special_tokens=False",
        ("tests/unit/data/encoding/test_chat.py", "tests/unit/data/encoding/test_examples.py"),
    ),
    Mutation(
        "held-out loss is a mean over tokens, whatever the batch size of evaluation",
        "pipeline/training/token_means.py",
        'output.metrics[f"{metric_key_prefix}_loss"] = total / number if number else float("nan")',
        "pass",
        ("tests/unit/training/test_token_means.py",),
    ),
    Mutation(
        "rows that are too long are counted",
        "pipeline/data/encoding/examples.py",
        "num_dropped_too_long=counts[TOO_LONG],",
        "num_dropped_too_long=0,",
        ("tests/unit/data/encoding/test_examples.py",),
    ),
    Mutation(
        "a loss or gradient that is not finite stops the stage",
        "pipeline/training/supervisor.py",
        "if not bool(torch.isfinite(norm)) or not bool(torch.isfinite(loss).all()):",
        "if False:",
        ("tests/stages/test_watching.py",),
    ),
    Mutation(
        "metrics of a resumed run are those of an uninterrupted one",
        "pipeline/training/supervisor.py",
        "setattr(self._trainer, name, _from_json(saved[name], current))",
        "_from_json(saved[name], current)",
        ("tests/stages/test_kills.py", "tests/stages/test_resume.py"),
    ),
    Mutation(
        "code in model repositories is never run",
        "pipeline/model_files/folder.py",
        'if content.get("auto_map"):',
        "if False:",
        ("tests/unit/models/test_model_folders.py",),
    ),
    Mutation(
        "pickled weights are never loaded",
        "pipeline/models/load.py",
        "use_safetensors=True",
        "use_safetensors=None",
        ("tests/unit/models/test_model_folders.py",),
    ),
]
