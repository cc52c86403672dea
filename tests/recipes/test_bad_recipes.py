"""Bad recipes through the command: exit code 2 and one line that names place, fault and remedy.

The mark ‸ in a text is where its error must point, `...` in a sentence is anything.
"""

import os
import random
import re
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.command import Command, is_like, the_line

RECIPE = """\
name: bad
seed: 3
stages:
  tokenizer:
    stage: tokenizer
    data: {task: arithmetic}
    vocab_size: 300
  base:
    stage: pretrain
    model: {architecture: llama, tokenizer: $tokenizer, hidden_size: 32, num_hidden_layers: 2}
    data: [{task: arithmetic}]
    tokens: 20k
    sequence_length: 64
    batch_size: 8
  sft:
    stage: sft
    model: $base
    data: [{task: arithmetic, rows: 160}]
    training_args: {learning_rate: 1e-3}
  answers:
    stage: evaluate
    model: $sft
    tasks: arithmetic
    limit: 7
"""
SFT_DATA = "[{task: arithmetic, rows: 160}]"
SFT_ARGS = "{learning_rate: 1e-3}"
NEW_MODEL = "{architecture: llama, tokenizer: $tokenizer, hidden_size: 32, num_hidden_layers: 2}"

# what is wrong, the part of RECIPE that is replaced, what stands there instead, what must be said
EDITS = [
    # stages and references
    ("unknown kind", "stage: sft", "stage: ‸sftt", "unknown stage kind `sftt`; did you mean `sft`?"),
    ("foreign kind", "stage: sft", "stage: ‸orpo", "there are tokenizer, adopt, pretrain, sft"),
    ("kind is a numbe", "stage: sft", "stage: ‸3", "`stage` is not the name of a kind; kinds are"),
    ("no kind", "  sft:\n    stage: sft\n", "  ‸sft:\n", "`sft` does not say which kind of stage"),
    ("empty kind", "  sft:\n    stage: sft", "  ‸sft:\n    stage:", "write `stage: KIND`; kinds are"),
    ("dangling", "model: $base", "model: ‸$bsae", "there is no stage `bsae`; did you mean `base`?"),
    ("dangling, unlike any", "model: $base", "model: ‸$q", "stages are tokenizer, base, sft, ans"),
    ("bare dolla", "model: $base", "model: ‸$", "`$` needs the name of a stage after it"),
    ("no dolla", "model: $base", "model: ‸base", "neither a folder nor a hub id; ... `$base`"),
    ("no such folde", "model: $base", "model: ‸./nowhere", "there is no folder `./nowhere`"),
    ("circle", "model: $base\n    data", "model: ‸$sft\n    data", "in a circle: sft -> sft"),
    ("long circle", "tokenizer: $tokenize", "tokenizer: $sft", "circle: base -> sft -> base"),
    ("wrong kind of input", "model: $base", "model: ‸$tokenize",
     "`$tokenizer` gives a tokenizer, here a model is needed; that is `$base`"),
    ("evaluation as tokenize", "tokenizer: $tok", "tokenizer: ‸$answers # $tok", "gives a evaluat"),
    ("stage name", "  answers:", "  ‸'my answers':", "`my answers` cannot be a name; use letters"),
    ("stage is a word", "  answers:", "  more: ‸sft\n  answers:", "`more` is `sft`, not a mapping"),
    # keys
    ("misspelt key", "batch_size: 8", "‸batchsize: 8", "`batchsize`; did you mean `batch_size`?"),
    ("misspelt needed key", "tokens: 20k", "‸token: 20k", "`token`; did you mean `tokens`?"),
    ("misspelt top key", "seed: 3", "‸sede: 3", "unknown key `sede`; did you mean `seed`?"),
    ("unheard-of key", "limit: 7", "‸zzz: 7", "unknown key `zzz`; there are stage, seed, launch"),
    ("needed key missing", "  base:", "  ‸base:", "`tokens:` is missing in `base`", "    tokens: 20k\n"),
    ("key of training_args", "    training_args", "    ‸learning_rate: 1\n    training_args",
     "write it below `training_args:`, it is a field of SFTConfig"),
    ("block key", "rows: 160", "‸row: 160", "unknown key `row`; did you mean `rows`?"),
    # training_args
    ("misspelt argument", SFT_ARGS, "{‸learning_rte: 1}", "did you mean `learning_rate`?"),
    ("argument by another name", SFT_ARGS, "{‸lr: 1}", "no field `lr`; did you mean `learning_rate`?"),
    ("unheard-of argument", SFT_ARGS, "{‸qqq: 1}", "no field `qqq`; `posttrain schema` names all"),
    ("argument of the stage", SFT_ARGS, "{‸batch_size: 1}", "write it on the stage"),
    ("quoted numbe", SFT_ARGS, '{‸learning_rate: "1e-4"}', "not a number; write it without quotes"),
    ("word for a numbe", SFT_ARGS, "{‸max_steps: ten}", "`max_steps` is `ten`, not a whole numbe"),
    ("half a step", SFT_ARGS, "{‸max_steps: 1.5}", "`max_steps` is 1.5, not a whole numbe"),
    ("no steps", SFT_ARGS, "{‸max_steps: 0}", "`max_steps` is 0; it must be above 0"),
    ("no epochs", SFT_ARGS, "{‸num_train_epochs: 0}", "it must be above 0"),
    ("negative rate", SFT_ARGS, "{‸learning_rate: -1e-3}", "`learning_rate` is -0.001; it must not"),
    ("infinite rate", SFT_ARGS, "{‸learning_rate: .inf}", "is inf; write a finite numbe"),
    ("no length", SFT_ARGS, "{‸max_length: null}", "`max_length` is empty; write a number above 0"),
    ("derived argument", SFT_ARGS, "{‸gradient_accumulation_steps: 2}", "global `batch_size`"),
    ("precision as argument", SFT_ARGS, "{‸bf16: true}", "write `precision: fp32 | bf16 | fp16`"),
    ("place as argument", SFT_ARGS, "{‸output_dir: x}", "the store decides where a stage writes"),
    ("arguments are a word", SFT_ARGS, "‸fast", "`training_args` is `fast`, not a mapping"),
    ("arguments are empty", f" {SFT_ARGS}", "", "`training_args` is empty, not a mapping"),
    ("too long for the model", SFT_ARGS, "{max_length: ‸5000}",
     "`max_length` 5000 is beyond the 1024 positions of `$base`; lowe"),
    # sizes
    ("vocabulary", "vocab_size: 300", "vocab_size: ‸261", "`vocab_size` 261 is below 262: 256 bytes"),
    ("heads", "hidden_size: 32", "hidden_size: ‸32, num_attention_heads: 5",
     "`hidden_size` 32 is not a multiple of 5 heads; change it"),
    ("positions", "hidden_size: 32", "hidden_size: 32, max_position_embeddings: 32", "beyond max_pos"),
    ("layers", "num_hidden_layers: 2", "num_hidden_layers: ‸0", "is 0, not a whole number above 0"),
    ("quoted size", "hidden_size: 32", "hidden_size: ‸'32'", "is '32', not a whole number above 0"),
    ("named size", "hidden_size: 32", "size: ‸2M", "`size` 2M is not known; sizes are 1M, 5M"),
    ("architecture", "llama", "‸lama", "no causal model of transformers; did you mean `llama`?"),
    ("architecture missing", "{architecture: llama, ", "‸{", "`architecture:` is missing in `model`"),
    ("architecture a numbe", "llama", "‸7", "`architecture` is 7, not text; quote it"),
    ("config field", "hidden_size: 32", "hiden_size: ‸32", "`hiden_size` is no config field of llama"),
    ("vocabulary of a model", "hidden_size: 32", "vocab_size: ‸9", "it comes from the tokenize"),
    ("model is a list", NEW_MODEL, "‸[llama]", "`model` is a list, not a mapping or text; its keys"),
    ("less than a step", "tokens: 20k", "tokens: ‸100", "`tokens` 100 is less than one step of batch"),
    ("not a count", "tokens: 20k", "tokens: ‸20 k", "`20 k` is not a count; write for example"),
    ("no tokens", "tokens: 20k", "tokens: ‸0", "`tokens` is 0; it must be above 0"),
    ("empty batch", "batch_size: 8", "batch_size: ‸0", "`batch_size` is 0; it must be above 0"),
    ("quoted batch", "batch_size: 8", "batch_size: ‸'8'", "not a whole number; write it without quot"),
    ("precision", "batch_size: 8", "precision: ‸bf-16", "is `bf-16`, not ...; did you mean `bf16`?"),
    ("seed", "seed: 3", "seed: ‸-1", "`seed` is -1; it must be at least 0"),
    ("name", "name: bad", "name: ‸my/recipe", "`my/recipe` cannot be `name`; use letters, digits"),
    ("numeric name", "name: bad", "name: ‸2024", "`name` is 2024, not text; quote it"),
    # data and tasks
    ("two sources", SFT_DATA, "[‸{task: facts, file: a.txt}]", "exactly one of ... `task` and `file`"),
    ("no source", SFT_DATA, "[‸{rows: 160}]", "exactly one of ... this has none of them"),
    ("no blocks", SFT_DATA, "‸[]", "`data` is empty; write at least one"),
    ("data is a word", SFT_DATA, "‸facts", "`data` is `facts`, not a mapping; its keys are task, fi"),
    ("weight", "rows: 160", "weight: ‸0", "`weight` is 0; it must be above 0"),
    ("holdout", SFT_DATA, "[{file: a.txt, holdout: ‸1.0}]", "`holdout` is 1.0; it must be below 1"),
    ("form", SFT_DATA, "{file: a.jsonl, form: ‸chats}", "not ...; did you mean `chat`?"),
    ("column", SFT_DATA, "{file: a.jsonl, columns: {‸promt: q}}", "did you mean `prompt`?"),
    ("columns of a task", "rows: 160", "columns: ‸{prompt: q}", "no meaning for a `task` source; le"),
    ("test split", "rows: 160", "split: ‸test", "`test` is for evaluation only; use train or valid"),
    ("test split of the hub", SFT_DATA, "{hub: a/b, split: ‸'test[:5]'}", "is for evaluation only"),
    ("unknown split", "rows: 160", "split: ‸valid", "no split `valid`; did you mean `validation`?"),
    ("unknown task", "arithmetic, rows", "‸arithmetik, rows", "did you mean `arithmetic`?"),
    ("unknown task to ask", "tasks: arithmetic", "tasks: [‸poetry]", "unknown task `poetry`; built"),
    ("own task missing", "tasks: arithmetic", "tasks: ‸mine:Task", "no file mine.py beside the rec"),
    ("nothing to ask", "  answers:", "  ‸answers:", "nothing to measure: name `tasks` or `texts`",
     "    tasks: arithmetic\n"),
    ("missing file", SFT_DATA, "{file: ‸nowhere.jsonl}", "`nowhere.jsonl` does not exist; looked"),
    ("misspelt file", SFT_DATA, "{file: ‸chat.jsonl}", "not exist; did you mean `chats.jsonl`?"),
    ("folder as file", SFT_DATA, "{file: ‸folder}", "`folder` is a folder, not a file"),
    ("web address", SFT_DATA, "{file: 'https://x.org/a.jsonl'}", "is a web address, not a path; do"),
    ("unknown root", SFT_DATA, "{file: ‸real:a.jsonl}", "there is no root `real:`; known: none"),
    # the rest
    ("pin", "limit: 7", "pin: ‸0123456789abcdef", "not the pinned 0123456789abcdef; `posttrain why"),
    ("pin is no fingerprint", "limit: 7", "pin: ‸latest", "`latest` cannot be `pin`; write the fin"),
    ("launche", "seed: 3", "launch: ‸slurm", "`launch` is `slurm`, not `in_process`, `python` o"),
    ("processes alone", "seed: 3", "launch: {with: python, processes: ‸2}", "need `with: accelerate"),
    ("no launch file", "seed: 3", "launch: {with: accelerate, config: ‸x.yaml}", "no file `x.yaml`"),
    ("root name", "seed: 3", "roots: {‸r: data}", "`r` cannot be a name; use two or more letters"),
    ("token", SFT_ARGS, "{hub_token: ‸hf_" + "aB3" * 12 + "}", "this looks like an access token; tak"),
]  # fmt: skip

