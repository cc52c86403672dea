"""Sweeps that are wrong: exit code 2 and one line that names the value of the sweep.

The mark ‸ is where the error must point; `...` in a sentence is anything.
"""

from pathlib import Path

import pytest

from tests.command import Command, is_like, the_line

RECIPE = """\
name: bad
stages:
  tokenizer: {stage: tokenizer, data: {task: arithmetic}, vocab_size: 300}
  base:
    stage: pretrain
    model: {architecture: llama, tokenizer: $tokenizer}
    data: [{task: arithmetic}]
    sequence_length: 64
    batch_size: 8
    sweep:
      model.size: [1M, 5M]
      tokens: [20k, 40k]
  sft:
    stage: sft
    model: $base[size=1M,tokens=20k]
    data: [{task: arithmetic, rows: 160}]
"""
SIZES, TOKENS, MODEL = "model.size: [1M, 5M]", "tokens: [20k, 40k]", "$base[size=1M,tokens=20k]"
GRID = f"{SIZES}\n      {TOKENS}"
BATCH, SEED = "batch_size: 8", "seed: 3"
MANY = ", ".join(map(str, range(10_000, 10_600)))

# Part of RECIPE, what stands there instead, what must be said of it.
CASES = [
    (f"\n      {GRID}", " ‸3", "`sweep` is 3, not a mapping of keys to lists; write `key: [va"),
    (f"sweep:\n      {GRID}", "sweep: ‸{}", "`sweep` is empty; write `key: [value, value]`"),
    (SIZES, "‸modle.size: [1M]", "unknown key `modle`; did you mean `model`?"),
    (
        SIZES,
        "model.hidden: [‸32]",
        "`hidden` is no config field of llama; did you mean `hidden_act`?",
    ),
    (SIZES, "model.size: [1M, ‸6M]", "`size` `6M` is not known; sizes are 1M, 5M"),
    (TOKENS, "tokens: [20k, ‸3.5]", "`tokens` is 3.5, not a whole number"),
    (TOKENS, "tokens: ‸[]", "`tokens` of the sweep has no values; write some"),
    (TOKENS, "tokens: ‸20k", "`tokens` of a sweep is `20k`, not a list of values; write `tok"),
    (TOKENS, "tokens: [20k, 40k, ‸20k]", "`20k` stands twice in `tokens` of the sweep; take"),
    (TOKENS, "tokens: [20k, ‸20000]", "`base[size=1M,tokens=20000]` is the same stage as `base"),
    (TOKENS, f"tokens: [20k]\n      ‸batch_size: [{MANY}]", "`batch_size` stands in the stage"),
    (GRID, f"tokens: [{MANY}]", "the sweep of `base` makes 600 stages; at most 500; write few"),
    (SIZES, "‸stage: [sft]", "`stage` cannot be swept; write a stage of its own"),
    (SIZES, "‸model.architecture: [gpt2]", "`model.architecture` stands in the stage and in"),
    (SIZES, "data.0.rows: [‸0]", "`rows` is 0; it must be above 0"),
    (GRID, "- {tokens: 20k}\n      - ‸4", "a point of a sweep is 4, not a mapping of keys to"),
    (GRID, "- {tokens: 20k}\n      - ‸{tokens: 20k}", "`base[tokens=20k]` stands twice in"),
    (SIZES, "model.size, seed: [[1M, 1], ‸[5M]]", "`model.size, seed` are 2 keys, and this is a l"),
    (SIZES, "model.size, seed: [[1M, 1], ‸5M]", "`model.size, seed` are 2 keys, and this is `5M`;"),
    (
        SIZES,
        "model.size, seed: [[1M, 1], [5M, ‸x]]",
        "`seed` is `x`, not a whole number; write a w",
    ),
    (
        GRID,
        "tokens: [20k]\n      tokens, seed: [[‸20k, 1]]",
        "`tokens` stands twice in the sweep; write it once",
    ),
    (SIZES, "‸model.size, batch_size: [[1M, 1]]", "`batch_size` stands in the stage and in its sw"),
    (SIZES, "seed: ‸$base[*]", "the sweeps go in a circle: base -> base; each builds on ear"),
    (MODEL, "‸$base", "`base` is a sweep of 4 stages; name one (`$base[size=1M,tokens=20k]`), all"),
    (MODEL, "‸$base[*]", "`$base[*]` is 4 stages, and `model` takes one; name one, or write it"),
    (MODEL, "‸$base[size=1M]", "`[size=1M]` names 2 stages of `base`; write one of `$base[size"),
    (MODEL, "‸$base[size=9M]", "no stage of `base` has size 9M; there is 1M, 5M"),
    (MODEL, "‸$base[sizes=1M]", "the sweep of `base` has no key `sizes`; did you mean `size`?"),
    (MODEL, "‸$base[1M]", "`1M` names no stage of a sweep; write `key=value`, `*` or `best: M"),
    (MODEL, "‸$tokenizer[*]", "`tokenizer` has no sweep: it is one stage; write `$tokenizer`"),
    (MODEL, '‸"$base[best: beauty]"', "whether the lowest or the highest `beauty` is the best"),
    (MODEL, '‸"$base[best: eval_loss]"', "`base[size=1M,tokens=20k]` will have no metric `eval_l"),
    (MODEL, '‸"$base[best: held_out_accuracy]"', "...: pre-training measures no such thing; choos"),
    (
        MODEL,
        '‸"$base[best: bits_per_byte logic]"',
        "...: it holds out no text of `logic`; it has a",
    ),
    (
        MODEL,
        "‸$tokenizer",
        "`$tokenizer` gives a tokenizer, here a model is needed; that is `$base[...]`",
    ),
    (MODEL, "‸$bsae[*]", "there is no stage `bsae[*]`..."),
]


@pytest.mark.parametrize(("part", "instead", "said"), CASES, ids=[case[2][:50] for case in CASES])
def test_a_wrong_sweep_is_one_line_at_the_value_that_is_wrong(
    part: str, instead: str, said: str, tmp_path: Path, posttrain: Command
) -> None:
    assert part in RECIPE
    text = RECIPE.replace(part, instead, 1)
    if part != MODEL:
        text = text.partition("  sft:")[0]  # which names stages of the sweep as it was
    before = text.partition("‸")[0]
    place = f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"
    (tmp_path / "bad.yaml").write_text(text.replace("‸", ""))
    line = the_line(posttrain("plan", "bad.yaml"))
    where = f"bad.yaml:{place}: " if "‸" in text else "bad.yaml:...: "
    assert is_like(line, f"{where}{said}..."), line


def test_a_value_of_a_sweep_that_set_gave_is_named_by_its_option(
    tmp_path: Path, posttrain: Command
) -> None:
    (tmp_path / "bad.yaml").write_text(RECIPE)
    wrong = posttrain("plan", "bad.yaml", "--set", "stages.base.sweep.tokens=[20k, 1.5]")
    assert the_line(wrong).startswith("--set stages.base.sweep.tokens: `tokens` is 1.5, not a who")


def test_a_stage_of_a_sweep_is_named_on_the_command_line(
    tmp_path: Path, posttrain: Command
) -> None:
    (tmp_path / "bad.yaml").write_text(RECIPE)
    said = the_line(posttrain("why", "bad.yaml", "base"))
    assert "`base` is a sweep of 4 stages; name one: `$base[size=1M,tokens=20k]`" in said
    assert posttrain("why", "bad.yaml", "base[size=1M,tokens=20k]").code == 0
