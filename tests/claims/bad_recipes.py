"""Recipes that are wrong, as a table: what is wrong, as the text of a whole recipe.

Most are a good recipe with one value put in the place of another; below are texts that are no
recipe at all. Each must be refused at a line and column.
"""

from __future__ import annotations

import copy
import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

HUGE = 10**9
GOOD: dict[str, Any] = {
    "name": "small",
    "seed": 1,
    "stages": {
        "words": {"stage": "tokenizer", "data": [{"task": "arithmetic"}], "vocab_size": 300},
        "base": {
            "stage": "pretrain",
            "model": {
                "architecture": "llama",
                "tokenizer": "$words",
                "hidden_size": 32,
                "num_hidden_layers": 2,
            },
            "data": [{"task": "arithmetic"}],
            "tokens": 20_000,
            "sequence_length": 64,
            "batch_size": 8,
            "training_args": {},
        },
        "tuned": {
            "stage": "sft",
            "model": "$base",
            "data": [{"task": "arithmetic", "rows": 100}],
            "batch_size": 8,
            "lora": {"r": 4},
            "training_args": {},
        },
        "pairs": {
            "stage": "dpo",
            "model": "$tuned",
            "data": [{"task": "arithmetic", "rows": 100}],
            "batch_size": 8,
            "training_args": {},
        },
        "ppo": {
            "stage": "ppo",
            "model": "$tuned",
            "prompts": [{"task": "arithmetic", "rows": 10}],
            "reward": [{"verify": "all"}],
            "kl": {"coef": 0.05},
            "batch_size": 8,
            "training_args": {"max_steps": 8, "max_completion_length": 16},
        },
        "scores": {
            "stage": "evaluate",
            "model": "$tuned",
            "tasks": ["arithmetic"],
            "limit": 10,
            "temperature": 1.0,
        },
    },
}
# Where, and what is put there. A place that is not in GOOD is added.
_VALUES: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("name", (None, "", 3, "../../etc", "x" * 101, ["a"])),
    ("seed", (-1, 2**32, 10**30, 1.5, "1", True, math.nan)),
    ("launch", ("ssh", {"with": "accelerate"}, {"processes": 2}, 3)),
    ("launch", ({"with": "accelerate", "config": "/etc/passwd"},)),
    ("launch", ({"with": "accelerate", "config": "/proc/kmsg"},)),
    ("launch", ({"with": "accelerate", "processes": HUGE},)),
    ("roots", ({"a": "x"}, {"here": ["x"]}, "x")),
    ("nonsense", (1,)),
    ("stages", (None, {}, [], "x", {"a": None}, {"a": []})),
    ("stages.words.stage", ("tokeniser", None, 3, [], "")),
    ("stages.words.data", ([], None, "arithmetic", [{"task": "arithmetic", "file": "a.txt"}])),
    ("stages.words.data", ([{"file": "gone.txt"}], [{"file": "/proc/kmsg"}], [{"file": "pipe"}])),
    ("stages.words.data", ([{"file": ""}], [{"file": "\u202e"}], [{"file": "https://x.org/a"}])),
    ("stages.words.data.0.task", ("arithmatic", "x(", "arithmetic(max_digits=-1)", "a.b:c", 3)),
    ("stages.words.vocab_size", (-1, 0, 10, 2 * HUGE, 10**30, 1.5, "many")),
    ("stages.base.model", ("$gone", "$base", "$", "", "../../etc", "./gone", 3, {})),
    ("stages.base.model.architecture", ("lama", "", "../../etc", "x" * 5_000, 3)),
    ("stages.base.model.tokenizer", ("$tuned", "$gone", "/etc/passwd", "", 3)),
    ("stages.base.model.num_hidden_layers", (0, -1, HUGE, 10**30, 2.0, "2", None, True)),
    ("stages.base.model.hidden_size", (0, HUGE, 33, 34.0, "wide", [32])),
    ("stages.base.model.num_attention_heads", (0, 3, HUGE, "x")),
    ("stages.base.model.intermediate_size", (10**12, -1, None)),
    ("stages.base.model.hidden_act", ("swosh", 3, None, ["silu"])),
    ("stages.base.model.torch_dtype", ("float32", "x")),
    ("stages.base.model.attn_implementation", ("flash", "owner/kernel", 3)),
    ("stages.base.model.rms_norm_eps", (-1, math.inf, "small", 10**30)),
    ("stages.base.model.attention_dropout", (1.5, -0.1, "x", {})),
    ("stages.base.model.rope_parameters", ("x", 3, [])),
    ("stages.base.model.initializer_range", (-1, math.nan, [])),
    ("stages.base.model.vocab_size", (300,)),
    ("stages.base.model.auto_map", ({"AutoConfig": "x.X"},)),
    ("stages.base.tokens", (0, 10, 10**15, "4Q", -1)),
    ("stages.base.sequence_length", (0, 1, 10**30, "long")),
    ("stages.base.batch_size", (0, -1, HUGE, 10**30, 1.5)),
    ("stages.base.precision", ("fp8", None, 16)),
    ("stages.base.pin", ("xyz", "0" * 16, 3)),
    ("stages.base.training_args.learning_rate", (-1, "fast", "1e-4", math.nan, 1e39, None, [])),
    ("stages.base.training_args.lr", (0.1,)),
    ("stages.base.training_args.max_steps", (0, -5, 10**30, 1.5)),
    ("stages.base.training_args.num_train_epochs", (0, -1, 1e30, "all")),
    ("stages.base.training_args.optim", ("adam", 3)),
    ("stages.base.training_args.lr_scheduler_type", ("cosinus", [])),
    ("stages.base.training_args.adam_beta1", (1.0, -0.1)),
    ("stages.base.training_args.dataloader_num_workers", (-1, HUGE)),
    ("stages.base.training_args.dataloader_prefetch_factor", (2,)),
    ("stages.base.training_args.output_dir", ("/etc",)),
    ("stages.base.training_args.per_device_train_batch_size", (0, 3, HUGE)),
    ("stages.base.training_args.eval_strategy", ("sometimes", False)),
    ("stages.base.early_stopping", ({"patience": 1}, 3)),
    ("stages.tuned.model", ("$scores", "$words")),
    ("stages.tuned.data", ([{"hub": "../../etc"}], [{"hub": "a/b/c"}], [{"hub": "a--b/c"}])),
    ("stages.tuned.data", ([{"hub": "a/b", "revision": "../x"}], [{"hub": ""}])),
    ("stages.tuned.data", ([{"task": "arithmetic", "rows": HUGE}],)),
    ("stages.tuned.data.0.rows", (0, -1, "all", 10**16)),
    ("stages.tuned.data.0.split", ("test", "trian", 3)),
    ("stages.tuned.data.0.weight", (0, -1, math.inf)),
    ("stages.tuned.data.0.columns", ({"promt": "a"}, ["a"])),
    ("stages.tuned.lora", (True, {"r": 0}, {"rank": 4}, {"r": HUGE}, {"lora_dropout": 1})),
    ("stages.tuned.lora", ({"target_modules": "(q_proj"}, {"init_lora_weights": "pissa"})),
    ("stages.tuned.lora", ({"use_dora": "yes"}, {"modules_to_save": 3}, {"load_in_4bit": 4})),
    ("stages.tuned.training_args.neftune_noise_alpha", (-1, "loud")),
    ("stages.tuned.training_args.max_length", (0, 100_000, "long")),
    ("stages.tuned.training_args.loss_type", ("nl", [])),
    ("stages.pairs.training_args.loss_type", (["sigmoidal"], [], 3)),
    ("stages.pairs.training_args.beta", (0, -1)),
    ("stages.pairs.training_args.loss_weights", ([1.0, 2.0], "x")),
    ("stages.ppo.prompts", ([], None)),
    ("stages.ppo.reward", ([], [{}], [{"verify": "all", "use": "a:b"}], [{"use": "gone:f"}])),
    ("stages.ppo.reward", ([{"model": "$tuned"}], [{"verify": "all", "weight": math.nan}])),
    ("stages.ppo.kl", ({"coef": -1}, {"target": 0}, {"horizon": 3}, {"estimator": "k9"})),
    ("stages.ppo.batch_size", (HUGE, 7.5)),
    ("stages.ppo.critic", ("$words", "nobody")),
    ("stages.ppo.training_args.max_completion_length", (0, HUGE)),
    ("stages.ppo.training_args.gamma", (1.5, -1)),
    ("stages.scores.tasks", ([], None, ["gone"])),
    ("stages.scores.limit", (0, HUGE, -1)),
    ("stages.scores.samples", (0, HUGE)),
    ("stages.scores.shots", ([HUGE], [0], [])),
    ("stages.scores.styles", (["zero shot"], [], ["few-shot", "few-shot"])),
    ("stages.scores.window", (1, HUGE)),
    ("stages.scores.temperature", (-1, math.inf)),
    ("stages.scores.texts", ([{"file": "gone.txt"}], [{"file": "folder.jsonl"}])),
)
_WHOLE = "name: x\nstages:\n  words: {stage: tokenizer, data: [{task: arithmetic}]}\n"
TEXTS: dict[str, bytes] = {
    "nothing": b"",
    "a comment": b"# nothing\n",
    "a list": b"- a\n- b\n",
    "a word": b"hello\n",
    "a tab": b"name: x\nstages:\n\twords: {stage: tokenizer}\n",
    "a key twice": b"name: x\nname: y\nstages: {a: {stage: tokenizer}}\n",
    "a key that is true": b"name: x\non: 1\ntrue: 2\nstages: {}\n",
    "a python tag": b"name: !!python/object/apply:os.system [id]\nstages: {}\n",
    "a merge key": b"name: x\nstages: {a: &a {stage: tokenizer}, b: {<<: *a}}\n",
    "an alias of nothing": b"name: *x\nstages: {}\n",
    "an alias of itself": b"name: x\nstages: &a {b: *a}\n",
    "an alias bomb": b"name: x\na: &a [1,1,1,1,1,1,1,1,1,1]\n"
    + b"".join(
        f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n".encode()
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + b"stages: {}\n",
    "two documents": _WHOLE.encode() + b"---\n" + _WHOLE.encode(),
    "deep brackets": b"name: x\nstages: " + b"[" * 3_000 + b"\n",
    "deep mappings": b"name: x\nstages: " + b"{a: " * 200 + b"}" * 200 + b"\n",
    "an open quote": b'name: "x\nstages: {}\n',
    "an open bracket": b"name: x\nstages: {a: [1, 2\n",
    "no colon": b"name x\nstages: {}\n",
    "an unknown escape": b'name: "\\q"\nstages: {}\n',
    "NUL": _WHOLE.encode() + b"\0",
    "a control character": b"name: x\x01\nstages: {}\n",
    "Latin-1": "name: f\xfcr\n".encode("latin-1"),
    "UTF-16": _WHOLE.encode("utf-16"),
    "a long number": b"name: x\nseed: " + b"9" * 5_000 + b"\nstages: {}\n",
    "many values": b"name: x\nstages: [" + b"1," * 20_000 + b"]\n",
    "a large file": b"# " + b"x" * 2_000_000,
    "a web page": b"<!DOCTYPE html>\n<html></html>\n",
    "JSON of something else": b'{"a": 1}\n',
    "an access token": b"name: x\nstages: {a: {stage: sft, model: hf_" + b"A" * 34 + b"}}\n",
    "a circle": b"name: x\nstages: {a: {stage: merge, model: $b}, b: {stage: merge, model: $a}}\n",
    "a name of 10 kB": b"name: " + b"x" * 10_000 + b"\nstages: {}\n",
    "bytes": bytes(range(256)) * 4,
}


def bad_recipes() -> Iterator[tuple[str, bytes]]:
    """Yield (what is wrong, the recipe's bytes)."""
    yield from TEXTS.items()
    seen: dict[str, int] = {}
    for place, values in _VALUES:
        for value in values:
            seen[place] = seen.get(place, 0) + 1
            yield f"{place} {seen[place]}", written(with_value(place, value))


def with_value(place: str, value: Any) -> dict[str, Any]:
    """Return the good recipe with a value in one place, without the stages that do not need it."""
    recipe = copy.deepcopy(GOOD)
    keys = [int(part) if part.isdigit() else part for part in place.split(".")]
    container: Any = recipe
    for key in keys[:-1]:
        container = container[key]
    container[keys[-1]] = value
    if keys[0] == "stages" and len(keys) > 1:
        needed = {"words", "base", "tuned", keys[1]}
        recipe["stages"] = {key: each for key, each in recipe["stages"].items() if key in needed}
    return recipe


def written(recipe: dict[str, Any]) -> bytes:
    """Return a recipe as YAML, a key a line, so that places tell something."""
    text = json.dumps(recipe, indent=1)
    return text.replace("NaN", ".nan").replace("Infinity", ".inf").encode()
