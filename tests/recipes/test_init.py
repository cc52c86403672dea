"""`posttrain init` writes a recipe that passes `check`, or says what keeps it from it."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from pipeline import load_recipe
from pipeline.plan.plan import make
from pipeline.store.store import Store
from tests.command import command
from tests.small_folders import small_tokenizer

call = pytest.fixture(command)
DEMONSTRATIONS = {"instruction": "Add 1 and 2.", "output": "3"}
PAIRS = {"prompt": "Say hello.", "chosen": "Hello!", "rejected": "No."}
TEXTS = {"text": "Once upon a time there was a cat. " * 40}
PROMPTS = {"prompt": "Say hello."}
MESSAGES = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}


def rows(folder: Path, name: str, row: dict, count: int = 60) -> str:
    numbered = [{**row, "number": number} for number in range(count)]
    for number, each in enumerate(numbered):
        for key, value in each.items():
            if isinstance(value, str):
                each[key] = f"{number}. {value}"
            elif isinstance(value, list):
                each[key] = [{**turn, "content": f"{number}. {turn['content']}"} for turn in value]
    (folder / name).write_text("".join(json.dumps(each) + "\n" for each in numbered))
    return name


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "small"
    tokenizer = small_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=512,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("given", "goal", "stages"),
    [
        ([DEMONSTRATIONS], None, ["sft", "compare"]),
        ([MESSAGES], None, ["sft", "compare"]),
        ([PAIRS], None, ["dpo", "compare"]),
        ([DEMONSTRATIONS, PAIRS], None, ["sft", "dpo", "compare"]),
        ([DEMONSTRATIONS, PAIRS], "ppo", ["sft", "preference", "ppo", "compare"]),
        ([PAIRS, PROMPTS], "ppo", ["preference", "ppo", "compare"]),
        ([TEXTS], None, ["pretrain", "compare"]),
        ([TEXTS], "evaluate", ["evaluate"]),
        ([], None, ["evaluate"]),
        ([{"question": "1 + 2?", "answer": "3"}], None, ["sft", "compare"]),
        ([{"prompt": "1 + 2?", "response ": "3"}], None, ["sft", "compare"]),
        ([{"TEXT": "Once upon a time. " * 40}], None, ["pretrain", "compare"]),
        ([{"question": "1 + 2?", "preferred": "3", "dispreferred": "4"}], None, ["dpo", "compare"]),
    ],
)
def test_what_it_writes_passes_check_and_plans(here, call, model, given, goal, stages) -> None:
    files = [rows(here, f"data {n}, mine.jsonl", row) for n, row in enumerate(given)]
    data = [part for file in files for part in ("--data", file)]
    wanted = ["--goal", goal] if goal else []
    said = call("init", "first.yaml", "--model", str(model), *data, *wanted)
    assert said.code == 0, said.err
    checked = call("check", "first.yaml")
    assert checked.code == 0, checked.err
    plan = make(load_recipe("first.yaml"), Store(here / "runs"))
    assert [planned.name for planned in plan.stages] == stages
    text = (here / "first.yaml").read_text()
    assert text.count("#") > 5
    assert text.count("holdout: 0.1") == 2 * len(
        [row for row in given if goal != "evaluate" and row != PROMPTS]
    )
    assert max(map(len, text.splitlines())) < 200
    schema = json.loads((here / "recipe.schema.json").read_text())
    assert "$schema=recipe.schema.json" in text.splitlines()[0]
    assert schema["title"] == "posttrain recipe"


def test_a_recipe_in_another_folder_names_everything_from_there(here, call, model) -> None:
    rows(here, "mine.jsonl", MESSAGES)
    said = call("init", "inner/first.yaml", "--model", str(model), "--data", "mine.jsonl")
    assert said.code == 0, said.err
    assert "file: ../mine.jsonl" in (here / "inner/first.yaml").read_text()
    assert call("check", "inner/first.yaml").code == 0


def test_a_text_file_is_divided_where_it_is_divided(here, call, model) -> None:
    (here / "book.txt").write_text("\n\n".join(f"Paragraph {n}. It is short." for n in range(80)))
    said = call("init", "--model", str(model), "--data", "book.txt")
    assert said.code == 0, said.err
    recipe = (here / "recipe.yaml").read_text()
    assert 'separator: "\\n\\n"' in recipe
    assert recipe.count("holdout: 0.1") == 2  # trained without it, measured on it


def test_pairs_that_are_longer_than_the_model_are_cut(here, call, model) -> None:
    rows(here, "long.jsonl", {**PAIRS, "chosen": "Hello there! " * 60})
    said = call("init", "--model", str(model), "--data", "long.jsonl")
    assert said.code == 0, said.err
    assert "\n    too_long: truncate #" in (here / "recipe.yaml").read_text()
    assert "\n    truncation_side: right #" in (here / "recipe.yaml").read_text()
    rows(here, "prompts.jsonl", {**PAIRS, "prompt": "Say hello, please. " * 60})
    said = call("init", "other.yaml", "--model", str(model), "--data", "prompts.jsonl")
    assert said.code == 0, said.err
    assert "\n    truncation_side: left #" in (here / "other.yaml").read_text()
    assert call("check", "recipe.yaml").code == 0


def test_nothing_is_held_out_where_all_rows_are_alike(here, call, model) -> None:
    (here / "same.jsonl").write_text((json.dumps(DEMONSTRATIONS) + "\n") * 80)
    said = call("init", "--model", str(model), "--data", "same.jsonl")
    assert said.code == 0, said.err
    assert "holdout" not in (here / "recipe.yaml").read_text()


def test_data_and_models_of_the_hub_are_named_without_being_asked_for(here, call) -> None:
    options = ("--model", "owner/model", "--data", "pairs:owner/data")
    assert call("init", *options).code == 0
    recipe = (here / "recipe.yaml").read_text()
    assert "{hub: owner/data}" in recipe
    assert "lora: {r: 16} #" in recipe


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--data", "mine.jsonl"], "--model: is missing; give a folder or a hub id"),
        (["--model", "nowhere"], "`nowhere` is neither a folder nor a hub id"),
        (
            ["--model", "o/m", "--data", "min.jsonl"],
            "no file `min.jsonl`; did you mean `mine.jsonl`?",
        ),
        (["--model", "o/m", "--data", "o/d"], "say what its rows are"),
        (["--model", "o/m", "--data", "odd.jsonl"], "has the columns a, number, which are none"),
        (["--model", "o/m", "--data", "mine.jsonl", "--goal", "dop"], "did you mean `dpo`?"),
        (["--model", "o/m", "--data", "mine.jsonl", "--goal", "dpo"], "`dpo` needs pairs"),
        (
            ["--model", "o/m", "--data", "mine.jsonl", "--goal", "ppo"],
            "needs something that rewards",
        ),
        (["there.yaml", "--model", "o/m"], "is there already; name another file, or add --force"),
    ],
)
def test_what_is_missing_is_said_in_one_line_and_nothing_is_written(
    here, call, options, said
) -> None:
    rows(here, "mine.jsonl", MESSAGES)
    rows(here, "odd.jsonl", {"a": 1})
    (here / "there.yaml").write_text("")
    ended = call("init", *options)
    assert ended.code == 2
    assert said in ended.err
    assert len(ended.err.splitlines()) == 1
    assert not (here / "recipe.yaml").exists()
    assert (here / "there.yaml").read_text() == ""


def test_on_a_terminal_it_asks_and_asks_again(here, model) -> None:
    rows(here, "mine.jsonl", MESSAGES)
    answers = ["nowhere", str(model), "none.jsonl", "mine.jsonl", "", "dop", "sft"]
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", "init"],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=follower,
        stdout=follower,
        stderr=follower,
        close_fds=True,
    )
    os.close(follower)
    os.write(leader, "".join(f"{answer}\n" for answer in answers).encode())
    screen = b""
    while True:
        try:
            part = os.read(leader, 4096)
        except OSError:
            break
        if not part:
            break
        screen += part
    os.close(leader)
    assert process.wait() == 0, screen.decode()
    text = screen.decode()
    assert "`nowhere` is neither a folder nor a hub id" in text
    assert "there is no file `none.jsonl`" in text
    assert "did you mean `dpo`?" in text
    assert "60 rows, demonstrations" in text
    assert [*load_recipe(here / "recipe.yaml").stages] == ["sft", "compare"]


def test_all_data_is_used_where_nothing_is_trained(call, here, model) -> None:
    given = {"chats.jsonl": DEMONSTRATIONS, "pairs.jsonl": PAIRS, "prompts.jsonl": PROMPTS}
    arguments = [word for name, row in given.items() for word in ("--data", rows(here, name, row))]
    said = call("init", "--model", str(model), "--goal", "evaluate", *arguments)
    assert said.code == 0, said.err
    asked = load_recipe(here / "recipe.yaml").stages["evaluate"]
    used = (*asked.texts, *asked.prompts)
    assert [(Path(block.file).name, block.holdout) for block in used] == [
        ("chats.jsonl", None),
        ("pairs.jsonl", None),
        ("prompts.jsonl", None),
    ]
    assert "not used for" not in said.out


def test_data_that_the_goal_has_no_use_for_is_named(call, here, model) -> None:
    own = rows(here, "chats.jsonl", DEMONSTRATIONS)
    said = call(
        *("init", "--model", str(model), "--goal", "sft", "--data", own),
        *("--data", "texts:owner/name"),
    )
    assert said.code == 0, said.err
    assert "warning: not used for sft: owner/name" in said.out


def test_a_reward_is_refused_where_nothing_learns_from_one(call, here, model) -> None:
    own = rows(here, "chats.jsonl", DEMONSTRATIONS)
    said = call("init", "--model", str(model), "--goal", "sft", "--data", own, "--reward", "a:b")
    assert said.code == 2
    assert said.err.startswith("--reward: `sft` learns from no reward")
    assert not (here / "recipe.yaml").exists()


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"prompt": "Say hello.", "completion": " Hello!", "label": True}, None),
        ({**MESSAGES, "kto_tag": True}, None),
        ({"question": "Hello?", "answer": "Hello!", "thumbs_up": True}, "label: thumbs_up"),
    ],
)
def test_thumbs_become_a_kto_stage(here, call, model, row, columns) -> None:
    name = rows(here, "thumbs.jsonl", row)
    lines = [json.loads(line) for line in (here / name).read_text().splitlines()]
    label = next(key for key, value in row.items() if value is True)
    thumbs = [{**line, label: number % 2 == 0} for number, line in enumerate(lines)]
    (here / name).write_text("".join(json.dumps(line) + "\n" for line in thumbs))
    said = call("init", "--model", str(model), "--data", name)
    assert said.code == 0, said.err
    plan = make(load_recipe("recipe.yaml"), Store(here / "runs"))
    assert [planned.name for planned in plan.stages] == ["kto", "compare"]
    text = (here / "recipe.yaml").read_text()
    assert text.count("holdout: 0.1") == 1
    assert columns is None or columns in text
