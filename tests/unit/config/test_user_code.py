"""A user's own code: loaded by its path, one file importing another, never taken for ours."""

import pickle
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import reward
from eval.task import Task
from pipeline.config.user_code import files_beside, load_object, object_source

REPOSITORY = Path(__file__).parents[3]


def message_of(call, *arguments) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        call(*arguments)
    assert str(caught.value).isprintable()
    return str(caught.value)


def write(folder: Path, **files: str) -> None:
    """Write Python files; `a__b` is a/b.py."""
    for name, source in files.items():
        path = folder.joinpath(*name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)


def test_a_users_module_never_stands_for_one_of_ours(tmp_path):
    (tmp_path / "reward.py").write_text("def brevity(): return 'mine'\n")
    (tmp_path / "json.py").write_text("name = __name__\n")
    path_before = list(sys.path)
    assert load_object("reward:brevity", tmp_path)() == "mine"
    assert load_object("json:name", tmp_path).startswith("_posttrain_user_")
    assert sys.modules["reward"] is reward
    assert sys.path == path_before
    assert not (tmp_path / "__pycache__").exists()


def test_code_comes_from_the_recipes_folder_or_what_is_installed(tmp_path):
    (tmp_path / "inner").mkdir()
    file = tmp_path / "inner" / "mine.py"
    file.write_text("from dataclasses import dataclass\n@dataclass\nclass Own:\n    x: int = 1\n")
    own = load_object("inner.mine:Own", tmp_path)
    assert object_source("inner.mine:Own", tmp_path) == file
    assert load_object("inner.mine:Own", tmp_path) is own
    assert pickle.loads(pickle.dumps(own())) == own()
    file.write_text("Own = 2\n")
    assert load_object("inner.mine:Own", tmp_path) == 2
    assert load_object("json.decoder:JSONDecoder", tmp_path).__module__ == "json.decoder"
    assert object_source("json.decoder:x", tmp_path) == Path(sys.modules["json.decoder"].__file__)
    assert object_source("sys:x", tmp_path) is None


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = (\n", "mine.py:1: SyntaxError"),
        ("x = 1\nif x:\ny = 2\n", "mine.py:3: IndentationError"),
        ("def f():\n    1 / 0\nf()\n", "mine.py:2: ZeroDivisionError"),
        ("import no_such_module_here\n", "mine.py:1: ModuleNotFoundError: No module"),
        ("from beside import nothing\n", "mine.py:1: ImportError: cannot import name 'nothing'"),
        ("import wrong\n", "wrong.py:2: ZeroDivisionError"),
        ("import sys\nsys.exit(3)\n", "mine.py:2: SystemExit: 3"),
        ("raise Exception('two\\nlines')\n", "mine.py:1: Exception: two lines"),
        ("import json\njson.loads('{')\n", "mine.py:2: JSONDecodeError"),
        ("brevity = 1\n", "has no `brevty`; did you mean `brevity`?"),
        ("", "has no `brevty`; it has nothing"),
    ],
)
def test_what_a_users_module_does_wrong_is_one_line(tmp_path, source, message):
    (tmp_path / "mine.py").write_text(source)
    (tmp_path / "beside.py").write_text("")
    (tmp_path / "wrong.py").write_text("\n1 / 0\n")
    assert message in message_of(load_object, "mine:brevty", tmp_path)
    assert not [name for name in sys.modules if name == "beside"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mine", "not of the form `module:name`"),
        ("mine.py:f", "no file mine/py.py beside the recipe"),
        ("../mine:f", "not of the form"),
        ("a/mine:f", "not of the form"),
        (":f", "not of the form"),
        ("mine:", "not of the form"),
        ("x" * 300 + ":f", "not of the form"),
        ("mone:f", "no installed module `mone`; did you mean `mine`?"),
        ("json.nothing:f", "no installed module `json.nothing`"),
        ("made_by_hand:f", "no installed module"),
    ],
)
def test_code_that_is_not_there_is_named(tmp_path, monkeypatch, text, message):
    monkeypatch.setitem(sys.modules, "made_by_hand", ModuleType("made_by_hand"))
    (tmp_path / "mine.py").write_text("")
    for call in (load_object, object_source):
        assert re.search(re.escape(message), message_of(call, text, tmp_path))


