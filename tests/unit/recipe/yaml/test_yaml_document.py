"""What a recipe's text means, where everything in it stands, and that no text can crash us."""

import contextlib
import json
import math
import os
import random

import pytest

from pipeline.errors import PosttrainError
from pipeline.recipe.yaml.document import Document, apply_overrides, read

RECIPE = """\
name: my-alignment
stages:
  sft:
    stage: sft
    data: [{file: a.txt, weight: 3}, {file: b.txt}]
    training_args:
      learning_rate: 1e-4
  compare:
    stage: compare
    candidates:
      - $sft
      - other/model
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def written(folder):
    def write(text: str | bytes) -> Document:
        path = folder / "r.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return read(path)

    return write


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        (".5", 0.5),
        ("2.", 2.0),
        ("-.5e+3", -500.0),
        ("6.02e23", 6.02e23),
        ("+12", 12),
        ("012", 12),
        ("-0", 0),
        ("0o17", 15),
        ("0x1F", 31),
        ("no", "no"),
        ("NO", "NO"),
        ("yes", "yes"),
        ("on", "on"),
        ("off", "off"),
        ("y", "y"),
        ("true", True),
        ("True", True),
        ("TRUE", True),
        ("false", False),
        ("tRUE", "tRUE"),
        ("~", None),
        ("null", None),
        ("NULL", None),
        ("", None),
        ("nUll", "nUll"),
        ("12:30:00", "12:30:00"),
        ("2024-05-06", "2024-05-06"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("0o8", "0o8"),
        ("0x", "0x"),
        ("-0x1F", "-0x1F"),
        ("1e", "1e"),
        (".", "."),
        ("1.2.3", "1.2.3"),
        ("1e5x", "1e5x"),
        ("\u0661", "\u0661"),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("+.Inf", math.inf),
        ("'1'", "1"),
        ('"no"', "no"),
        ("'~'", "~"),
        ("$sft", "$sft"),
        ("a#b", "a#b"),
        ("a #b", "a"),
        ("Qwen/Qwen3-0.6B@main", "Qwen/Qwen3-0.6B@main"),
    ],
)
def test_unquoted_values_mean_what_yaml_1_2_says(written, text, value):
    found = written(f"key: {text}\n").value["key"]
    assert (found, type(found)) == (value, type(value))


def test_nan_is_a_float(written):
    assert all(math.isnan(value) for value in written("a: [.nan, .NaN, .NAN]").value["a"])


def test_json_is_read_as_json_reads_it(written):
    dice = random.Random(5)

    def some(depth: int):
        kind = dice.randrange(4 if depth < 4 else 2)
        if kind == 0:
            return dice.choice([None, True, False, 0, -17, 2.5, 1e-7, 10**30])
        if kind == 1:
            return "".join(
                dice.choices("ab :#-[]{}'\"\\,&*!%@`\u00e9\u4e2d0~", k=dice.randrange(9))
            )
        if kind == 2:
            return [some(depth + 1) for _ in range(dice.randrange(4))]
        return {f"k{number}": some(depth + 1) for number in range(dice.randrange(4))}

    for _ in range(60):
        value = {"top": some(0)}
        assert written(json.dumps(value, ensure_ascii=False)).value == value


def test_every_position_is_where_the_key_or_item_stands(written):
    document = written(RECIPE)
    lines = RECIPE.splitlines()
    for location, (line, column) in document.positions.items():
        rest = lines[line - 1][column - 1 :]
        part = location[-1] if location else "name"
        if isinstance(part, str):
            assert rest.startswith(f"{part}:")
    assert document.positions["stages", "sft", "data", 1] == (5, 38)
    assert document.positions["stages", "compare", "candidates", 1] == (12, 9)


@pytest.mark.parametrize(
    ("location", "key", "place"),
    [
        (("name",), True, "1:1"),
        (("name",), False, "1:7"),
        (("stages", "sft"), False, "3:3"),
        (("stages", "sft", "data"), True, "5:5"),
        (("stages", "sft", "data"), False, "5:11"),
        (("stages", "sft", "data", 0, "weight"), False, "5:34"),
        (("stages", "sft", "training_args", "learning_rate"), False, "7:22"),
        # what pydantic adds to a location: union members, tags, the index of a list of one
        (("stages", "sft", "sft", "training_args"), True, "6:5"),
        (("stages", "sft", "data", "tuple[DataBlock, ...]", 1, "file"), False, "5:45"),
        (("name", "function-before[_count(), int]"), False, "1:7"),
        (("stages", "compare", "stage", 0), False, "9:12"),
        (("stages", "sft", "training_args", 0, "learning_rate"), True, "7:7"),
        # what is absent: its nearest ancestor's key
        (("stages", "sft", "model"), False, "3:3"),
        (("stages", "sft", "data", 0, "hub", "name"), False, "5:12"),
        (("stages", "nowhere", "sft", "data"), False, "2:1"),
        ((), False, "1:1"),
    ],
)
def test_a_location_is_shown_as_file_line_and_column(written, location, key, place):
    assert written(RECIPE).where(location, key=key) == f"r.yaml:{place}"


def test_a_file_elsewhere_is_shown_with_its_whole_path(written, folder, monkeypatch):
    document = written(RECIPE)
    inner = folder / "inner"
    inner.mkdir()
    monkeypatch.chdir(inner)
    assert document.where(("name",)) == f"{folder}/r.yaml:1:7"


BAD = [
    ("", "1:1", "empty"),
    ("# nothing\n", "1:1", "empty"),
    ("---\n...\n", "1:1", "empty"),
    ("- a\n- b\n", "1:1", "this is a list"),
    ("\njust text\n", "2:1", "this is text"),
    ("7", "1:1", "this is a number"),
    ("a:\n\tb: 1\n", "2:1", "tab"),
    ("a: 1\n\tb: 2\n", "2:1", "tab"),
    ("a: 1\nb: 2\na: 3\n", "3:1", "the key `a` is already in line 1"),
    ("s:\n  t: {x: 1, y: 2, x: 3}\n", "2:19", "the key `x` is already in line 2"),
    ("a: 1\n1: 2\n", "2:1", "the key `1` is a number, not text; quote it"),
    ("true: 2\n", "1:1", "the key `true` is true or false"),
    ("a: {~: 2}\n", "1:5", "the key `~` is empty"),
    ("a: {1e3: 2}\n", "1:5", "is a number"),
    (": 2\n", "1:1", "a key is missing"),
    ("? [a]\n: 2\n", "1:3", "a key must be text"),
    ("a: {{x}}\n", "1:5", "a key must be text"),
    ("b: &x 1\na:\n  *x : 2\n", "3:3", "an alias cannot be a key"),
    ("a: &x {k: 1}\nb:\n  <<: *x\n", "3:3", "merge keys"),
    ("a: 1\n---\nb: 2\n", "2:1", "a second document"),
    ("a: 1\n...\nb: 2\n", "3:1", "belongs to no document"),
    ("a: !!python/object/apply:os.system [ls]\n", "1:4", "tags"),
    ("a: !thing 1\n", "1:4", "tags"),
    ("a: !!str 1\n", "1:4", "tags"),
    ("a: ! 1\n", "1:4", "tags"),
    ("a: !e!x 1\n", "1:4", "tags"),
    ("!x a: 1\n", "1:1", "tags"),
    ("a: &x [*x]\n", "1:8", "contains itself"),
    ("a: &x\n  b: {c: *x}\n", "2:10", "contains itself"),
    ("a: *x\n", "1:4", "has no `&x` before it"),
    ("files: *.jsonl\n", "1:8", "begin an alias"),
    ("a: [1, 2\n", "1:4", "never closed with ]"),
    ("a: {b: 1\nc: 2\n", "2:2", "the bracket of line 1"),
    ("a: 'x\nb: 1\n", "1:4", "quote is never closed"),
    ("a: 1\nb\nc: 2\n", "2:1", "no `:`"),
    ("a: b: c\n", "1:5", "a `:` is not allowed here"),
    ("a: 1\n b: 2\n", "2:3", "check the indentation"),
    ("a:\n  b: 1\n c: 2\n", "3:2", "check the indentation"),
    ("a: - b\n", "1:4", "a list item"),
    ("a: @x\n", "1:4", "cannot begin with @"),
    ('a: "x" y\n', "1:8", "goes on after its quotes"),
    ('a: "\\q"\n', "1:6", "escape"),
    ('a: "\\UFFFFFFFF"\n', "1:7", "too large"),
    ('a: "\\0"\n', "1:4", "NUL"),
    ('a: "\\ud83d"\n', "1:4", "half a character"),
    ("a: \u00e9\x07\n", "1:5", "U+0007"),
    (f"a: {'9' * 5000}\n", "1:4", "number is too long"),
    (f"{'9' * 5000}: a\n".replace("9" * 5000, "9" * 900), "1:1", "number is too long"),
    (f"%YAML 1.{'9' * 5000}\n---\na: 1\n", "1:9", "too large"),
    ("%YAML 2.0\n---\na: 1\n", "1:1", "incompatible"),
    (f"a: {'[' * 3000}", "1:43", "deeper than 40"),
    ("- " * 3000, "1:81", "deeper than 40"),
    (f"a: &x {'[' * 25}{']' * 25}\nb: {'[' * 20}*x", "2:24", "deeper than 40"),
    (f"a: [{'1,' * 20000}]", "1:20001", "more than 10,000 values"),
    (b"a: 1\nb: \x00\n", "2:4", "NUL byte"),
    (b"a: 1\nb: caf\xe9\n", "2:7", "byte 0xe9 is not UTF-8"),
    ("\u00e9: 1\n".encode() + b"\xff", "2:1", "byte 0xff"),
    ("a: 1\n".encode("utf-16"), "1:1", "UTF-16"),
    ("a: 1\n".encode("utf-16-le"), "1:2", "NUL byte"),
    (b"a: 1\n" + b"#" * 1_000_000, "1:1", "larger than 1,000,000 bytes"),
]


@pytest.mark.parametrize(("text", "place", "message"), BAD)
def test_bad_text_is_one_line_at_its_place(written, text, place, message):
    with pytest.raises(PosttrainError) as caught:
        written(text)
    assert caught.value.where == f"r.yaml:{place}"
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


def test_an_alias_bomb_is_refused_at_the_alias_that_goes_too_far(written):
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(PosttrainError, match="more than 10,000 values") as caught:
        written("\n".join(lines))
    assert caught.value.where.startswith("r.yaml:4:")


def test_an_alias_to_long_text_cannot_fill_the_memory(written):
    with pytest.raises(PosttrainError, match="characters, aliases written out"):
        written(f"a: &a {'x' * 400_000}\nb: [*a, *a, *a]\n")


def test_an_alias_is_a_copy_of_what_its_anchor_was_then(written):
    document = written("x: &x 1\ny: &y {deep: [*x]}\nz: &x 2\nw: *y\nv: *x\nkey: {&k name: *k}\n")
    assert document.value == {
        "x": 1,
        "y": {"deep": [1]},
        "z": 2,
        "w": {"deep": [1]},
        "v": 2,
        "key": {"name": "name"},
    }
    changed = apply_overrides(document, ["w.deep=[7]"])
    assert (changed.value["w"], changed.value["y"]) == ({"deep": [7]}, {"deep": [1]})
    assert document.where(("w", "deep")) == "r.yaml:2:14"


def test_a_byte_order_mark_is_no_part_of_the_text(written):
    document = written(b"\xef\xbb\xbfname: x\n")
    assert (document.value, document.where(("name",), key=True)) == ({"name": "x"}, "r.yaml:1:1")


def test_a_file_that_cannot_be_read_says_what_to_do(folder):
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    for path, message in (
        (folder, "this is a folder; name the recipe file in it"),
        (folder / "none.yaml", "no such file"),
        (folder / "none" / "r.yaml", "no such file"),
        (fifo, "not a regular file"),
        (folder / "a\0b", "NUL byte"),
        (folder / ("x" * 300), "cannot be read: File name too long"),
    ):
        with pytest.raises(PosttrainError, match=message):
            read(path)


@pytest.mark.parametrize(
    ("override", "location", "value"),
    [
        ("stages.sft.training_args.max_steps=2", ("stages", "sft", "training_args"), 2),
        ("stages.sft.training_args.learning_rate=3e-5", ("stages", "sft", "training_args"), 3e-5),
        ("stages.sft.data.1.weight=.5", ("stages", "sft", "data", 1), 0.5),
        ("stages.compare.candidates.0=$x", ("stages", "compare", "candidates"), "$x"),
        ("stages.sft.model={architecture: llama, n: [1, no]}", ("stages", "sft"), None),
        ("stages.sft.lora.inner.r=16", ("stages", "sft", "lora", "inner"), 16),
        ("name='a=b'", (), "a=b"),
        ("name=a=b", (), "a=b"),
        ("seed=", (), None),
    ],
)
def test_set_writes_one_value_and_errors_point_at_it(written, override, location, value):
    document = written(RECIPE)
    changed = apply_overrides(document, [override])
    name = override.partition("=")[0]
    last = name.rpartition(".")[2]
    part = int(last) if last.isdigit() else last
    found = changed.value
    for step in (*location, part):
        found = found[step]
    if "{" in override:
        value = {"architecture": "llama", "n": [1, "no"]}
    assert found == value
    assert changed.where((*location, part)) == f"--set {name}"
    assert changed.where(("stages", "sft", "stage")) == "r.yaml:4:12"
    assert document.value == written(RECIPE).value


def test_set_finds_keys_with_dots_and_fills_an_empty_mapping(written):
    document = written("stages:\n  sft.v2:\n    args:\n")
    changed = apply_overrides(document, ["stages.sft.v2.args.x=1", "stages.sft.v2.args.x=[2]"])
    assert changed.value == {"stages": {"sft.v2": {"args": {"x": [2]}}}}
    assert changed.where(("stages", "sft.v2", "args", "x", 0)) == "--set stages.sft.v2.args.x"
    assert changed.where(("stages", "sft.v2", "args"), key=True) == "r.yaml:3:5"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("", "not of the form"),
        ("name", "not of the form"),
        ("=3", "not of the form"),
        ("a..b=3", "not of the form"),
        ("a\x1b.b=3", "not of the form"),
        ("name.x=3", "`name` is text, not a mapping"),
        ("stages.sft.data.2.file=x", "has no item `2`; count from 0 to 1"),
        ("stages.sft.data.-1.file=x", "has no item `-1`"),
        ("stages.sft.data.first=x", "has no item `first`"),
        ("name=a: b", "without brackets"),
        ("name=- a", "without brackets"),
        ("name=[a", "never closed"),
        ("name=!x a", "tags"),
        ("name=*a", "has no `&a`"),
        ("name={a: 1, a: 2}", "already"),
        (f"name={'[' * 50}", "deeper than 40"),
        (f"{'a.' * 50}a=1", "deeper than 40"),
        ("name=\udcff", "control character"),
    ],
)
def test_a_malformed_set_is_refused_by_name(written, override, message):
    with pytest.raises(PosttrainError) as caught:
        apply_overrides(written(RECIPE), [override])
    assert caught.value.where.startswith("--set ")
    assert message in str(caught.value)


PIECES = [*"ab{}[],\"'#~@=\\\n\t\r\u2028\u00e9\0\ufeff\x1b", ": ", "- ", "? ", "\n  ", "&x ", "*x "]
PIECES += ["!t ", "|\n", ">-\n ", "%YAML 1.1\n", "---\n", "...\n", "<<: ", "1e5", "0x", "\\u12"]


def test_random_text_only_ever_raises_our_error(written):
    dice = random.Random(20)
    num_read = num_refused = 0
    for number in range(2000):
        content = bytearray(RECIPE.encode())
        for _ in range(dice.randrange(1, 4)):
            content[dice.randrange(len(content))] = dice.randrange(10, 140)
        pieces = "".join(dice.choices(PIECES, k=dice.randrange(1, 14))).encode()
        text = (bytes(content), pieces, b"a: " + pieces, dice.randbytes(20))[number % 4]
        try:
            written(text)
            num_read += 1
        except PosttrainError:
            num_refused += 1
    assert (num_read > 200, num_refused > 200) == (True, True)


def test_random_overrides_only_ever_raise_our_error(written):
    dice = random.Random(21)
    document = written(RECIPE)
    starts = ["name=", "stages.sft.data.0=", "stages.sft.new=", "stages.", ""]
    num_applied = 0
    for _ in range(1000):
        text = dice.choice(starts) + "".join(dice.choices(PIECES, k=dice.randrange(1, 6)))
        with contextlib.suppress(PosttrainError):
            apply_overrides(document, [text])
            num_applied += 1
    assert num_applied > 50
    assert document == written(RECIPE)
