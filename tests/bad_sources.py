"""Data files with one thing wrong, as a table: what is said of each begins with its place."""

import gzip
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq

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
    ("message lists", "a.jsonl", json.dumps({"prompt": [USER], "completion": [ANSWER, USER]}), {},
     r"a\.jsonl:1: `completion` ends with a user turn; "),
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
     r"a\.jsonl:2: `messages\[1\]\.tool_calls` calls something without a `name`; "),
    ("a turn of weight 0", "a.jsonl", chat(USER, {**ANSWER, "weight": 0}), {},
     r"a\.jsonl:2: no assistant turn of `messages` is to be trained on; "),
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
