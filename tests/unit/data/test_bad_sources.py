"""Bad data: each class gives one line that names the place, the fault and what to do."""

import gzip
import io
import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data import files, text_files
from pipeline.data.checks import check_data
from pipeline.errors import PosttrainError
from pipeline.recipe.config import DataBlock
from pipeline.recipe.references import Places

ALL = ("text", "prompt_completion", "chat")
GOOD = '{"text": "good"}\n'
USER, ANSWER = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}


def chat(*turns: object) -> str:
    return json.dumps({"messages": [USER, ANSWER]}) + "\n" + json.dumps({"messages": turns}) + "\n"


def parquet(found: list[dict]) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(found), stream)
    return stream.getvalue()


def second_row(**fields: object) -> str:
    return '{"prompt": "a", "completion": "b"}\n' + json.dumps(fields) + "\n"


# name of the class, file name, contents, what the block asks, how the error's line begins
BAD = [
    # files
    ("no bytes", "a.jsonl", b"", {}, r"a\.jsonl: the file is empty"),
    ("no rows", "a.jsonl", "\n \n", {}, r"a\.jsonl: no rows"),
    ("no rows in a list", "a.json", " [ ] ", {}, r"a\.json: no rows"),
    ("only a header", "a.csv", "text\n", {}, r"a\.csv: no rows"),
    ("only white space", "a.txt", " \n\n", {}, r"a\.txt: the file holds only white space"),
    ("missing file", "b.jsonl", None, {}, r"b\.jsonl: no such file; did you mean `a\.jsonl`\?"),
    ("no ending", "data", GOOD, {}, r"data: the name has no ending; known endings: \.jsonl, "),
    ("a folder", "folder.jsonl", None, {}, r"folder\.jsonl: is a folder, not a file"),
    ("ending", "a.jsnl", GOOD, {}, r"a\.jsnl: unknown file ending `\.jsnl`; .*`\.jsonl`"),
    ("foreign root", "real:a.txt", None, {}, r"real:a\.txt: "),
    ("device", "device.jsonl", None, {}, r"device\.jsonl: is a device, not a file"),
    # encodings
    ("not UTF-8", "a.jsonl", GOOD.encode() + b'{"text": "\xfft"}', {},
     r"a\.jsonl:2:11: byte 0xff is not UTF-8; save the file as UTF-8"),
    ("Latin-1 in text", "a.txt", "eins\nf\xfcr".encode("latin-1"), {},
     r"a\.txt:2:2: byte 0xfc is not UTF-8"),
    ("UTF-16", "a.json", '[{"text": "a"}]'.encode("utf-16"), {},
     r"a\.json:1:1: the file is UTF-16; save"),
    ("half a character", "a.jsonl", r'{"text": "a \ud83d b"}', {},
     r"a\.jsonl:1: `text` has half a character .* at 2"),
    # JSON
    ("broken JSON", "a.jsonl", GOOD + "{'text': 1}\n" + GOOD, {},
     r"a\.jsonl:2:2: broken JSON: .*; a \.jsonl file has one JSON object on each line"),
    ("truncated last line", "a.jsonl", GOOD + '{"text": "goo', {},
     r"a\.jsonl:2:10: the last line is cut off: "),
    ("not an object", "a.jsonl", GOOD + '["good"]\n', {},
     r"a\.jsonl:2:1: a list where an object `\{\.\.\.\}` belongs"),
    ("lines named .json", "a.json", GOOD, {}, r"a\.json:1:1: not a list of objects; .*\.jsonl"),
    ("broken list", "a.json", '[{"text": "a"}\n {"text": "b"}]', {},
     r"a\.json:2:2: broken JSON: expecting `,` or `\]`"),
    ("cut list", "a.json", '[{"text": "a"},\n {"te', {}, r"a\.json:2:3: .*; the file looks cut"),
    ("after the list", "a.json", '[{"text": "a"}] x', {}, r"a\.json:1:17: .*after the list"),
    ("number in a list", "a.json", '[{"text": "a"},\n 3]', {}, r"a\.json:2:2: a number \(3\) "),
    ("deep JSON", "a.jsonl", "[" * 100_000, {}, r"a\.jsonl:1: unreadable JSON: "),
    ("huge number", "a.jsonl", '{"n": ' + "9" * 5_000 + "}\n", {}, r"a\.jsonl:1: unreadable "),
    # CSV, Parquet, gzip
    ("short CSV row", "a.csv", "text,n\na,1\nb\n", {}, r"a\.csv:3: 1 values for 2 columns; "),
    ("open quote", "a.csv", 'text,n\na,1\n"b,2\n', {}, r"a\.csv:3: broken CSV: "),
    ("twice a column", "a.csv", "text,text\na,1\n", {}, r"a\.csv:1: two columns share a name"),
    ("no Parquet", "a.parquet", GOOD, {}, r"a\.parquet: broken Parquet after row 0: "),
    ("torn Parquet", "a.parquet", parquet([{"text": "a"}])[:-20], {}, r"a\.parquet: broken "),
    ("no gzip", "a.jsonl.gz", GOOD, {}, r"a\.jsonl\.gz: is not a whole gzip file "),
    ("cut gzip", "a.txt.gz", gzip.compress(GOOD.encode() * 99)[:-9], {},
     r"a\.txt\.gz: the gzip data is cut off; copy "),
    ("cut gzip", "a.jsonl.gz", gzip.compress(GOOD.encode() * 99)[:-9], {},
     r"a\.jsonl\.gz: the gzip data is cut off; copy "),
    # columns
    ("misnamed column", "a.jsonl", '{"promt": "a", "completion": "b"}', {},
     r"a\.jsonl:1: columns found: `promt`, `completion`; "
     r"is `promt` the `prompt`\? then write `columns: \{prompt: promt\}`"),
    ("unknown columns", "a.jsonl", '{"question": "a", "answer": "b"}', {},
     r"a\.jsonl:1: columns found: `question`, `answer`; wanted: text or prompt\+completion or "),
    ("mapped from nothing", "a.jsonl", GOOD, {"columns": {"text": "txt"}},
     r"a\.jsonl:1: no column `txt` for `text`; did you mean `text`\?"),
    ("mapped to nothing", "a.jsonl", GOOD, {"columns": {"promt": "text"}},
     r"columns: `promt` is no column of ours; did you mean `prompt`\?"),
    ("missing column", "a.jsonl", second_row(prompt="a"), {},
     r"a\.jsonl:2: no column `completion`, which the first row has; columns found: `prompt`"),
    ("mixed schemas", "a.jsonl", second_row(text="a"), {},
     r"a\.jsonl:2: no column `prompt`, .*; one source has one form, and this row is text"),
    # fields
    ("null", "a.jsonl", second_row(prompt="a", completion=None), {},
     r"a\.jsonl:2: `completion` is null, not text"),
    ("number", "a.jsonl", second_row(prompt=42, completion="b"), {},
     r"a\.jsonl:2: `prompt` is a number \(42\), not text"),
    ("number in Parquet", "a.parquet", parquet([{"text": 1.5}]), {},
     r"a\.parquet:1: `text` is a number \(1\.5\), not text"),
    ("list", "a.jsonl", GOOD * 9 + '{"text": ["a"]}\n', {},
     r"a\.jsonl:10: `text` is a list, not text"),
    ("empty", "a.jsonl", second_row(prompt="a", completion=""), {},
     r"a\.jsonl:2: `completion` is empty; fill it or drop the row"),
    ("blank", "a.jsonl", '{"text": " \\n"}', {}, r"a\.jsonl:1: `text` is only white space; "),
    ("empty in CSV", "a.csv", "text,n\n,1\n", {}, r"a\.csv:2: `text` is empty; "),
    ("message lists", "a.jsonl", json.dumps({"prompt": [USER], "completion": [ANSWER]}), {},
     r"a\.jsonl:1: `prompt` and `completion` are lists of messages; join .*`messages`"),
    # chats
    ("no list", "a.jsonl", '{"messages": "Hi"}', {}, r"a\.jsonl:1: `messages` is a text, not a "),
    ("no turns", "a.jsonl", chat(), {}, r"a\.jsonl:2: `messages` is an empty list; "),
    ("turn is a text", "a.jsonl", chat("Hi", ANSWER), {}, r"a\.jsonl:2: `messages\[0\]` is a text"),
    ("unknown role", "a.jsonl", chat(USER, {"role": "asistant", "content": "x"}), {},
     r"a\.jsonl:2: `messages\[1\]` has the unknown role `asistant`; did you mean `assistant`\?"),
    ("no role", "a.jsonl", chat({"rol": "user", "content": "x"}, ANSWER), {},
     r"a\.jsonl:2: `messages\[0\]` has no `role`; did you mean `rol`\?"),
    ("no content", "a.jsonl", chat(USER, {"role": "assistant", "content": None}), {},
     r"a\.jsonl:2: `messages\[1\]\.content` is null, not text"),
    ("blank answer", "a.jsonl", chat(USER, {"role": "assistant", "content": "\t"}), {},
     r"a\.jsonl:2: `messages\[1\]\.content` is only white space; "),
    ("no assistant", "a.jsonl", chat(USER), {}, r"a\.jsonl:2: `messages` has no assistant turn; "),
    ("user last", "a.jsonl", chat(USER, ANSWER, USER), {},
     r"a\.jsonl:2: `messages` ends with a user turn; "),
    ("two systems", "a.jsonl", chat(*[{"role": "system", "content": "x"}] * 2, USER, ANSWER), {},
     r"a\.jsonl:2: `messages` has 2 system turns; join them"),
    ("late system", "a.jsonl", chat(USER, {"role": "system", "content": "x"}, ANSWER), {},
     r"a\.jsonl:2: `messages\[1\]` is a system turn; a system turn comes first"),
    ("tool call", "a.jsonl", chat(USER, {**ANSWER, "tool_calls": [{}]}), {},
     r"a\.jsonl:2: `messages\[1\]` calls a tool; "),
    ("a turn of weight 0", "a.jsonl", chat(USER, {**ANSWER, "weight": 0}), {},
     r"a\.jsonl:2: `messages\[1\]` asks not to be trained on, "),
    ("unknown speaker", "a.jsonl", '{"conversations": [{"from": "bot", "value": "x"}]}', {},
     r"a\.jsonl:1: `conversations\[0\]` has the unknown role `bot`; "),
    # what the block asks
    ("separator unused", "a.txt", "one\n\ntwo", {"separator": "---"},
     r"a\.txt: the separator '---' does not occur; leave "),
    ("separator for rows", "a.jsonl", GOOD, {"separator": "---"}, r"a\.jsonl: `separator` di"),
    ("held out: nothing", "a.jsonl", GOOD, {"holdout": 1e-9}, r"a\.jsonl: `holdout: 1e-09` holds "),
    ("held out: all", "a.jsonl", GOOD, {"holdout": 1 - 1e-9}, r"a\.jsonl: `holdout: .*` holds "),
    ("too short to hold out", "a.txt", "word", {"holdout": 0.01}, r"a\.txt: too short to hold out"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "contents", "asked", "line"),
    [case[1:] for case in BAD],
    ids=[f"{case[0]} - {case[1]}" for case in BAD],
)
def test_bad_data_gives_one_clear_line(
    tmp_path: Path, file: str, contents: str | bytes | None, asked: dict, line: str
) -> None:
    (tmp_path / "a.jsonl").write_text(GOOD)
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "device.jsonl").symlink_to("/dev/zero")
    if contents is not None:
        data = contents.encode() if isinstance(contents, str) else contents
        (tmp_path / file).write_bytes(data)
    with pytest.raises(PosttrainError) as raised:
        check_data(DataBlock(file=file, **asked), Places(tmp_path, {}), ALL)
    assert re.match(line, str(raised.value)), str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300
    assert raised.value.exit_code == 2


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.txt.gz", "a.parquet.gz"])
def test_a_gzip_bomb_is_refused_before_it_is_expanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(text_files, "MAX_EXPANDED_BYTES", 10**6)
    monkeypatch.setattr(files, "MAX_LINE_BYTES", 10**9)
    (tmp_path / name).write_bytes(gzip.compress(b" " * 10**8))
    with pytest.raises(PosttrainError, match=r"expands to more than .* over 200 times its size"):
        check_data(DataBlock(file=name), Places(tmp_path, {}), ALL)