# what is wrong, the whole file, what must be said
FILES: list[tuple[str, str | bytes, str]] = [
    ("empty", "‸", "the file is empty; a recipe has `name:` and `stages:`"),
    ("only a comment", "# later\n", "the file is empty"),
    ("a list", "‸- a\n", "a recipe is a mapping with `name:` and `stages:`, this is a list"),
    ("a word", "‸hello", "this is text; write `key: value` lines"),
    ("no name", "‸stages: {a: {stage: sft}}", "`name:` is missing in the recipe"),
    ("no stages", "‸name: x\n", "`stages:` is missing in the recipe"),
    ("stages empty", "name: x\nstages: ‸{}\n", "`stages` is empty; write at least one"),
    ("stages a list", "name: x\nstages: ‸[sft]\n", "`stages` is a list, not a mapping"),
    ("a tab", "name: x\nstages:\n‸\ta: {stage: sft}\n", "a tab is not allowed here; use spaces"),
    ("twice a key", "name: x\n‸name: y\n", "the key `name` is already in line 1; keep one"),
    ("indentation", "name: x\n ‸seed: 3\n", "check the indentation"),
    ("open bracket", "name: x\nstages: ‸{a: {stage: sft}\n", "the bracket is never closed with }"),
    ("open quote", "name: ‸'x\nstages: {}\n", "this quote is never closed"),
    ("a Python tag", "name: ‸!!python/object/apply:os.system ['true']\n", "tags ... are not allowed"),
    ("a merge key", "name: x\nstages: {‸<<: {}}\n", "merge keys (`<<`) are not allowed"),
    ("an alias bomb", "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in ["ab", "bc", "cd", "de", "ef"]),
     "more than 10,000 values ... aliases written out"),
    ("deep nesting", "name: " + "[" * 3_000, "nested deeper than 40 levels; flatten it"),
    ("UTF-16", RECIPE.encode("utf-16"), "the file is UTF-16; save the file as UTF-8 text"),
    ("Latin-1", b"name: f\xfcnf\n", "byte 0xfc is not UTF-8; save the file as UTF-8"),
    ("a NUL byte", b"name: x\0\n", "the file contains a NUL byte"),
    ("an escape sequence", b"name: \x1b[31mx\n", "control character U+001B in the text; delete it"),
    ("100 MB", b"# x\n" * 25_000_000, "the file is larger than 1,000,000 bytes; is this a recipe?"),
]  # fmt: skip

