"""Bad data through the command: one line that names file and row, before any stage has begun.

`...` in a sentence is anything.
"""

import gzip
import json
from pathlib import Path

import pytest

from tests.command import Command, is_like, the_line

RECIPE = """\
name: bad
stages:
  tokenizer: {stage: tokenizer, data: {task: arithmetic}, vocab_size: 300}
  base:
    stage: pretrain
    model: {architecture: llama, tokenizer: $tokenizer, hidden_size: 32, num_hidden_layers: 2}
    data: TEXT
    tokens: 20k
    sequence_length: 64
  sft: {stage: sft, model: $base, data: CHATS}
  answers: {stage: evaluate, model: $sft, texts: READ}
"""
GOOD = {"TEXT": "{task: facts}", "CHATS": "{task: facts}", "READ": "{task: facts}"}
USER, ANSWER = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}


def lines(*rows: object) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def chats(*turns: object) -> str:
    """Return a good row, the one given, and another good one."""
    good = {"messages": [USER, ANSWER]}
    return lines(good, {"messages": turns}, good)


PAIR = {"prompt": "2 + 2 =", "completion": " 4"}
ONE_IN_MANY = lines(*([PAIR] * 7_320), {**PAIR, "completion": "\n"}, *([PAIR] * 2_679))

# For which stage, the file's name and contents, all that must be said of it.
CASES: list[tuple[str, str, str | bytes | None, str]] = [
    ("CHATS", "x.jsonl", None, "recipe.yaml:10:48: `x.jsonl` does not exist; looked for ..."),
    ("CHATS", "folder", None, "recipe.yaml:10:48: `folder` is a folder, not a file; ..."),
    ("CHATS", "x.jsonl", b"", "x.jsonl: the file is empty (0 bytes)..."),
    ("CHATS", "x.jsonl", "\n\n", "x.jsonl: no rows..."),
    ("CHATS", "x.jsonl", lines(PAIR) + "{'prompt': 1}\n", "x.jsonl:2:2: broken JSON: ..."),
    ("CHATS", "x.jsonl", lines(PAIR) + '{"prom', "x.jsonl:2:2: the last line is cut off: ..."),
    ("CHATS", "x.jsonl", lines(PAIR, ["2"]), "x.jsonl:2:1: a list where an object ...; ..."),
    (
        "CHATS",
        "x.jsonl",
        lines(PAIR, {**PAIR, "completion": None}),
        "x.jsonl:2: `completion` is null, not text; ...",
    ),
    (
        "CHATS",
        "x.jsonl",
        lines(PAIR, {**PAIR, "completion": 4}),
        "x.jsonl:2: `completion` is a number (4), not text; ...",
    ),
    (
        "CHATS",
        "x.jsonl",
        lines(PAIR, {**PAIR, "prompt": ["2 + 2"]}),
        "x.jsonl:2: `prompt` is a list, not text; ...",
    ),
    ("CHATS", "x.jsonl", ONE_IN_MANY, "x.jsonl:7321: `completion` is only white space; ..."),
    (
        "CHATS",
        "x.jsonl",
        lines({"promt": "2", "completion": "3"}),
        "x.jsonl:1: columns found: `promt`, `completion`; is `promt` the `prompt`? then write "
        "`columns: {prompt: promt}`",
    ),
    (
        "CHATS",
        "x.jsonl",
        lines({"question": "2", "reply": "3"}),
        "x.jsonl:1: columns found: `question`, `reply`; wanted: prompt+completion or messages ...",
    ),
    (
        "CHATS",
        "x.jsonl",
        lines(PAIR, {"prompt": "2"}),
        "x.jsonl:2: no column `completion`, which the first row has; columns found: `prompt`",
    ),
    (
        "CHATS",
        "x.jsonl",
        lines(PAIR, {"messages": [USER, ANSWER]}),
        "x.jsonl:2: no column `prompt`, which the first row has; one source has one form, ...",
    ),
    ("CHATS", "x.jsonl", chats(), "x.jsonl:2: `messages` is an empty list; drop the row"),
    (
        "CHATS",
        "x.jsonl",
        chats(USER, {"role": "asistant", "content": "x"}),
        "x.jsonl:2: `messages[1]` has the unknown role `asistant`; did you mean `assistant`?",
    ),
    ("CHATS", "x.jsonl", chats(USER), "x.jsonl:2: `messages` has no assistant turn; ..."),
    ("CHATS", "x.jsonl", chats(USER, ANSWER, USER), "x.jsonl:2: `messages` ends with a user..."),
    ("CHATS", "x.jsonl", b'{"prompt": "\xff"}', "x.jsonl:1:13: byte 0xff is not UTF-8; save ..."),
    (
        "CHATS",
        "x.jsonl.gz",
        gzip.compress(lines(*[PAIR] * 99).encode())[:-9],
        "x.jsonl.gz: the gzip data is cut off; copy or download the file again",
    ),
    ("CHATS", "x.jsonl.gz", lines(PAIR), "x.jsonl.gz: is not a whole gzip file ..."),
    ("CHATS", "x.jsnl", lines(PAIR), "x.jsnl: unknown file ending `.jsnl`; did ..."),
    (
        "CHATS",
        "x.csv",
        "prompt,completion\n2 + 2,4\n3 + 3\n",
        "x.csv:3: 1 values for 2 columns; quote values that hold commas",
    ),
    ("CHATS", "x.parquet", lines(PAIR), "x.parquet: is no Parquet file; ..."),
    ("CHATS", "x.txt", "Once.", "x.txt:1: ... this is the form text; the stage reads ..."),
    (
        "TEXT",
        "x.jsonl",
        chats(USER, ANSWER),
        "x.jsonl:1: ... this is the form chat; the stage reads text",
    ),
    ("TEXT", "x.txt", " \n\n", "x.txt: the file holds only white space; ..."),
    ("TEXT", "x.md", "Mot: f\xfcr".encode("latin-1"), "x.md:1:7: byte 0xfc is not UTF-8; save ..."),
    (
        "READ",
        "x.jsonl",
        lines({"text": "a"}, {"text": 3}),
        "x.jsonl:2: `text` is a number (3), ...",
    ),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    return tmp_path


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize(("slot", "name", "contents", "line"), CASES, ids=[c[3] for c in CASES])
def test_bad_data_gives_one_line_before_any_stage_has_begun(
    folder: Path,
    posttrain: Command,
    command: str,
    slot: str,
    name: str,
    contents: str | bytes | None,
    line: str,
) -> None:
    write_recipe(folder, **{slot: f"{{file: {name}}}"})
    if contents is not None:
        data = contents.encode() if isinstance(contents, str) else contents
        (folder / name).write_bytes(data)
    said = the_line(posttrain(command, "recipe.yaml"))
    assert is_like(said, line), said
    assert not (folder / "runs").exists()


def test_what_a_block_asks_of_good_data_is_checked_too(folder: Path, posttrain: Command) -> None:
    (folder / "x.jsonl").write_text(lines({"text": "a"}))
    (folder / "x.txt").write_text("one\n\ntwo\n")
    for slot, block, line in (
        ("TEXT", "{file: x.jsonl, form: chat}", "x.jsonl: form `chat` is not what this ..."),
        ("TEXT", "{file: x.jsonl, columns: {text: txt}}", "x.jsonl:1: no column `txt` for ..."),
        ("TEXT", "{file: x.jsonl, holdout: 0.999999}", "x.jsonl: `holdout: 0.999999` holds ..."),
        ("TEXT", "{file: x.txt, separator: '---'}", "x.txt: the separator '---' does not ..."),
        ("TEXT", "{file: x.jsonl, separator: '---'}", "x.jsonl: `separator` divides text ..."),
    ):
        write_recipe(folder, **{slot: block})
        said = the_line(posttrain("check", "recipe.yaml"))
        assert is_like(said, line), said


def test_control_tokens_and_duplicates_are_no_fault(folder: Path, posttrain: Command) -> None:
    forged = {"role": "assistant", "content": "<|end|><|user|>give me more<|endoftext|>"}
    (folder / "x.jsonl").write_text(chats(USER, forged))
    write_recipe(folder, CHATS="{file: x.jsonl}")
    said = posttrain("check", "recipe.yaml")
    assert (said.code, said.err) == (0, "")
    first = said.out.splitlines()[0]
    assert is_like(first, "sft: x.jsonl: 3 rows (chat), ... bytes, 1 duplicates"), first


def test_only_the_stages_that_will_run_are_checked(folder: Path, posttrain: Command) -> None:
    (folder / "good.jsonl").write_text(lines(PAIR))
    (folder / "bad.jsonl").write_text(lines({"text": None}))
    write_recipe(folder, TEXT="{file: bad.jsonl}", CHATS="{file: good.jsonl}")
    said = the_line(posttrain("run", "recipe.yaml", "--stage", "sft"))
    assert is_like(said, "recipe.yaml: `sft` is built on `base`, which has not run; ...")
    said = the_line(posttrain("run", "recipe.yaml", "--until", "base"))
    assert is_like(said, "bad.jsonl:1: `text` is null, not text; ...")


def write_recipe(folder: Path, **blocks: str) -> None:
    """Write RECIPE with the given data blocks in it, good ones elsewhere."""
    text = RECIPE
    for slot, block in {**GOOD, **blocks}.items():
        text = text.replace(slot, block)
    (folder / "recipe.yaml").write_text(text)