def test_damaged_files_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    chance = random.Random(7)
    found = [{"messages": [USER, ANSWER], "text": "gr\u00fcn, \n blue", "n": n} for n in range(5)]
    lines = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in found).encode()
    whole = {
        "a.jsonl": lines,
        "a.json": json.dumps(found, indent=1).encode(),
        "a.csv": b'text,n\n"a ""quoted"" b\nc",1\nd,2\n',
        "a.parquet": parquet(found),
        "a.jsonl.gz": gzip.compress(lines),
    }
    refused: list[str] = []
    for number in range(600):
        name = chance.choice(list(whole))
        data = bytearray(whole[name])
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(data))
            damage = bytes(chance.choices(b'"{}[],:\\\n\r\t\0\xff\xc3 1n', k=chance.randint(0, 3)))
            data[at : at + chance.choice((0, 1, 1, 5, 10**9))] = damage
            data = data or bytearray(b"x")
        (tmp_path / name).write_bytes(bytes(data))
        block = DataBlock(file=name, form=chance.choice(("text", "chat")), holdout=0.5)
        try:
            check_data(block, Places(tmp_path, {}), ALL)
        except PosttrainError as error:
            refused.append(str(error))
        else:
            continue
        assert refused[-1].startswith(name), number
    assert len(refused) > 300


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_LINE_BYTES", 1_000)
    (tmp_path / "a.jsonl").write_text(GOOD + '{"text": "' + "a" * 2_000)
    with pytest.raises(PosttrainError, match=r"a\.jsonl:2: the line is longer"):
        check_data(DataBlock(file="a.jsonl"), Places(tmp_path, {}), ALL)


def test_checking_local_data_imports_neither_torch_nor_datasets(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(GOOD)
    code = (
        "import sys, pathlib\n"
        "from pipeline.data.checks import check_data\n"
        "from pipeline.recipe.config import DataBlock\n"
        "from pipeline.recipe.references import Places\n"
        "places = Places(pathlib.Path(sys.argv[1]), {})\n"
        "check_data(DataBlock(file='a.jsonl'), places, ('text',))\n"
        "print({'torch', 'transformers', 'datasets', 'trl'} & set(sys.modules))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
