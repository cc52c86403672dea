"""Bad judges: exit code 2 and one line that points at its place, and no key in it.

The mark ‸ in a text is where its error must point; `...` in a sentence is anything.
"""

import json
from pathlib import Path

import pytest

from tests.command import Command, is_like, the_line
from tests.recipes.test_bad_recipes import expected

RECIPE = """\
name: bad
stages:
  pairs:
    stage: label
    data: {file: responses.jsonl}
    judge: {endpoint: {url: "http://127.0.0.1:9/v1", model: m, key: MY_KEY}, licence: off}
    pairs: best_worst
  own:
    stage: label
    data: {file: responses.jsonl}
    judge: {model: owner/name, licence: off, scale: [1, 5]}
  revised:
    stage: label
    data: {file: responses.jsonl}
    revise: {model: owner/name, principles: principles.yaml}
  tokenizer: {stage: tokenizer, data: {task: arithmetic}, vocab_size: 300}
"""
URL, KEY = '"http://127.0.0.1:9/v1"', "key: MY_KEY"
OWN, SCALE = "judge: {model: owner/name, licence: off, scale: [1, 5]}", "scale: [1, 5]"
REVISE = "revise: {model: owner/name, principles: principles.yaml}"
SECRET = "sk-0123456789abcdef"
CASES = [
    (URL, f'‸"http://{SECRET}@host/v1"', "the address holds more than host and path; a key never"),
    (URL, f'‸"http://host/v1?api_key={SECRET}"', "the address holds more than host and path; a ke"),
    (URL, '‸"localhost:8000"', "`localhost:8000` is no address; write `http://host:port/v1`"),
    (KEY, f"key: ‸{SECRET}", "this is no name of an environment variable; write the nam"),
    (OWN, "judge: ‸{rubric: Be kind.}", "exactly one of `model` and `endpoint`; this has neither"),
    (OWN, "judge: {model: ‸$tokenizer}", "`$tokenizer` gives a tokenizer, here a model is needed"),
    (OWN, "judge: {model: ‸./nowhere, licence: off}", "there is no folder `./nowhere`; looked for"),
    (OWN, "judge: ‸{model: owner/name, reason: true}", "in this process answers by the likel"),
    (OWN, "judge: ‸{model: owner/name}\n    reward: {use: a:b}", "`judge` and `reward` are two"),
    (OWN, "judge: ‸{model: owner/name, budget: {requests: 5}}", "this process costs nothing; leav"),
    (f"judge: {{endpoint: {{url: {URL}, model: m, {KEY}}}, licence: off}}",
     f"judge: {{endpoint: {{url: {URL}, model: m}}, licence: off, budget: ‸{{cost: 1.5}}}}",
     "`budget` has a `cost`, and the endpoint no `prices`; write them"),
    (SCALE, "scale: ‸[5, 1]", "`scale` [5, 1] is no range of at most 101 whole numbers"),
    (SCALE, "scale: ‸5", "`scale` is 5, not a list"),
    (SCALE, "‸scle: [1, 5]", "unknown key `scle`; did you mean `scale`?"),
    (REVISE, "revise: {model: owner/name, principles: ‸principels.yaml}",
     "`principels.yaml` does not exist; did you mean `principles.yaml`?"),
    (REVISE, "revise: {model: owner/name, principles: ‸[]}", "`principles` is empty; write one"),
    (REVISE, f"{REVISE}\n    pairs: all", "nothing says whether a revision is better than its"),
    (f"    {REVISE}\n", "", "nothing judges the responses; name a `reward` or a `judge`"),
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a good recipe and what the cases name."""
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    rows = ({"prompt": f"Say {number % 5}.", "completion": f"{number}"} for number in range(20))
    (tmp_path / "responses.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (tmp_path / "principles.yaml").write_text("- Be kind.\n- Be brief.\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MY_KEY", SECRET)
    return tmp_path


@pytest.mark.parametrize(("old", "new", "words"), CASES, ids=[case[1] or "none" for case in CASES])
def test_a_bad_judge_gives_one_line_that_points_at_its_place_and_repeats_no_key(
    folder: Path, posttrain: Command, old: str, new: str, words: str
) -> None:
    assert RECIPE.count(old) == 1
    marked = RECIPE.replace(old, new)
    (folder / "recipe.yaml").write_text(marked.replace("‸", ""))
    said = posttrain("plan", "recipe.yaml")
    line = the_line(said)
    if "‸" in marked:
        assert is_like(line, expected(marked, words)), line
    else:
        assert words in line
    assert SECRET not in said.out + said.err


def test_a_plan_needs_no_key_and_check_asks_for_it_by_name(
    folder: Path, posttrain: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MY_KEY")
    assert posttrain("plan", "recipe.yaml").code == 0
    line = the_line(posttrain("check", "recipe.yaml"))
    assert line.startswith("recipe.yaml:6:")
    assert "the environment variable `MY_KEY`, which holds the judge's key, is not set" in line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("be: kind\n", "principles.yaml: is no list of principles; write a list of texts"),
        ("- Be kind.\n- 3\n", "principles.yaml: principle 2 is no text"),
        ("- [\n", "principles.yaml:2:1: is no YAML"),
        ("", "principles.yaml: is no list of principles"),
    ],
)
def test_a_constitution_that_is_no_list_of_texts_is_found_by_check(
    folder: Path, posttrain: Command, text: str, words: str
) -> None:
    (folder / "principles.yaml").write_text(text)
    assert the_line(posttrain("check", "recipe.yaml")).startswith(words)


def test_a_constitution_counts_by_its_content(folder: Path, posttrain: Command) -> None:
    def fingerprint() -> str:
        lines = posttrain("plan", "recipe.yaml").out.splitlines()
        return next(line for line in lines if line.startswith("revised"))

    before = fingerprint()
    (folder / "principles.yaml").write_text("- Be kind.\n- Be honest.\n")
    assert fingerprint() != before
