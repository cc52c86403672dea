"""`posttrain export`, and what plain libraries make of the folder that it writes."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from pipeline.config.stage import StageInput
from pipeline.files.names import ARTIFACT
from pipeline.models.load import load_policy
from pipeline.models.reward import load_reward_model
from pipeline.store.manifest import describe_files, read_sealed, write_sealed
from pipeline.store.staging import staging
from reward.model import scores
from tests.command import Command, command, the_line
from tests.export_recipes import AGAIN, RECIPE
from tests.forked import run_forked, warm
from tests.hub import Hub

IDS = [[5, 40, 41, 42], [50, 60, 70, 80, 90]]
MERGED = ("--merged",)
EXPORTS = dict.fromkeys(("sft", "lora", "base", "rm_lora"), ()) | dict.fromkeys(
    ("dpo", "rm", "rm_lora_merged"), MERGED
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which RECIPE has run, but for its last stage; data has absolute paths."""
    warm()
    folder = tmp_path_factory.mktemp("secret-folder")
    chats = [
        {"role": role, "content": text}
        for n in range(32)
        for role, text in (("user", f"{n} + 2 ="), ("assistant", f" {n + 2}"))
    ]
    lines = [json.dumps({"messages": chats[n : n + 2]}) + "\n" for n in range(0, 64, 2)]
    (folder / "chats.jsonl").write_text("".join(lines))
    (folder / "text.txt").write_text("3 + 4 = 7.\n" * 20)
    (folder / "tiny.yaml").write_text(RECIPE.replace("DIR", str(folder)))
    ended = run_forked(folder / "tiny.yaml", folder / "runs", until="compare")
    assert ended.code == 0, ended.output
    for stage in ("rm", "rm_lora", "dpo"):
        ended = run_forked(folder / "tiny.yaml", folder / "runs", until=stage)
        assert ended.code == 0, ended.output
    return folder


