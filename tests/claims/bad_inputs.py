"""G5: whatever is wrong with a recipe, a data file or a model's folder is one line, said soon.

Exit code 2 (4 for torn files), the place, what is wrong and what to do; no traceback, nothing in
the store, and torch is imported only for what bytes alone cannot tell of a model.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import re
import shutil
import tempfile
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.claims.bad_data import BAD_DATA, FOLDER_RECIPE, recipe_of, write_data
from tests.claims.bad_recipes import bad_recipes
from tests.claims.claim import Case, Claim, Outcome
from tests.claims.without_torch import Answered, posttrain
from tests.hostile_folders import HOSTILE, NEED_LIBRARIES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from tests.hostile_adapters import Hostile

_RECIPES = 200
_FOLDERS = 100
_LIMIT_S = 1.0  # of the processor: other work on the machine does not count
_PLACE = re.compile(r"recipe\.yaml:[0-9]+:[0-9]+: ")


def bad_inputs(random: Random, times: int) -> Sequence[Case]:
    """Return recipes and folders drawn from the tables, and every data file."""
    recipes = list(bad_recipes())
    drawn = random.sample(recipes, min(_RECIPES * times, len(recipes)))
    folders = random.sample(HOSTILE, min(_FOLDERS * times, len(HOSTILE)))
    return [
        *(Case(f"recipe: {name}", partial(_recipe, content)) for name, content in drawn),
        *(Case(f"data: {each.name}", partial(_data, each.name)) for each in BAD_DATA.values()),
        *(Case(f"folder: {each.name}", partial(_folder, each)) for each in folders),
    ]


def _recipe(content: bytes, folder: Path) -> Outcome:
    (folder / "recipe.yaml").write_bytes(content)
    write_data(folder)
    answered = posttrain("plan", "recipe.yaml", "--runs", "runs", folder=folder)
    problems = _problems(answered, folder)
    if not problems and not _PLACE.match(answered.errors):
        problems = [f"no line and column: {answered.errors[:200]}"]
    if answered.processor_s > _LIMIT_S:
        problems.append(f"took {answered.processor_s:.1f} s")
    return Outcome(failures=tuple(problems), labels={"recipes": 1})


def _data(name: str, folder: Path) -> Outcome:
    bad = BAD_DATA[name]
    write_data(folder)
    bad.put(folder)
    (folder / "recipe.yaml").write_text(recipe_of(bad))
    answered = posttrain("check", "recipe.yaml", "--runs", "runs", folder=folder)
    problems = _problems(answered, folder)
    if not problems and not re.match(bad.says, answered.errors):
        problems = [f"not {bad.says!r}: {answered.errors[:200]}"]
    return Outcome(failures=tuple(problems), labels={"data files": 1})


def _folder(case: Hostile, folder: Path) -> Outcome:
    broken = folder / "model"
    shutil.copytree(made_models() / ("adapter" if case.kind == "adapter" else "whole"), broken)
    case.change(broken)
    labels = {"model folders": 1}
    if case.name in NEED_LIBRARIES or case.kind == "reward":
        return Outcome(failures=tuple(_loaded(case, broken)), labels=labels)
    (folder / "recipe.yaml").write_text(FOLDER_RECIPE)
    (folder / "rows.jsonl").write_text('{"prompt": "a", "completion": " b"}\n' * 20)
    answered = posttrain("check", "recipe.yaml", "--runs", "runs", folder=folder)
    problems = _problems(answered, folder, (2, 4))
    return Outcome(failures=tuple(problems), labels=labels)


def _problems(answered: Answered, folder: Path, codes: tuple[int, ...] = (2,)) -> list[str]:
    """Return what is not as promised."""
    if answered.code is None:
        return ["never ended"]
    if answered.code == 0:
        return [f"was taken: {answered.output[-200:]}"]
    said = answered.errors
    found = [f"imported {name}" for name in answered.imported]
    if answered.code not in codes:
        found.append(f"exit code {answered.code}: {said[-300:]}")
    elif said.count("\n") != 1 or not said.endswith("\n"):
        found.append(f"not one line: {said[:300]!r}")
    elif not re.fullmatch(r"\S.*: .+; .+\n", said):
        found.append(f"does not say where, what and what to do: {said[:300]}")
    if (folder / "runs").exists():
        found.append("wrote into the store")
    return found


def _loaded(case: Hostile, broken: Path) -> list[str]:
    """Load a folder as a stage would, which takes the libraries; return what is not as promised."""
    from pipeline.config.stage import StageInput
    from pipeline.errors import PosttrainError
    from pipeline.models.load import load_policy, load_tokenizer
    from pipeline.models.reward import load_reward_model

    source = StageInput("the model", "policy", str(broken))
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            (load_reward_model if case.kind == "reward" else load_policy)(source)
            load_tokenizer(source)
    except PosttrainError as error:
        line = str(error)
        is_right = error.exit_code in (2, 4) and case.says in line and "\n" not in line
        return [] if is_right else [f"exit code {error.exit_code}: {line}"]
    return ["was loaded"]


@cache
def made_models() -> Path:
    """Return a folder with a whole model and an adapter of it, made once for each process."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    from tests.small_folders import small_tokenizer

    made, owner = Path(tempfile.mkdtemp(prefix="posttrain-claim-models-")), os.getpid()
    atexit.register(lambda: os.getpid() == owner and shutil.rmtree(made, ignore_errors=True))
    tokenizer = small_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(made / "whole")
    module = LlamaForCausalLM.from_pretrained(made / "whole")
    peft = get_peft_model(module, LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    peft.save_pretrained(made / "adapter")
    for name in ("whole", "adapter"):
        tokenizer.save_pretrained(made / name)
    return made


CLAIM = Claim(
    "G5",
    "what is wrong with an input is one line: where, what, what to do; nothing is written",
    bad_inputs,
    least=300,
)
