"""Bad recipes through the command: exit code 2 and one line that names place, fault and remedy.

The mark ‸ in a text is where its error must point; `...` in a sentence is anything.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
MODEL = "{architecture: llama, tokenizer: $tokenizer, hidden_size: 32, num_hidden_layers: 2}"
DATA = "[{task: arithmetic, rows: 160}]"
ARGS = "{learning_rate: 1e-3}"
BASE = "model: $base"
KIND = "stage: sft"
WIDTH = "hidden_size: 32"
BATCH = "batch_size: 8"
LIMIT = "limit: 7"

# Part of RECIPE, what stands there instead, what must be said of it.
STAGES = [
    (KIND, "stage: ‸sftt", "unknown stage kind `sftt`; did you mean `sft`?"),
    (
        KIND,
        "stage: ‸bandit",
        "unknown stage kind `bandit`; there are tokenizer, adopt, pretrain, sft",
    ),
    (KIND, "stage: ‸3", "`stage` is not the name of a kind; kinds are tokenizer, adopt"),
    (f"sft:\n    {KIND}\n", "‸sft:\n", "`sft` does not say which kind of stage it is"),
    (f"sft:\n    {KIND}", "‸sft:\n    stage:", "write `stage: KIND`; kinds are tokenizer"),
    (BASE, "model: ‸$bsae", "there is no stage `bsae`; did you mean `base`?"),
    (BASE, "model: ‸$q", "there is no stage `q`; stages are tokenizer, base, sft, answers"),
    (BASE, "model: ‸$", "`$` needs the name of a stage after it"),
    (BASE, "model: ‸base", "`base` is neither a folder nor a hub id; ...; did you mean `$base`?"),
    (BASE, "model: ‸./nowhere", "there is no folder `./nowhere`; looked for"),
    (BASE, "model:‸", "`model` is empty, not text; write a value, or leave the key out"),
    (BASE, "model: ‸$sft", "the stages go in a circle: sft -> sft; each stage builds on earlier"),
    ("llama, tokenizer: $tokenizer", "llama, tokenizer: $sft", "in a circle: base -> sft -> base"),
    (BASE, "model: ‸$tokenizer", "`$tokenizer` gives a tokenizer, here a model is needed; that is"),
    (BASE, "model: ‸$answers", "`$answers` gives an evaluation, here a model is needed"),
    ("  answers:", "  ‸'my answers':", "`my answers` cannot be a name; use letters, digits"),
    ("  answers:", "  x: ‸sft\n  answers:", "`x` is `sft`, not a mapping; write `key: value`"),
    ("  answers:", "  x:‸\n  answers:", "`x` is empty, not a mapping"),
    (LIMIT, "pin: ‸0123456789abcdef", "not the pinned 0123456789abcdef; `posttrain why"),
    (LIMIT, "pin: ‸latest", "`latest` cannot be `pin`; write the fingerprint that `posttrain"),
]
KEYS = [
    (BATCH, "‸batchsize: 8", "unknown key `batchsize`; did you mean `batch_size`?"),
    ("tokens: 20k", "‸token: 20k", "unknown key `token`; did you mean `tokens`?"),
    ("seed: 3", "‸sede: 3", "unknown key `sede`; did you mean `seed`?"),
    ("rows: 160", "‸row: 160", "unknown key `row`; did you mean `rows`?"),
    (LIMIT, "‸zzz: 7", "unknown key `zzz`; there are stage, seed, launch, pin, tools"),
    (BASE, f"{BASE}\n    ‸learning_rate: 1", "write it below `training_args:`, it is a field of"),
    (f"  sft:\n    {KIND}\n    {BASE}", f"  ‸sft:\n    {KIND}", "`model:` is missing in `sft`"),
    ("{architecture: llama, ", "‸{", "`architecture:` is missing in `model`; write it"),
    ("name: bad", "name: ‸my/recipe", "`my/recipe` cannot be `name`; use letters, digits, `_`"),
    ("name: bad", "name: ‸2024", "`name` is 2024, not text; quote it"),
    ("seed: 3", "seed: ‸-1", "`seed` is -1; it must be at least 0"),
    ("seed: 3", "launch: ‸torque", "`launch` is `torque`, not `in_process`, `python`, ... or"),
    (
        "seed: 3",
        "launch: {with: python, processes: ‸2}",
        "`processes`, ... are for many; write `with:",
    ),
    ("seed: 3", "launch: ‸accelerate", "how many processes; write `{with: accelerate, processes"),
    ("seed: 3", "launch: {with: accelerate, config: ‸x.yaml}", "there is no file `x.yaml`; looked"),
    ("seed: 3", "roots: {‸r: data}", "`r` cannot be a name; use two or more letters"),
]
ARGUMENTS = [
    (ARGS, "{‸learning_rte: 1}", "SFTConfig has no field `learning_rte`; did you mean"),
    (ARGS, "{‸lr: 1}", "SFTConfig has no field `lr`; did you mean `learning_rate`?"),
    (ARGS, "{‸qqq: 1}", "SFTConfig has no field `qqq`; `posttrain schema` names all of them"),
    (ARGS, "{‸batch_size: 1}", "`batch_size` is no field of SFTConfig; write it on the stage"),
    (ARGS, '{‸learning_rate: "1e-4"}', "`1e-4`, not a number; write it without quotes"),
    (ARGS, "{‸tf32: 'true'}", "`tf32` is `true`, not true or false; write it without quotes"),
    (ARGS, "{‸max_steps: ten}", "`max_steps` is `ten`, not a whole number"),
    (ARGS, "{‸max_steps: 1.5}", "`max_steps` is 1.5, not a whole number"),
    (ARGS, "{‸max_steps: 0}", "`max_steps` is 0; it must be above 0"),
    (ARGS, "{‸num_train_epochs: 0}", "`num_train_epochs` is 0; it must be above 0"),
    (ARGS, "{‸learning_rate: -1e-3}", "`learning_rate` is -0.001; it must not be negative"),
    (ARGS, "{learning_rate: ‸.inf}", "`learning_rate` is inf; write a finite number"),
    (ARGS, "{‸max_length: null}", "`max_length` is empty; write a number, or leave it out"),
    (ARGS, "{max_length: ‸5000}", "5000 is beyond the 64 positions of `$base`; lower"),
    (ARGS, "{‸gradient_accumulation_steps: 2}", "it is derived; write the global `batch_size`"),
    (ARGS, "{‸bf16: true}", "cannot be set in `training_args`; write `precision: fp32 | bf16 |"),
    (ARGS, "{use_cpu: true}\n    precision: ‸fp16", "`precision` fp16 needs a GPU, and there is"),
    (ARGS, "{‸output_dir: x}", "cannot be set in `training_args`; the store decides where"),
    (ARGS, "‸fast", "`training_args` is `fast`, not a mapping; write `key: value` below it"),
    (ARGS, "{hub_token: ‸hf_" + "aB3" * 12 + "}", "this looks like an access token; take it out"),
]
SIZES = [
    ("vocab_size: 300", "vocab_size: ‸261", "`vocab_size` 261 is below 262: 256 bytes and 6"),
    (WIDTH, "hidden_size: ‸32, num_attention_heads: 5", "32 is not a multiple of 5 heads;"),
    (WIDTH, "num_attention_heads: ‸4, num_key_value_heads: 3", "4 is not a multiple of 3"),
    (WIDTH, "max_position_embeddings: 32", "`sequence_length` 64 is beyond"),
    ("llama, ", "gpt2, n_positions: 32, ", "`sequence_length` 64 is beyond the 32 positions"),
    ("llama, ", "gpt2, n_positions: ‸no, ", "`n_positions` is `no`, not a whole number; write"),
    (
        WIDTH,
        "hidden_size: ‸'32'",
        "`hidden_size` is `32`, not a whole number; write it",
    ),
    (WIDTH, "hidden_size: ‸-32", "`hidden_size` is -32, not a whole number above 0"),
    (WIDTH, "size: ‸2M", "`size` `2M` is not known; sizes are 1M, 5M"),
    (WIDTH, "hiden_size: ‸32", "`hiden_size` is no config field of llama; did you mean"),
    (WIDTH, "vocab_size: ‸9", "`vocab_size` is not set here; it comes from the tokenizer"),
    ("llama", "‸lama", "`lama` is no causal model of transformers; did you mean `llama`?"),
    ("llama", "‸7", "`architecture` is 7, not text; quote it"),
    (MODEL, "‸[llama]", "`model` is a list, not a mapping or text; its keys are architecture"),
    ("tokens: 20k", "tokens: ‸100", "`tokens` 100 is less than one step of batch_size 8 x"),
    ("tokens: 20k", "tokens: ‸20 k", "`tokens`: `20 k` is not a count; write for example 4000000"),
    ("tokens: 20k", "tokens: ‸0", "`tokens` is 0; it must be above 0"),
    (BATCH, "batch_size: ‸0", "`batch_size` is 0; it must be above 0"),
    (BATCH, "batch_size: ‸'8'", "`batch_size` is `8`, not a whole number; write it without quotes"),
    (BATCH, "precision: ‸bf-16", "is `bf-16`, not `fp32`, `bf16` or `fp16`; did you mean `bf16`?"),
]
SOURCES = [
    (DATA, "[‸{task: facts, file: a.txt}]", "exactly one of ...; this has `task` and `file`"),
    (DATA, "[‸{rows: 160}]", "one of `task`, `file`, `hub`, `stage`; this has none of them"),
    (DATA, "‸[]", "`data` is empty; write at least one"),
    (DATA, "‸facts", "`data` is `facts`, not a mapping; its keys are task, file, hub"),
    (DATA, "[{task: facts}, ‸facts]", "`data` is `facts`, not a mapping"),
    (DATA, "{task: facts, weight: ‸0}", "`weight` is 0; it must be above 0"),
    (DATA, "{file: a.txt, holdout: ‸1.0}", "`holdout` is 1.0; it must be below 1"),
    (DATA, "{file: a.jsonl, form: ‸chats}", "not `text`, ... or `prompt`; did you mean `chat`?"),
    (DATA, "{file: a.jsonl, columns: {‸promt: q}}", "`promt` is no column name of ours; did you"),
    (DATA, "{task: facts, columns: ‸{prompt: q}}", "`columns` has no meaning for a `task` source"),
    (DATA, "{task: facts, split: ‸test}", "the split `test` is for evaluation only; use train"),
    (DATA, "{hub: a/b, split: ‸'test[:5]'}", "the split `test[:5]` is for evaluation only"),
    (DATA, "{hub: a/b, split: ‸train+test}", "the split `train+test` is for evaluation only"),
    (DATA, "{hub: a/b, split: ‸test_sft}", "the split `test_sft` is for evaluation only"),
    (DATA, "{file: a.jsonl, streaming: ‸true}", "`streaming` has no meaning for a `file` source"),
    (DATA, "[{hub: a/b, streaming: ‸true, split: 'train[:5%]'}]", "name one split, and how"),
    (DATA, "[{hub: a/b, streaming: ‸true}, {task: facts, weight: 2}]", "nobody knows of a stream"),
    (DATA, f"{DATA}\n    eval_data: {{task: facts, weight: ‸2.0}}", "this is measured; leave it"),
    (DATA, "{task: facts, split: ‸valid}", "no split `valid`; did you mean `validation`?"),
    (DATA, "{task: ‸fact}", "unknown task `fact`; did you mean `facts`?"),
    (DATA, "{file: ‸nowhere.txt}", "`nowhere.txt` does not exist; looked for"),
    (DATA, "{file: ‸chat.jsonl}", "`chat.jsonl` does not exist; did you mean `chats.jsonl`?"),
    (DATA, "{file: ‸folder}", "`folder` is a folder, not a file"),
    (DATA, "{file: ‸'https://x.org/a.jsonl'}", "is a web address, not a path; download it first"),
    (DATA, "{file: ‸real:a.jsonl}", "there is no root `real:`; known: none; write `./` before"),
    ("tasks: arithmetic", "tasks: [facts, ‸poetry]", "unknown task `poetry`; `posttrain list"),
    ("tasks: arithmetic", "tasks: ‸mine:Task", "no file mine.py beside the recipe"),
    ("answers:\n    stage: evaluate\n    model: $sft\n    tasks: arithmetic",
     "‸answers:\n    stage: evaluate\n    model: $sft", "nothing to measure; name `tasks`,"),
]  # fmt: skip
EDITS = [*STAGES, *KEYS, *ARGUMENTS, *SIZES, *SOURCES]

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in ("ab", "bc", "cd", "de", "ef")
)
# A whole file, what must be said of it.
FILES: list[tuple[str | bytes, str]] = [
    ("‸", "the file is empty; a recipe has `name:` and `stages:`"),
    ("# later\n", "the file is empty; a recipe has `name:` and `stages:`"),
    ("‸- a\n", "a recipe is a mapping with `name:` and `stages:`, this is a list"),
    ("‸hello", "this is text; write `key: value` lines"),
    ("‸stages: {a: {stage: sft}}", "`name:` is missing in the recipe; write it"),
    ("‸name: x\n", "`stages:` is missing in the recipe; write it"),
    ("name: x\nstages: ‸{}\n", "`stages` is empty; write at least one"),
    ("name: x\nstages: ‸[sft]\n", "`stages` is a list, not a mapping"),
    ("name: x\nstages:\n‸\ta: {stage: sft}\n", "a tab is not allowed here; use spaces"),
    ("name: x\n‸name: y\n", "the key `name` is already in line 1; keep one of them"),
    ("name: x\n seed‸: 3\n", "a `:` is not allowed here; quote a text ..., or check the"),
    ("name: x\nstages: ‸{a: {stage: sft}\n", "the bracket is never closed with }"),
    ("name: ‸'x\nstages: {}\n", "this quote is never closed; close it"),
    ("name: ‸!!python/object/apply:os.system ['true']\n", "tags (`!...`) are not allowed"),
    ("name: x\nstages: {‸<<: {}}\n", "merge keys (`<<`) are not allowed; write the keys out"),
    (BOMB, "more than 10,000 values ..., aliases written out; write less"),
    ("name: " + "[" * 3_000, "nested deeper than 40 levels; flatten it"),
    (RECIPE.encode("utf-16"), "the file is UTF-16; save the file as UTF-8 text"),
    (b"name: f\xfcnf\n", "byte 0xfc is not UTF-8; save the file as UTF-8 text"),
    (b"name: x\0\n", "the file contains a NUL byte; save the file as UTF-8 text"),
    (b"name: \x1b[31mx\n", "control character U+001B in the text; delete it"),
    (b"# x\n" * 25_000_000, "the file is larger than 1,000,000 bytes; is this a recipe?"),
]

# A command line, all that must be said of it.
COMMANDS = [
    ("plan nowhere.yaml", "nowhere.yaml: no such file; check the recipe's path"),
    ("plan folder", "folder: this is a folder; name the recipe file in it"),
    ("plan pipe", "pipe: this is not a regular file: a pipe; save the recipe as a file"),
    (
        "plan recipe.yaml --set stages.sft",
        "--set stages.sft: this is not of the form a.b=value; write `--set stages.NAME.FIELD=...",
    ),
    (
        "plan recipe.yaml --set stages.sft.modle=x",
        "--set stages.sft.modle: unknown key `modle`; did you mean `model`?",
    ),
    (
        "plan recipe.yaml --set stages.stf.limit=2",
        "--set stages.stf.limit: there is no stage `stf`; did you mean `sft`?",
    ),
    (
        "plan recipe.yaml --set stages.sft.data.7.rows=2",
        "--set stages.sft.data.7.rows: `stages.sft.data` has no item `7`; count from 0 to 0",
    ),
    ("plan recipe.yaml --set seed=-3", "--set seed: `seed` is -3; it must be at least 0"),
    ("plan recipe.yaml --set seed=[", "--set seed: a value is missing before this; ..."),
    ("plan recipe.yaml --root real", "--root: `real` is not NAME=DIR; write --root real=data"),
    ("plan recipe.yaml --root real=no", "--root: `no` is not a folder; give the folder ..."),
    ("plan recipe.yaml --root r=folder", "--root: `r` cannot be a name; use two or more..."),
    ("run recipe.yaml --runs recipe.yaml/x", "--runs: `...recipe.yaml` is a file; name a ..."),
    ("run recipe.yaml --stage stf", "recipe.yaml: there is no stage `stf`; did you mean `sft`?"),
    ("run recipe.yaml --from q", "recipe.yaml: there is no stage `q`; stages are ..."),
    ("run recipe.yaml --until bse", "recipe.yaml: there is no stage `bse`; did you mean `base`?"),
    (
        "run recipe.yaml --stage sft",
        "recipe.yaml: `sft` is built on `base`, which has not run; leave out --stage/...",
    ),
    ("why recipe.yaml stf", "recipe.yaml: there is no stage `stf`; did you mean `sft`?"),
    ("logs recipe.yaml sft", "recipe.yaml: `sft` has logged nothing yet"),
    ("adopt recipe.yaml sft folder", "folder: is empty; give the folder of a saved model"),
    ("adopt recipe.yaml answers folder", "folder: `answers` makes neither a model nor a tokenizer"),
    (
        "check recipe.yaml --show-mask base",
        "recipe.yaml:9:12: --show-mask shows stages that read prompts, and `base` is of the kind "
        "pretrain; there is sft",
    ),
    (
        "check recipe.yaml --show-mask sft",
        "recipe.yaml:17:12: `base` has not run yet, so there is no tokenizer to show rows with; "
        "first `posttrain run recipe.yaml --until base`",
    ),
    ("check recipe.yaml --rows 2", "--rows: has a meaning with --show-mask only; add ..."),
    ("check recipe.yaml --rows 0", "posttrain check: invalid value for '--rows': ..."),
    ("list taks", "list: cannot list `taks`; did you mean `tasks`?"),
    ("rnu recipe.yaml", "posttrain: no such command 'rnu'...'run'...; see `posttrain --help`"),
    ("run recipe.yaml --stge sft", "posttrain run: no such option: --stge...--stage...; see ..."),
    ("plan", "posttrain plan: missing argument 'RECIPE'; see `posttrain plan --help`"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a good recipe and what the cases name."""
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "folder").mkdir()
    (tmp_path / "chats.jsonl").write_text("{}\n")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