@pytest.fixture
def posttrain(
    made: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    """The command, where the recipe and its results are; tmp_path is elsewhere."""
    monkeypatch.chdir(made)
    return command(monkeypatch, capsys)


@pytest.fixture
def export(posttrain: Command, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that exports a stage and returns the folder."""

    def call(stage: str, *arguments: str) -> Path:
        folder = tmp_path / "out" / stage
        said = posttrain("export", "tiny.yaml", stage, str(folder), *arguments)
        assert said.code == 0, said
        assert not said.err
        return folder

    return call


def _source(made: Path, stage: str, kind: Any = "policy") -> StageInput:
    folder = (made / "runs/tiny" / stage).resolve()
    properties = json.loads((folder / ARTIFACT).read_text())["properties"]
    return StageInput(stage, kind, str(folder), properties)


def _logits(module: Any) -> torch.Tensor:
    with torch.inference_mode():
        return module.eval()(input_ids=torch.tensor([IDS[1]])).logits


def _files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def _code(folder: Path) -> str:
    found = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert found
    return found[1]


def _tampered(made: Path, runs: Path, stage: str, change: Callable[[Path, dict], None]) -> None:
    """Copy the results and change an artifact in them, its manifest with it."""
    shutil.copytree(made / "runs", runs, symlinks=True)
    folder = (runs / "tiny" / stage).resolve()
    record = read_sealed(folder / ARTIFACT)
    change(folder, record)
    record["files"] = describe_files(folder, manifest=ARTIFACT)
    write_sealed(folder / ARTIFACT, record)


def test_a_whole_model_is_loaded_by_transformers_and_stops_where_a_turn_ends(
    made: Path, export
) -> None:
    folder = export("sft")
    assert _files(folder) == {
        *("README.md", "posttrain.json", "model.safetensors", "config.json"),
        *("generation_config.json", "tokenizer.json", "tokenizer_config.json"),
        "chat_template.jinja",
    }
    policy = load_policy(_source(made, "sft"))  # first: norms of its class are fused from then on
    module = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.equal(_logits(module), _logits(policy))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ends = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|end|>"])
    assert module.generation_config.eos_token_id == sorted(ends)
    record = json.loads((folder / "posttrain.json").read_text())
    assert (record["name"], record["kind"], record["form"]) == ("sft", "sft", "whole")
    assert {*record["files"], "posttrain.json"} == _files(folder)


def test_a_document_model_keeps_its_generation_config(made: Path, export) -> None:
    name = "generation_config.json"
    assert (export("base") / name).read_text() == (made / "runs/tiny/base" / name).read_text()


@pytest.mark.parametrize("name", EXPORTS)
def test_the_code_of_the_card_runs_in_the_folder(
    made: Path, export, monkeypatch: pytest.MonkeyPatch, capsys, name: str
) -> None:
    folder = export(name.removesuffix("_merged"), *EXPORTS[name])
    monkeypatch.chdir(folder)
    found: dict[str, Any] = {}
    exec(_code(folder), found)  # noqa: S102  it is ours
    written = capsys.readouterr().out
    if not name.startswith("rm"):
        assert written.startswith(found.get("text", "Once upon a time"))
        return
    module = load_reward_model(_source(made, name.removesuffix("_merged"), "reward_model"))
    (expected,) = scores(module, found["inputs"]["input_ids"].tolist())
    assert float(written) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("stage", "arguments"), [("rm", ()), ("rm_lora", MERGED)])
def test_a_reward_model_is_a_sequence_classifier_with_the_same_scores(
    made: Path, export, stage: str, arguments: tuple[str, ...]
) -> None:
    exported = AutoModelForSequenceClassification.from_pretrained(export(stage, *arguments))
    ours = load_reward_model(_source(made, stage, "reward_model"))
    assert scores(exported, IDS) == scores(ours, IDS)
    assert len(set(scores(exported, IDS))) == 2


def test_an_exported_adapter_can_be_the_model_of_another_recipe(
    made: Path, export, posttrain: Command, tmp_path: Path
) -> None:
    folder = export("dpo")
    described = json.loads((folder / "adapter_config.json").read_text())
    assert described["base_model_name_or_path"] == "./base"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder.rename(elsewhere / "dpo")
    shutil.copy(made / "chats.jsonl", elsewhere)
    recipe = elsewhere / "again.yaml"
    recipe.write_text(AGAIN)
    ended = run_forked(recipe, elsewhere / "runs")
    assert ended.code == 0, ended.output
    merged = load_file(elsewhere / "runs/again/merged/model.safetensors")
    expected = load_policy(_source(made, "dpo")).state_dict()
    assert all(torch.equal(merged[name], expected[name]) for name in merged)
    # Its base lies outside of any store now, and is exported with the next adapter as well.
    next_one = tmp_path / "more"
    said = posttrain(
        *("export", str(recipe), "more", str(next_one), "--runs", str(elsewhere / "runs"))
    )
    assert said.code == 0, said
    assert "base/model.safetensors" in _files(next_one)
    assert str(tmp_path) not in (next_one / "adapter_config.json").read_text()


def test_no_file_of_an_export_names_a_place_on_this_machine(made: Path, export) -> None:
    for name, arguments in EXPORTS.items():
        if name.endswith("_merged"):
            continue
        folder = export(name, *arguments)
        for path in (each for each in folder.rglob("*") if each.is_file()):
            content = path.read_bytes()
            for place in (made.name, str(Path.home()), "/tmp/"):
                assert place.encode() not in content, path
    assert "chats.jsonl" in (folder.parent / "sft/README.md").read_text()


def test_places_in_an_adopted_configuration_are_dropped(
    made: Path, posttrain: Command, tmp_path: Path
) -> None:
    def change(folder: Path, record: dict) -> None:
        for name, key in (
            ("config.json", "_name_or_path"),
            ("tokenizer_config.json", "name_or_path"),
        ):
            content = json.loads((folder / name).read_text())
            (folder / name).write_text(json.dumps({**content, key: "/home/ann/model"}))
        record["properties"] = {"form": "document", "adopted_from": "/home/ann/model"}
        record["provenance"] = {"exact": False, "because": "adopted from /home/ann/model"}

    _tampered(made, tmp_path / "runs", "base", change)
    out = tmp_path / "out"
    arguments = ("export", "tiny.yaml", "base", str(out), "--runs", str(tmp_path / "runs"))
    assert posttrain(*arguments).code == 0
    assert not [path for path in out.iterdir() if b"/home/ann" in path.read_bytes()]
    assert "Not exact: base" in (out / "README.md").read_text()


def test_an_adapter_on_a_hub_model_keeps_its_id_and_brings_no_base(
    made: Path, posttrain: Command, tmp_path: Path
) -> None:
    def change(folder: Path, record: dict) -> None:
        described = json.loads((folder / "adapter_config.json").read_text())
        described |= {"base_model_name_or_path": "ann/small", "revision": "0a1b2c"}
        (folder / "adapter_config.json").write_text(json.dumps(described))
        del record["properties"]["base_artifact"]

    _tampered(made, tmp_path / "runs", "lora", change)
    out = tmp_path / "out"
    arguments = ("export", "tiny.yaml", "lora", str(out), "--runs", str(tmp_path / "runs"))
    assert posttrain(*arguments).code == 0
    described = json.loads((out / "adapter_config.json").read_text())
    assert (described["base_model_name_or_path"], described["revision"]) == ("ann/small", "0a1b2c")
    assert not (out / "base").exists()
    assert 'from_pretrained("ann/small", revision="0a1b2c")' in _code(out)
    assert "base_model: ann/small" in (out / "README.md").read_text()


def test_another_template_than_it_was_trained_with_is_refused(
    made: Path, posttrain: Command, tmp_path: Path
) -> None:
    def change(folder: Path, record: dict) -> None:
        path = folder / "chat_template.jinja"
        path.write_text(path.read_text() + "{# more #}")

    _tampered(made, tmp_path / "runs", "sft", change)
    out = tmp_path / "out"
    said = posttrain("export", "tiny.yaml", "sft", str(out), "--runs", str(tmp_path / "runs"))
    assert said.code == 4
    assert "its chat template is not what it was trained with" in said.err
    assert _names(tmp_path) == ["runs"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("later", "out"), "`later` has not run yet; run `posttrain run tiny.yaml --until later`"),
        (("tokenizer", "out"), "`tokenizer` makes no model (tokenizer)"),
        (("compare", "out"), "`compare` makes no model (comparison)"),
        (("stf", "out"), "there is no stage `stf`; did you mean `sft`?"),
        (("sft", "out", "--adapter"), "`sft` is a whole model: it has no adapter"),
        (("sft", "runs/store/new"), "lies in the store"),
        (("sft", "runs/tiny/sft/new"), "lies in the store"),
        (("sft", "runs"), "is not empty, and no export wrote it"),
        (("sft", "runs", "--force"), "is not empty, and no export wrote it"),
        (("sft", "tiny.yaml"), "is there, and is no folder"),
        (("sft", "tiny.yaml/new"), "cannot be written: `"),
        (("rm", "out", "--gguf", "f16"), "`rm` is a reward model, and a GGUF here is a language"),
        (("sft", "out", "--private"), "--private: has a meaning with --push only"),
        (("sft", "out", "--push", "name"), "--push: `name` has no owner; write OWNER/NAME"),
        (("sft", "out", "--push", "a b/c"), "--push: `a b/c` is no name on the hub"),
        (("sft", "out", "--set", "stages.sft.batch_size=4"), "(batch_size: 8 -> 4)"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_a_line(
    made: Path, posttrain: Command, arguments: tuple[str, ...], words: str
) -> None:
    before = set(made.iterdir())
    line = the_line(posttrain("export", "tiny.yaml", *arguments))
    assert words in line, line
    assert set(made.iterdir()) == before


def test_force_replaces_an_earlier_export_and_nothing_else(
    posttrain: Command, export, tmp_path: Path
) -> None:
    folder = export("dpo")
    again = ("export", "tiny.yaml", "sft", str(folder))
    assert "holds an export already; --force replaces it" in the_line(posttrain(*again))
    (folder / "base/notes.txt").write_text("mine")
    said = the_line(posttrain(*again, "--force"))
    assert "holds `base/notes.txt`, which no export wrote" in said
    (folder / "base/notes.txt").unlink()
    assert posttrain(*again, "--force").code == 0
    assert json.loads((folder / "posttrain.json").read_text())["name"] == "sft"
    assert not (folder / "base").exists()
    assert _names(folder.parent) == ["dpo"]


def test_what_a_killed_export_left_is_taken_over(posttrain: Command, tmp_path: Path) -> None:
    left = tmp_path / ".out.partial/export"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_text("half")
    assert posttrain("export", "tiny.yaml", "sft", str(tmp_path / "out")).code == 0
    assert _names(tmp_path) == ["out"]


def test_an_export_that_was_killed_while_it_replaced_another_gives_that_one_back(
    posttrain: Command, export, tmp_path: Path
) -> None:
    folder = export("dpo")
    replaced = folder.parent / f".{folder.name}.partial/replaced"
    replaced.parent.mkdir()
    folder.rename(replaced)
    said = the_line(posttrain("export", "tiny.yaml", "sft", str(folder)))
    assert "holds an export already; --force replaces it" in said
    assert json.loads((folder / "posttrain.json").read_text())["name"] == "dpo"
    assert _names(folder.parent) == [folder.name]


def test_two_exports_to_one_folder_do_not_meet(posttrain: Command, tmp_path: Path) -> None:
    with staging(tmp_path / "out") as beside:
        (beside / "other.txt").write_text("of the other process")
        said = the_line(posttrain("export", "tiny.yaml", "sft", str(tmp_path / "out")))
        assert "another process is writing it" in said
        assert (beside / "other.txt").exists()


def test_a_full_disk_leaves_no_folder(
    posttrain: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    said = posttrain("export", "tiny.yaml", "sft", str(tmp_path / "out"))
    assert (said.code, "the disk is full; make room" in said.err) == (3, True)
    assert _names(tmp_path) == []


def test_push_uploads_what_was_written_and_the_card_says_where_it_is(
    posttrain: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub()
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    out = tmp_path / "out"
    said = posttrain(*("export", "tiny.yaml", "sft", str(out), "--push", "ann/mine", "--private"))
    assert said.code == 0, said.err
    assert hub.calls == [("create", "ann/mine True"), ("upload", "ann/mine")]
    assert hub.uploaded == _files(out)
    assert re.fullmatch(r"posttrain export: sft [0-9a-f]{16}", hub.message)
    assert "https://huggingface.co/ann/mine" in said.out
    assert "hf download ann/mine" in (out / "README.md").read_text()
