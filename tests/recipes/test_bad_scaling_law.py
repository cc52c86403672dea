"""Bad scaling_law stages: exit code 2 and one line that points at its place.

The mark ‸ in a text is where its error must point; `...` in a sentence is anything.
"""

import re
from itertools import product
from pathlib import Path

import pytest

from tests.command import Command, is_like, refuse_heavy_imports, the_line
from tests.recipes.test_bad_recipes import expected

SIZES = (16, 32, 64)
AMOUNTS = ("10k", "20k", "40k")
RUN = """\
  r{size}_{tokens}:
    stage: pretrain
    model: {{architecture: llama, tokenizer: $tokenizer, hidden_size: {size}, num_hidden_layers: 2}}
    data: [{{task: arithmetic}}, {{file: text.txt, separator: "\\n"}}]
    tokens: {tokens}
    sequence_length: 64
"""
NAMES = [f"$r{size}_{tokens}" for size, tokens in product(SIZES, AMOUNTS)]
RUNS = f"runs: [{', '.join(NAMES)}]"
LAST = NAMES[-1]
RECIPE = (
    "name: law\nstages:\n"
    "  tokenizer: {stage: tokenizer, data: {task: arithmetic}, vocab_size: 300}\n"
    "  other: {stage: tokenizer, data: {task: facts}, vocab_size: 300}\n"
    + "".join(RUN.format(size=size, tokens=tokens) for size, tokens in product(SIZES, AMOUNTS))
    + f"""\
  more:
    {{stage: pretrain, model: {LAST}, data: {{task: arithmetic}}, tokens: 10k, sequence_length: 64}}
  sft: {{stage: sft, model: {LAST}, data: {{task: arithmetic}}}}
  asked: {{stage: evaluate, model: {LAST}, tasks: arithmetic}}
  read: {{stage: evaluate, model: {LAST}, texts: {{task: arithmetic}}}}
  asked_sft: {{stage: evaluate, model: $sft, tasks: arithmetic}}
  law:
    stage: scaling_law
    {RUNS}
    text: arithmetic
    evaluations: [$asked]
"""
)
LAST_RUN = RECIPE[RECIPE.index("  r64_40k:") : RECIPE.index("  more:")]
TEXT = "text: arithmetic"
ASKED = "evaluations: [$asked]"

# Part of RECIPE, what stands there instead, what must be said of it.
EDITS = [
    (RUNS, RUNS.replace(LAST, "‸$sft"), "`$sft` is a stage `sft`, and a law is of pre-trained"),
    (RUNS, RUNS.replace(LAST, "‸$asked"), "`$asked` gives an evaluation, here a model is needed"),
    (RUNS, RUNS.replace(LAST, "‸$more"), "`$more` goes on with a model, whose earlier training"),
    (RUNS, RUNS.replace(LAST, "‸./folder"), "`./folder` is no stage of this recipe, which alone"),
    (RUNS, RUNS.replace(LAST, "‸$r16_10k"), "`$r16_10k` is named twice; name each once"),
    (RUNS, RUNS.replace(LAST, "‸$r16_10"), "there is no stage `r16_10`; did you mean `r16_10k`?"),
    (RUNS, f"runs: ‸[{', '.join(NAMES[:5])}]", "5 different runs of 2 sizes and 3 amounts of tok"),
    (RUNS, f"runs: ‸[{', '.join(NAMES[:6])}]", "6 different runs of 2 sizes and 3 amounts of tok"),
    (RUNS, "runs: ‸[]", "`runs` is empty"),
    (RUNS, f"{RUNS}\n    held_out: ‸0.5", "`held_out` is 0.5; it must be above 1"),
    (RUNS, f"{RUNS}\n    held_out: [‸$more]", "`$more` is not among `runs`; name it there, too"),
    (
        RUNS,
        RUNS.replace("[", "‸[") + f"\n    held_out: [{', '.join(NAMES[:4])}]",
        "5 different runs of 2 sizes and 3 amounts of tokens are too few for the five constants",
    ),
    (RUNS, f"{RUNS}\n    parameters: ‸some", "`parameters` is `some`, not `all` or `without_emb"),
    (RUNS, f"{RUNS}\n    budget: ‸0", "`budget` is 0; it must be above 0"),
    (RUNS, f"{RUNS}\n    ‸bootstraps: 3", "unknown key `bootstraps`; did you mean `bootstrap`?"),
    (TEXT, "text: ‸arithmetics", "`$r16_10k` holds out no text `arithmetics`; it has `arithmetic`"),
    (TEXT, "text: ‸text.txt", "`$r16_10k` holds out no text `text.txt`; it has `arithmetic`"),
    (ASKED, "evaluations: [‸$asked_sft]", "`$asked_sft` asks `$sft`, which is none of `runs`"),
    (ASKED, "evaluations: [‸$read]", "`$read` asks no `tasks`, so nothing is right or wrong"),
    (ASKED, "evaluations: [‸$sft]", "`$sft` gives a model, here an evaluation is needed"),
    (ASKED, "evaluations: [$asked, ‸$asked]", "`$asked` is named twice"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text("one\ntwo\nthree\n" * 40)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path


def test_the_recipe_that_the_cases_spoil_is_good(
    folder: Path, posttrain: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_heavy_imports(monkeypatch)
    said = posttrain("plan", "recipe.yaml")
    assert said.code == 0, said


@pytest.mark.parametrize(("old", "new", "words"), EDITS, ids=[case[1][-60:] for case in EDITS])
def test_a_bad_law_gives_one_line_that_points_at_its_place(
    folder: Path, posttrain: Command, old: str, new: str, words: str
) -> None:
    assert RECIPE.count(old) == 1
    marked = RECIPE.replace(old, new)
    (folder / "recipe.yaml").write_text(marked.replace("‸", ""))
    line = the_line(posttrain("plan", "recipe.yaml"))
    assert is_like(line, expected(marked, words)), line


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("tokenizer: $tokenizer", "tokenizer: $other", "reads the tokens of `$other`, `$r16_10k`"),
        ("{task: arithmetic}, ", "", "`$r64_40k` holds no text out, whose loss the law is of"),
        (
            "tokens: 40k",
            "tokens: 40k\n    training_args: {max_steps: 3}",
            "`$r64_40k` has `max_steps`, so its `tokens` are not what it was trained on",
        ),
    ],
)
def test_a_run_that_is_unlike_the_others_is_pointed_at(
    folder: Path, posttrain: Command, old: str, new: str, words: str
) -> None:
    assert old in LAST_RUN
    (folder / "recipe.yaml").write_text(RECIPE.replace(LAST_RUN, LAST_RUN.replace(old, new)))
    line = the_line(posttrain("plan", "recipe.yaml"))
    assert words in line


def test_a_held_out_that_leaves_too_few_runs_is_found_before_they_are_trained(
    folder: Path, posttrain: Command
) -> None:
    (folder / "recipe.yaml").write_text(RECIPE.replace(TEXT, f"{TEXT}\n    held_out: 30"))
    assert posttrain("plan", "recipe.yaml").code == 0
    line = the_line(posttrain("check", "recipe.yaml"))
    assert "recipe.yaml:" in line
    assert re.search(r"with [678] of 9 runs left out by `held_out`, [123] different runs", line)