# the command line, the whole line that is said
COMMANDS = [
    ("plan nowhere.yaml", "nowhere.yaml: no such file; check the recipe's path"),
    ("plan folde", "folder: this is a folder; name the recipe file in it"),
    ("plan pipe", "pipe: this is not a regular file; ..."),
    ("plan recipe.yaml --set stages.sft", "--set stages.sft: this is not of the form a.b=value; "
     "write `--set stages.NAME.FIELD=VALUE`"),
    ("plan recipe.yaml --set stages.sft.modle=x",
     "--set stages.sft.modle: unknown key `modle`; did you mean `model`?"),
    ("plan recipe.yaml --set stages.stf.limit=2",
     "--set stages.stf.limit: there is no stage `stf`; did you mean `sft`?"),
    ("plan recipe.yaml --set stages.sft.data.7.rows=2",
     "--set stages.sft.data.7.rows: `stages.sft.data` has no item `7`; count from 0 to 0"),
    ("plan recipe.yaml --set seed=-3", "--set seed: `seed` is -3; it must be at least 0"),
    ("plan recipe.yaml --set seed=[", "--set seed: ..."),
    ("plan recipe.yaml --root real", "--root: `real` is not NAME=DIR; write --root real=data"),
    ("plan recipe.yaml --root real=nowhere", "--root: `nowhere` is not a folder; give the ..."),
    ("plan recipe.yaml --root r=folde", "--root: `r` cannot be a name; use two or more ..."),
    ("plan recipe.yaml --runs recipe.yaml", "--runs: `recipe.yaml` is a file; name a folder ..."),
    ("run recipe.yaml --stage sfft", "recipe.yaml: there is no stage `sfft`; did you ... `sft`?"),
    ("run recipe.yaml --from end", "recipe.yaml: there is no stage `end`; stages are tokenizer,..."),
    ("run recipe.yaml --until bse", "recipe.yaml: there is no stage `bse`; did you mean `base`?"),
    ("run recipe.yaml --stage sft", "recipe.yaml: `sft` is built on `base`, which has not run; ..."),
    ("why recipe.yaml sfft", "recipe.yaml: there is no stage `sfft`; did you mean `sft`?"),
    ("logs recipe.yaml sft", "recipe.yaml: `sft` has written no log.txt yet"),
    ("adopt recipe.yaml sft folde", "folder: has no config.json; give the folder of a saved ..."),
    ("adopt recipe.yaml answers folde", "folder: `answers` gives a evaluation, not a model"),
    ("check recipe.yaml --show-mask base", "recipe.yaml:9:12: --show-mask shows sft stages, and "
     "`base` is of the kind pretrain; there is sft"),
    ("check recipe.yaml --show-mask sft", "recipe.yaml:17:12: `base` has not run yet, so there is "
     "no tokenizer ...; first `posttrain run recipe.yaml --until base`"),
    ("check recipe.yaml --rows 0", "posttrain check: invalid value for '--rows': ..."),
    ("list taks", "list: cannot list `taks`; did you mean `tasks`?"),
    ("rnu recipe.yaml", "posttrain: no such command 'rnu'...'run'...; see `posttrain --help`"),
    ("run recipe.yaml --stge sft", "posttrain run: no such option: --stge...--stage..."),
    ("plan", "posttrain plan: missing argument 'RECIPE'; see `posttrain plan --help`"),
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a good recipe and what the cases name."""
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "folder").mkdir()
    (tmp_path / "chats.jsonl").write_text("{}\n")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


def place_of(marked: str) -> str:
    """Return `line:column` of the mark."""
    before = marked[: marked.index("‸")]
    return f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"


@pytest.mark.parametrize("case", EDITS, ids=[case[0] for case in EDITS])
def test_a_bad_recipe_gives_one_line_that_points_at_its_place(
    folder: Path, posttrain: Command, case: tuple[str, ...]
) -> None:
    _, old, new, words, *without = case
    assert RECIPE.count(old) == 1
    marked = RECIPE.replace(old, new)
    for text in without:
        assert marked.count(text) == 1
        marked = marked.replace(text, "")
    (folder / "recipe.yaml").write_text(marked.replace("‸", ""))
    line = the_line(posttrain("plan", "recipe.yaml"))
    place = place_of(marked) if "‸" in marked else "..."
    assert is_like(line, f"recipe.yaml:{place}: ...{words}..."), line


@pytest.mark.parametrize(
    ("content", "words"), [case[1:] for case in FILES], ids=[case[0] for case in FILES]
)
def test_a_file_that_is_no_recipe_gives_one_line(
    folder: Path, posttrain: Command, content: str | bytes, words: str
) -> None:
    marked = content if isinstance(content, str) else ""
    text = content.encode() if isinstance(content, str) else content
    (folder / "recipe.yaml").write_bytes(text.replace("‸".encode(), b""))
    line = the_line(posttrain("plan", "recipe.yaml"))
    place = place_of(marked) if "‸" in marked else "..."
    assert is_like(line, f"recipe.yaml:{place}: ...{words}..."), line


@pytest.mark.parametrize(("arguments", "words"), COMMANDS, ids=[case[0] for case in COMMANDS])
def test_a_bad_command_line_gives_one_line(
    folder: Path, posttrain: Command, arguments: str, words: str
) -> None:
    line = the_line(posttrain(*arguments.split()))
    assert is_like(line, words), line
    assert not (folder / "runs").exists()
