"""Bad `rollout:` blocks through the command: exit code 2 and one line that points at its place.

The mark ‸ in a text is where its error must point; `...` in a sentence is anything.
"""

from pathlib import Path

import pytest

from pipeline.plan.plan import make
from pipeline.recipe.load import load
from pipeline.store.store import Store
from tests.command import Command, is_like, refuse_heavy_imports, the_line
from tests.recipes.test_bad_recipes import expected

RECIPE = """\
name: bad
stages:
  tokenizer: {stage: tokenizer, data: {task: arithmetic}, vocab_size: 300}
  base:
    stage: pretrain
    model: {architecture: llama, tokenizer: $tokenizer, hidden_size: 64, num_hidden_layers: 2}
    data: [{task: arithmetic}]
    tokens: 20k
    sequence_length: 64
  grpo:
    stage: grpo
    model: $base
    prompts: {task: arithmetic}
    reward: {verify: all}
    lora: {r: 4}
    rollout: {engine: vllm, url: "http://127.0.0.1:8000"}
    training_args: {max_completion_length: 8}
  ppo:
    stage: ppo
    model: $base
    prompts: {task: arithmetic}
    reward: {verify: all}
    rollout: {engine: vllm, python: ./vllm-python, server_args: {max-num-seqs: 8}}
    training_args: {max_completion_length: 8, num_mini_batches: 2}
  asked:
    stage: evaluate
    model: $base
    tasks: arithmetic
    answers: {engine: vllm, python: ./vllm-python}
"""
ANSWERS = "answers: {engine: vllm, python: ./vllm-python}"
URL = 'rollout: {engine: vllm, url: "http://127.0.0.1:8000"}'
START = "rollout: {engine: vllm, python: ./vllm-python, server_args: {max-num-seqs: 8}}"
LORA = "lora: {r: 4}"
GROUPS = "training_args: {max_completion_length: 8}"
PPO_ARGS = "training_args: {max_completion_length: 8, num_mini_batches: 2}"
EDITS = [
    (START, "rollout: {engine: ‸vlm}", "`engine` is `vlm`, not `own`, `generate` or `vllm`; did"),
    (START, "rollout: {engine: vllm, ‸adress: x}", "unknown key `adress`"),
    (START, "rollout: {engine: ‸vllm}", "vLLM is not installed beside posttrain; write `python:`"),
    (START, "rollout: {engine: vllm, python: ‸./nowhere}", "`./nowhere` is no program; name the"),
    (START, "rollout: {python: ‸./vllm-python}", "`python` is for `engine: vllm`; write that, or"),
    (START, "rollout: {engine: vllm, url: 'http://a', python: ‸./vllm-python}",
     "`python` is for a server that posttrain starts, and `url` is of one that runs; leave one"),
    (START, "rollout: {engine: vllm, url: ‸'http://me:secret@a'}", "the address holds more than"),
    (START, "rollout: {engine: vllm, python: ./vllm-python, key: ‸KEY}", "`key` is for a server"),
    (START, "‸rollout: {engine: vllm, python: ./vllm-python, server_args: {dtype: half}}",
     "`dtype` cannot be set in `server_args`: it is the stage's `precision`"),
    (START, "rollout: {engine: vllm, python: ./vllm-python, sends: ‸adapter}",
     "there is no adapter to send, since all weights are trained; write `lora: {r: 16}`"),
    (START, "rollout: {engine: vllm, python: ./vllm-python, max_gap: ‸0}", "`max_gap` is 0; it"),
    (URL, f"{URL}\n    tools: ‸[calculator]", "tools are not called with `engine: vllm`; write"),
    (URL, URL.replace("vllm", "‸vllm") + "\n    launch: {with: accelerate, processes: 2}",
     "a stage has one process, and `launch` says 2; leave `processes` out"),
    (LORA, "lora: {r: 4, load_in_4bit: ‸true}", "4-bit weights have other log-probabilities"),
    (LORA, "lora: {r: 4, modules_to_save: ‸[embed_tokens]}", "trains weights as a whole, which"),
    (GROUPS, "training_args: {reuse_rollout_logprobs: ‸true, max_completion_length: 8}",
     "vLLM's log-probabilities are not the policy's own"),
    (GROUPS, "training_args: {loss_type: ‸vespo, max_completion_length: 8}",
     "`loss_type` vespo has a weight of its own for whole responses; write `vllm_importance_sa"),
    (ANSWERS, "answers: {engine: ‸generate}", "`engine` is `generate`, not `own` or `vllm`"),
    (ANSWERS, "answers: {engine: ‸vllm}", "vLLM is not installed beside posttrain; write `pyt"),
    (ANSWERS, "answers: {engine: vllm, python: ‸nowhere}", "`nowhere` is no program; name the"),
    (ANSWERS, "answers: {python: ‸./vllm-python}", "`python` is for `engine: vllm`; write that"),
    (ANSWERS, f"{ANSWERS}\n    tools: [calculator]", "tools are not called with `answers: {en"),
    (PPO_ARGS, "training_args: {‸rollout_engine: vllm}", "cannot be set in `training_args`; write"),
    (PPO_ARGS, "training_args: {‸vllm_mode: server}", "PPOConfig has no field `vllm_mode`"),
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a good recipe, and a program that could be a Python with vLLM."""
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "vllm-python").write_text("#!/bin/sh\n")
    (tmp_path / "vllm-python").chmod(0o755)
    return tmp_path


def test_the_recipe_that_the_cases_spoil_is_good(
    folder: Path, posttrain: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_heavy_imports(monkeypatch)
    said = posttrain("plan", "recipe.yaml")
    assert said.code == 0, said


@pytest.mark.parametrize(("old", "new", "words"), EDITS, ids=[case[1] for case in EDITS])
def test_a_bad_rollout_block_gives_one_line_that_points_at_its_place(
    folder: Path, posttrain: Command, old: str, new: str, words: str
) -> None:
    assert RECIPE.count(old) == 1
    marked = RECIPE.replace(old, new)
    (folder / "recipe.yaml").write_text(marked.replace("‸", ""))
    line = the_line(posttrain("plan", "recipe.yaml"))
    assert is_like(line, expected(marked, words)), line


def test_where_and_how_a_server_runs_is_no_part_of_what_is_computed(
    folder: Path,
) -> None:
    """The engine is; and a stage from before there was a choice is what it was."""

    def fingerprint(text: str) -> str:
        (folder / "recipe.yaml").write_text(text)
        recipe = load(folder / "recipe.yaml")
        return make(recipe, Store(folder / "runs")).stage("ppo").fingerprint

    first = fingerprint(RECIPE)
    elsewhere = RECIPE.replace(START, 'rollout: {engine: vllm, url: "http://b:1", max_gap: 0.1}')
    assert fingerprint(elsewhere) == first
    own = fingerprint(RECIPE.replace(START, "rollout: {engine: own}"))
    assert own != first
    assert fingerprint(RECIPE.replace(f"    {START}\n", "")) == own