@pytest.mark.parametrize(
    "source",
    [
        "import helpers\nvalue = helpers.two()\n",
        "import helpers as h\nvalue = h.two()\n",
        "from helpers import two\nvalue = two()\n",
        "from helpers import *\nvalue = two()\n",
        "from . import helpers\nvalue = helpers.two()\n",
        "from .helpers import two\nvalue = two()\n",
        "import inner.deep\nvalue = inner.deep.two()\n",
        "from inner import deep\nvalue = deep.two()\n",
        "from inner.deep import two\nvalue = two()\n",
        "from package import two, deep\nvalue = two() * deep.one\n",
        "def late():\n    from helpers import two\n    return two()\nvalue = late()\n",
    ],
)
def test_files_beside_a_recipe_import_one_another(tmp_path, source):
    two = "def two():\n    return 2\n"
    write(tmp_path, mine=source, helpers=two, inner__deep=two)
    write(tmp_path, package__deep=f"one = 1\n{two}")
    (tmp_path / "package/__init__.py").write_text("from .deep import two\n")
    before = set(sys.modules)
    assert load_object("mine:value", tmp_path) == 2
    assert all(name.startswith("_posttrain_user_") for name in set(sys.modules) - before)


def test_what_a_file_imports_beside_it_is_part_of_what_is_computed(tmp_path):
    write(tmp_path, mine="from a import x\n", a="import b\nx = b.x\n", b="x = 1\n", c="")
    assert [*files_beside(tmp_path / "mine.py", tmp_path)] == ["a.py", "b.py"]
    assert load_object("mine:x", tmp_path) == 1
    write(tmp_path, b="x = 5\n")
    assert load_object("mine:x", tmp_path) == 5


def test_files_named_like_our_packages_and_ours_stay_apart(tmp_path):
    ours = "from eval.task import Task\nfrom reward.verdict import Verdict\nimport eval.results\n"
    write(tmp_path, eval=f"{ours}def grade():\n    return Task, Verdict, eval.results\n")
    write(tmp_path, reward="from eval import grade\nimport eval as beside\nown = beside.grade\n")
    write(tmp_path, datasets="name = 'mine'\n")
    assert load_object("eval:grade", tmp_path)()[0] is Task
    assert load_object("reward:own", tmp_path)()[0] is Task
    assert sys.modules["eval"].__file__ != str(tmp_path / "eval.py")
    assert sys.modules["reward"] is reward


def test_a_folder_of_data_never_stands_for_a_package(tmp_path):
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "rows.jsonl").write_text("{}")
    write(tmp_path, mine="from json import loads\nvalue = loads('3')\n")
    assert load_object("mine:value", tmp_path) == 3


def test_files_that_import_each_other_are_loaded_once(tmp_path):
    write(tmp_path, mine="import other\nx = 1\n", other="import mine\ny = mine\n")
    assert load_object("mine:other", tmp_path).y.x == 1


@pytest.mark.parametrize("how", ["a script", "the current folder on the path", "a module"])
def test_an_eval_py_beside_a_script_is_not_taken_for_ours(tmp_path, how):
    write(tmp_path, eval="raise SystemExit('theirs')\n", reward="raise SystemExit('theirs')\n")
    write(tmp_path, script="import pipeline\nimport eval.task, reward.verdict\nprint('ours')\n")
    command = {
        "a script": ["script.py"],
        "the current folder on the path": ["-c", "import script"],
        "a module": ["-m", "pipeline.cli", "list", "stages"],
    }[how]
    ended = subprocess.run(
        [sys.executable, *command],
        cwd=tmp_path,
        env={"PYTHONPATH": f".:{REPOSITORY}", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "ours" in ended.stdout or "sft" in ended.stdout


def test_a_module_that_took_our_name_before_is_named(tmp_path):
    write(tmp_path, eval="x = 1\n", script="import eval\nimport pipeline\n")
    ended = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ImportError: `eval` is imported from" in ended.stderr
    assert "eval.py" in ended.stderr