def expected(marked: str, words: str) -> str:
    """Return the line that must be said, with the place of the mark if there is one."""
    if "‸" not in marked:
        return f"recipe.yaml:...:...: ...{words}..."
    before = marked[: marked.index("‸")]
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    return f"recipe.yaml:{line}:{column}: ...{words}..."


def test_the_recipe_that_the_cases_spoil_is_good(folder: Path, posttrain: Command) -> None:
    assert posttrain("check", "recipe.yaml").code == 0


@pytest.mark.parametrize(("old", "new", "words"), EDITS, ids=[case[1] for case in EDITS])
def test_a_bad_recipe_gives_one_line_that_points_at_its_place(
    folder: Path, posttrain: Command, old: str, new: str, words: str
) -> None:
    assert RECIPE.count(old) == 1
    marked = RECIPE.replace(old, new)
    (folder / "recipe.yaml").write_text(marked.replace("‸", ""))
    line = the_line(posttrain("plan", "recipe.yaml"))
    assert is_like(line, expected(marked, words)), line


@pytest.mark.parametrize(("content", "words"), FILES, ids=[case[1] for case in FILES])
def test_a_file_that_is_no_recipe_gives_one_line(
    folder: Path, posttrain: Command, content: str | bytes, words: str
) -> None:
    marked = content if isinstance(content, str) else ""
    text = content.encode() if isinstance(content, str) else content
    (folder / "recipe.yaml").write_bytes(text.replace("‸".encode(), b""))
    line = the_line(posttrain("plan", "recipe.yaml"))
    assert is_like(line, expected(marked, words)), line


@pytest.mark.parametrize(("arguments", "line"), COMMANDS, ids=[case[0] for case in COMMANDS])
def test_a_bad_command_line_gives_one_line(
    folder: Path, posttrain: Command, arguments: str, line: str
) -> None:
    said = the_line(posttrain(*arguments.split()))
    assert is_like(said, line), said
    assert not (folder / "runs").exists()


@pytest.mark.parametrize(
    ("command", "new", "line"),
    [
        (
            "plan",
            "model: $bsae",
            "recipe.yaml:17:12: there is no stage `bsae`; did you mean `base`?",
        ),
        ("run", "model: $tokenizer", "recipe.yaml:17:12: `$tokenizer` gives a tokenizer, here ..."),
        ("status", "modle: $base", "recipe.yaml:17:5: unknown key `modle`; did you mean `model`?"),
    ],
)
def test_the_installed_command_says_the_same(
    folder: Path, command: str, new: str, line: str
) -> None:
    (folder / "recipe.yaml").write_text(RECIPE.replace(BASE, new))
    posttrain = Path(sys.executable).with_name("posttrain")
    done = subprocess.run(
        [posttrain, command, "recipe.yaml"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert is_like(done.stderr.rstrip("\n"), line), done
