"""Bad data: each class gives one line that names the place, the fault and what to do."""

import gzip
import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.config.blocks import DataBlock
from pipeline.config.references import Places
from pipeline.data.reading import files
from pipeline.data.reading.checks import check_data
from pipeline.errors import PosttrainError
from pipeline.files import text_files
from tests.bad_sources import ANSWER, BAD, GOOD, USER, parquet

ALL = ("text", "prompt_completion", "chat")


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
        "from pipeline.data.reading.checks import check_data\n"
        "from pipeline.config.blocks import DataBlock\n"
        "from pipeline.config.references import Places\n"
        "places = Places(pathlib.Path(sys.argv[1]), {})\n"
        "check_data(DataBlock(file='a.jsonl'), places, ('text',))\n"
        "print({'torch', 'transformers', 'datasets', 'trl'} & set(sys.modules))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
